"""A model file, checked and taken apart into shared tensors, embedding, layers and head.

What is checked here keeps the numbers within bounds; whether all of a model's tensors are there and fit, llama.cpp says
itself, in a process of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.shards.blueprint import MAX_VOCABULARY, Blueprint, blueprint_of
from hypercluster.node.shards.container import Container, Tensor
from hypercluster.node.shards.errors import InvalidTensor, UnsupportedModel
from hypercluster.node.shards.lines import NAME
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.planning import LAYER, is_head
from hypercluster.node.shards.rules import EMBEDDING
from hypercluster.node.shards.vocabulary import check_tokenizer

# What ggml can multiply with activations on a CPU (type_traits_cpu with a vec_dot) and also read rows of.
MATRIX_TYPES = frozenset(
    {Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q1_0}
    | {Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.TQ1_0, Type.TQ2_0, Type.MXFP4, Type.NVFP4}
    | {Type.IQ1_S, Type.IQ1_M, Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS, Type.IQ3_S}
    | {Type.IQ4_NL, Type.IQ4_XS}
)
TABLE_TYPES = MATRIX_TYPES | {Type.I32}  # numbers of experts, by token
VECTOR_TYPES = frozenset(
    {Type.F32, Type.I32}
)  # norms, biases and scales enter element-wise operations with f32

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class ModelFile:
    """The checked parts of a whole model, layers [0, m).

    Tensor names inside a layer leave out `blk.N.`. Layers that only look ahead (MTP) are left out. The head of a tied
    model has no matrix of its own, which is `token_embd.weight`.
    """

    file: Container
    blueprint: Blueprint
    shared: Tensors
    embedding: Tensors
    layers: tuple[Tensors, ...]
    head: Tensors

    @property
    def tied(self) -> bool:
        """Whether the embedding is the output matrix as well."""
        return self.blueprint.tied

    @property
    def last(self) -> Tensors:
        """What the last shard needs besides its layers: the head, and the embedding where it is the matrix of both."""
        name = "token_embd.weight"
        return self.head | ({name: self.embedding[name]} if self.tied else {})

    @property
    def data_bytes(self) -> int:
        """Bytes of the tensors that a shard may need."""
        parts = (self.shared, self.embedding, *self.layers, self.head)
        return sum(tensor.size for part in parts for tensor in part.values())


def check_source(path: Path) -> ModelFile:
    """Read and check a whole model: a file, or any piece of one that was split into several.

    Raises MalformedFile, UnsupportedModel or InvalidTensor, each with one sentence; never more than the
    file's header is read.
    """
    file = read_container(path)
    model = blueprint_of(file)
    try:
        _check_numbers(file, model)
        check_tokenizer(file, model.architecture, model.n_vocab)
        return _take_apart(file, model)
    except UnsupportedModel as error:
        raise error if str(path) in str(error) else UnsupportedModel(f"{path}: {error}") from error


def _check_numbers(file: Container, model: Blueprint) -> None:
    """Within bounds, by reading them once. Raises UnsupportedModel, InvalidTensor."""
    _ = model.rule, model.layers, model.context
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise InvalidTensor(
            f"{file.path} has no token embedding (token_embd.weight), so it is no whole model."
        )
    if table.shape[0] != model.n_embd or table.shape[1] > MAX_VOCABULARY:
        raise InvalidTensor(
            f"{file.path}: tensor token_embd.weight has the shape {list(table.shape)} where "
            f"{model.architecture}.embedding_length is {model.n_embd}."
        )
    for key in model.keys:
        value = model.value(key)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, float) and not math.isfinite(each):
                raise UnsupportedModel(f"{file.path}: {key} is {each}; a finite number is needed.")
    if model.value("attention.causal") is False:
        raise UnsupportedModel(f"{file.path} attends to what comes after a token, which cannot be split.")


def _take_apart(file: Container, model: Blueprint) -> ModelFile:
    layers: tuple[Tensors, ...] = tuple({} for _ in range(model.blocks))
    shared: Tensors = {}
    embedding: Tensors = {}
    head: Tensors = {}
    for name, tensor in file.tensors.items():
        match = LAYER.fullmatch(name)
        if match is None and name.startswith("blk."):
            raise InvalidTensor(f"{file.path}: the tensor {name!r} names no layer.")
        if not NAME.fullmatch(name):
            raise InvalidTensor(f"{file.path}: {name!r} is no name that a tensor has.")
        _check_type(file, tensor)
        if match is None:
            part = head if is_head(model, name) else embedding if EMBEDDING.fullmatch(name) else shared
            part[name] = tensor
        elif int(match[1]) < model.blocks:
            layers[int(match[1])][match[2]] = tensor
        else:
            raise InvalidTensor(
                f"{file.path}: tensor {name!r} lies beyond the {model.blocks} layers of the file."
            )
    empty = next((number for number, tensors in enumerate(layers[: model.layers]) if not tensors), None)
    if empty is not None:
        raise InvalidTensor(f"{file.path}: all tensors of layer {empty} are missing.")
    return ModelFile(file, model, shared, embedding, layers[: model.layers], head)


def _check_type(file: Container, tensor: Tensor) -> None:
    allowed, wanted = MATRIX_TYPES, "a type that llama.cpp can multiply"
    if "tid2eid" in tensor.name:  # the experts of each token
        allowed, wanted = frozenset({Type.I32}), "i32"
    elif len(tensor.shape) == 1 or "norm" in tensor.name:
        allowed, wanted = VECTOR_TYPES, "f32"
    if tensor.type not in allowed:
        raise InvalidTensor(
            f"{file.path}: tensor {tensor.name} has the type {tensor.type.name} instead of {wanted}."
        )
