"""A model file or shard, checked and taken apart into shared tensors, embedding, layers and head.

Everything here happens before llama.cpp sees a file: llama.cpp aborts the process on some of what is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hypercluster.node.shards.architectures import (
    Architecture,
    Hyperparameters,
    Kind,
    Spec,
    Specs,
    architecture_of,
)
from hypercluster.node.shards.blueprint import Blueprint, blueprint_of
from hypercluster.node.shards.container import Container, Tensor
from hypercluster.node.shards.errors import InvalidTensor
from hypercluster.node.shards.hyperparameters import hyperparameters
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.vocabulary import check_tokenizer

PLACEHOLDER_VOCABULARY = 32  # rows of the embedding that a middle shard needs to load but never uses
_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.(.+)")

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class ModelFile:
    """The checked parts of a model file ([0, m)) or of a shard ([start, stop)).

    Tensor names inside a layer leave out `blk.N.`. `embedding` is empty where start > 0 and `head` is empty
    where the last layer is missing. `head` always names the output matrix `output.weight`, also where it lies
    in the file as `token_embd.weight`; `tied` tells that it is the embedding itself. `placeholders` are the
    zeros that llama.cpp wants of a shard without embedding or head.
    """

    file: Container
    rules: Architecture
    h: Hyperparameters
    tied: bool
    shared: Tensors
    embedding: Tensors
    layers: tuple[Tensors, ...]
    head: Tensors
    placeholders: Tensors

    @cached_property
    def blueprint(self) -> Blueprint:
        """The file without its weights."""
        return blueprint_of(self.file)

    @property
    def data_bytes(self) -> int:
        """Bytes of tensor data in the file."""
        return sum(tensor.size for tensor in self.file.tensors.values())


def check_source(path: Path) -> ModelFile:
    """Read and check a whole model: a file, or any piece of one that was split into several.

    Raises MalformedFile, UnsupportedModel or InvalidTensor, each with one sentence; never more than the
    file's header is read.
    """
    file = read_container(path)
    rules = architecture_of(file)
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise InvalidTensor(f"{path} has no token embedding (token_embd.weight), so it is no whole model.")
    check_tokenizer(file, rules.name, table.shape[1])
    return take_apart(file, rules, hyperparameters(file, rules, table.shape[1]), first=True, last=True)


def take_apart(
    file: Container, rules: Architecture, h: Hyperparameters, *, first: bool, last: bool
) -> ModelFile:
    """Check every tensor against the architecture and sort them into parts.

    `h` describes the file as it lies there (its own number of layers and tokens). Raises InvalidTensor.
    """
    layers: tuple[Tensors, ...] = tuple({} for _ in range(h.layers))
    others: Tensors = {}
    for name, tensor in file.tensors.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            others[name] = tensor
        elif int(match[1]) < h.layers:
            layers[int(match[1])][match[2]] = tensor
        else:
            raise InvalidTensor(
                f"{file.path}: tensor {name!r} lies beyond the {h.layers} layers of the file."
            )
    for index, tensors in enumerate(layers):
        _compare(file, tensors, rules.layer(h, index, frozenset(tensors)), f"blk.{index}.")
    outer = rules.embedding(h) | rules.head(h)
    if not (first and last):
        outer.pop("output.weight", None)
    if not last:
        outer.pop("output.bias", None)
    shared = rules.shared(h)
    _compare(file, others, shared | outer, "")

    tied = "output.weight" not in others
    embedding = {name: others[name] for name in rules.embedding(h)} if first else {}
    head = {name: others[name] for name in rules.head(h) if name in others} if last else {}
    if last and tied:
        head["output.weight"] = others["token_embd.weight"]
    used = shared.keys() | embedding.keys() | head.keys() | ({"token_embd.weight"} if last else set())
    return ModelFile(
        file=file,
        rules=rules,
        h=h,
        tied=tied,
        shared={name: tensor for name, tensor in others.items() if name in shared},
        embedding=embedding,
        layers=layers,
        head=head,
        placeholders={name: tensor for name, tensor in others.items() if name not in used},
    )


def _compare(file: Container, tensors: Tensors, specs: Specs, prefix: str) -> None:
    for name, spec in specs.items():
        if name in tensors:
            _check(file, tensors[name], spec)
        elif spec.required:
            raise InvalidTensor(f"{file.path}: the tensor {prefix}{name} is missing.")
    for name in tensors.keys() - specs.keys():
        raise InvalidTensor(
            f"{file.path}: the tensor {prefix + name!r} does not belong to this architecture."
        )


def _check(file: Container, tensor: Tensor, spec: Spec) -> None:
    if tensor.shape != spec.shape:
        raise InvalidTensor(
            f"{file.path}: tensor {tensor.name} has the shape {list(tensor.shape)} "
            f"instead of {list(spec.shape)}."
        )
    if tensor.type not in spec.kind.value:
        wanted = "f32" if spec.kind is Kind.VECTOR else "a type that llama.cpp can multiply"
        raise InvalidTensor(
            f"{file.path}: tensor {tensor.name} has the type {tensor.type.name} instead of {wanted}."
        )
