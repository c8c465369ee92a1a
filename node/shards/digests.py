"""The digests of a model file's parts: made for its manifest, and compared with one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hypercluster.node.shards.architectures import Kind
from hypercluster.node.shards.container import Container, Tensor
from hypercluster.node.shards.errors import ManifestMismatch
from hypercluster.node.shards.hyperparameters import LAYER_KEYS, SCALAR_KEYS
from hypercluster.node.shards.manifest import Manifest, digest_of
from hypercluster.node.shards.model import ModelFile, Tensors, check_source
from hypercluster.node.shards.vocabulary import tokenizer_digest
from hypercluster.node.shards.writing import Progress

THREADS = 4
_PARTS = {"shared": "what all layers share", "embedding": "the embedding", "head": "the head"}


def build_manifest(source: Path, progress: Progress | None = None) -> Manifest:
    """Check a whole model file and hash all of it.

    `progress` is called with the number of bytes just hashed, `check_source(source).data_bytes` in total.
    Raises MalformedFile, UnsupportedModel, InvalidTensor.
    """
    return manifest_of(check_source(source), progress)


def manifest_of(model: ModelFile, progress: Progress | None = None) -> Manifest:
    """The manifest of a checked whole model; see build_manifest."""
    hasher = Hasher(model.file, progress)
    lines = {key: tuple(part) for key, part in hasher.parts(model)}
    template = model.file.scalar("tokenizer.chat_template")
    return Manifest(
        architecture=model.rules.name,
        layers=model.h.layers,
        n_embd=model.h.n_embd,
        n_vocab=model.h.n_vocab,
        context=model.h.context,
        quantisation=_quantisation(model),
        tied=model.tied,
        chat_template=template if isinstance(template, str) else None,
        tokenizer=tokenizer_digest(model.file),
        hyperparameters=hyperparameter_digest(model),
        shared=digest_of(lines["shared"]),
        embedding=digest_of(lines["embedding"]),
        blocks=tuple(digest_of(lines[str(index)]) for index in range(model.h.layers)),
        head=digest_of(lines["head"]),
        lines=lines,
    )


def verify_header(model: ModelFile, manifest: Manifest) -> None:
    """Compare everything but the weights: cheap. Raises ManifestMismatch."""
    here = (model.rules.name, model.h.n_embd, model.h.context, hyperparameter_digest(model))
    if here != (manifest.architecture, manifest.n_embd, manifest.context, manifest.hyperparameters):
        raise ManifestMismatch(f"{model.file.path} has other hyper-parameters than the manifest says.")


def verify_weights(
    model: ModelFile, manifest: Manifest, start: int, progress: Progress | None = None
) -> None:
    """Hash every part that the file holds and compare. Raises ManifestMismatch naming the first that differs.

    `start` is the number in the model of the file's first layer.
    """
    verify_parts(Hasher(model.file, progress), model, manifest, start)
    for tensor in model.placeholders.values():
        if any(chunk.count(0) != len(chunk) for chunk in model.file.chunks(tensor)):
            raise ManifestMismatch(f"{model.file.path}: the placeholder {tensor.name} is not all zeros.")


def verify_parts(hasher: Hasher, model: ModelFile, manifest: Manifest, start: int) -> None:
    """Compare the parts that `model` holds, whose layers are those from `start` on. Raises ManifestMismatch."""
    digests = manifest.digests()
    for key, lines in hasher.parts(model, start):
        held = (key != "embedding" or model.embedding) and (key != "head" or model.head)
        if held and digest_of(lines) != digests[key]:
            raise ManifestMismatch(f"{model.file.path}: {_difference(key, lines, manifest)}.")


def _difference(key: str, lines: list[str], manifest: Manifest) -> str:
    """Which part differs, and which tensors of it where the manifest lists them."""
    what = f"layer {key}" if key.isdigit() else _PARTS[key]
    if manifest.lines is None:
        return f"{what} differs from the manifest"
    names = sorted({line.split(" ", 1)[0] for line in {*lines} ^ {*manifest.lines[key]}})
    prefix = f"blk.{key}." if key.isdigit() else ""
    shown = ", ".join(prefix + name for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{what} differs from the manifest in {shown}"


def hyperparameter_digest(model: ModelFile) -> str:
    """Digest of the numbers that hold for all layers and steer the computation."""
    digest = hashlib.sha256()
    for key in sorted(SCALAR_KEYS):
        value = model.file.scalar(f"{model.rules.name}.{key}")
        if value is not None:
            shown = value.hex() if isinstance(value, float) else json.dumps(value)
            digest.update(f"{key} {shown}\n".encode())
    return digest.hexdigest()


class Hasher:
    """Hashes parts of one file, each tensor once. `progress` is called from several threads."""

    def __init__(self, file: Container, progress: Progress | None = None) -> None:
        self.file = file
        self.progress = progress
        self.known: dict[tuple[Path, int], str] = {}

    def parts(self, model: ModelFile, start: int = 0) -> Iterator[tuple[str, list[str]]]:
        """Name and lines of each part; the model's first layer is number `start`.

        A layer's heads, key-value heads and feed-forward width come before its tensors.
        """
        self._hash(model.shared, model.embedding, *model.layers, model.head)
        yield "shared", self.lines(model.shared)
        yield "embedding", self.lines(model.embedding)
        for index, tensors in enumerate(model.layers):
            numbers = (model.h.heads[index], model.h.kv_heads[index], model.h.feed_forward[index])
            told = [f"{key} {number}" for key, number in zip(LAYER_KEYS, numbers, strict=True)]
            yield str(start + index), told + self.lines(tensors)
        yield "head", self.lines(model.head)

    def lines(self, tensors: Tensors) -> list[str]:
        """A line per tensor, by name."""
        return [
            f"{name} {tensor.type.name} {'x'.join(map(str, tensor.shape))} {self.tensor(tensor)}"
            for name, tensor in sorted(tensors.items())
        ]

    def _hash(self, *parts: Tensors) -> None:
        """Hash several tensors at a time, which disks deliver faster than one core hashes."""
        different = {(tensor.path, tensor.offset): tensor for part in parts for tensor in part.values()}
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(self.tensor, different.values()):
                pass

    def tensor(self, tensor: Tensor) -> str:
        """SHA-256 of a tensor's bytes."""
        place = tensor.path, tensor.offset
        if place not in self.known:
            for chunk in self.chunks(tensor):
                if self.progress is not None:
                    self.progress(len(chunk))
        return self.known[place]

    def chunks(self, tensor: Tensor) -> Iterator[bytes]:
        """The tensor's bytes; whoever reads to the end has them hashed on the way."""
        digest = hashlib.sha256()
        for chunk in self.file.chunks(tensor):
            digest.update(chunk)
            yield chunk
        self.known[tensor.path, tensor.offset] = digest.hexdigest()


def _quantisation(model: ModelFile) -> str:
    sizes: dict[str, int] = {}
    for layer in model.layers:
        for name, spec in model.rules.layer(model.h, 0, frozenset(layer)).items():
            if spec.kind is Kind.MATRIX and name in layer:
                kind = layer[name].type.name
                sizes[kind] = sizes.get(kind, 0) + layer[name].size
    return max(sorted(sizes), key=sizes.__getitem__)
