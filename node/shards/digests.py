"""The digests of a model file's parts: made for its manifest, and compared with one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from hypercluster.node.shards.blocks import (
    BLOCK,
    BlockHashes,
    block_count,
    block_hash,
    blocks_in,
    read_block,
    tensor_root,
)
from hypercluster.node.shards.container import Container, Tensor
from hypercluster.node.shards.errors import ManifestMismatch
from hypercluster.node.shards.lines import line_of
from hypercluster.node.shards.manifest import Manifest, digest_of
from hypercluster.node.shards.model import ModelFile, Tensors, check_source
from hypercluster.node.shards.traits import traits_of
from hypercluster.node.shards.values import metadata_digest, values_of
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
    return digest(model, progress)[0]


def digest(model: ModelFile, progress: Progress | None = None) -> tuple[Manifest, BlockHashes]:
    """The same, and the hashes of all blocks."""
    hasher = Hasher(model.file, progress)
    hasher.hash(held(model))
    lines = {part: hasher.lines(tensors) for part, tensors in parts_of(model).items()}
    template = model.file.scalar("tokenizer.chat_template")
    values = values_of(model.file)
    manifest = Manifest(
        architecture=model.blueprint.architecture,
        layers=model.blueprint.layers,
        n_embd=model.blueprint.n_embd,
        n_vocab=model.blueprint.n_vocab,
        context=model.blueprint.context,
        quantisation=_quantisation(model),
        tied=model.tied,
        chat_template=template if isinstance(template, str) else None,
        tokenizer=tokenizer_digest(model.file),
        metadata=metadata_digest(values),
        **asdict(traits_of(model)),
        shared=digest_of(lines["shared"]),
        embedding=digest_of(lines["embedding"]),
        blocks=tuple(digest_of(lines[str(index)]) for index in range(model.blueprint.layers)),
        head=digest_of(lines["head"]),
        lines=lines,
        values=values,
    )
    return manifest, hasher.named(manifest.model_id, held(model))


def verify_tensors(hasher: Hasher, here: Tensors, manifest: Manifest) -> BlockHashes:
    """Compare tensors with the manifest, by their names in the model; the hashes of their blocks.

    Raises ManifestMismatch naming what differs.
    """
    hasher.hash(here)
    differing: dict[str, list[str]] = {}
    for name, tensor in sorted(here.items()):
        line = manifest.tensors.get(name)
        said = None if line is None else (line.type, line.shape, line.root)
        if said != (tensor.type, tensor.shape, hasher.root(tensor)):
            differing.setdefault(line.part if line else "shared", []).append(name)
    for part, names in differing.items():
        what = f"layer {part}" if part.isdigit() else _PARTS[part]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise ManifestMismatch(f"{hasher.file.path}: {what} differs from the manifest in {shown}.")
    return hasher.named(manifest.model_id, here)


def parts_of(model: ModelFile) -> dict[str, Tensors]:
    """The parts of a model by their names in a manifest."""
    layers = {str(number): tensors for number, tensors in enumerate(model.layers)}
    return {"shared": model.shared, "embedding": model.embedding, **layers, "head": model.head}


def held(model: ModelFile) -> Tensors:
    """All tensors of a model by their names in it, layers that only look ahead left out."""
    return {
        f"blk.{part}.{name}" if part.isdigit() else name: tensor
        for part, tensors in parts_of(model).items()
        for name, tensor in tensors.items()
    }


class Hasher:
    """Hashes tensors of one file by blocks, each once. `progress` is called from several threads."""

    def __init__(self, file: Container, progress: Progress | None = None) -> None:
        self.file = file
        self.progress = progress
        self.known: dict[tuple[Path, int], bytes] = {}
        """block hashes, one after the other, by the place of the tensor"""

    def lines(self, tensors: Tensors) -> tuple[str, ...]:
        """A line per tensor, by name."""
        return tuple(line_of(name, tensor, self.root(tensor)) for name, tensor in sorted(tensors.items()))

    def hash(self, tensors: Tensors) -> None:
        """Hash several tensors at a time, which disks deliver faster than one core hashes."""
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(self.blocks, tensors.values()):
                pass

    def root(self, tensor: Tensor) -> str:
        """The root over a tensor's blocks, in hex."""
        return tensor_root(self.blocks(tensor))

    def blocks(self, tensor: Tensor) -> bytes:
        """The hashes of a tensor's blocks, one after the other."""
        place = tensor.path, tensor.offset
        if place not in self.known:
            self.known[place] = b"".join(self._block_hashes(tensor))
        return self.known[place]

    def named(self, model_id: str, tensors: Tensors) -> BlockHashes:
        """The block hashes of tensors under these names."""
        return BlockHashes(model_id, {name: self.blocks(tensor) for name, tensor in tensors.items()})

    def _block_hashes(self, tensor: Tensor) -> Iterator[bytes]:
        buffer = bytearray(min(BLOCK, tensor.size))  # one for all: new memory costs half as much as hashing
        with tensor.path.open("rb", buffering=0) as file:
            for index in range(block_count(tensor.size)):
                block = read_block(tensor, index, buffer, file)
                yield block_hash(block)
                if self.progress is not None:
                    self.progress(len(block))

    def chunks(self, tensor: Tensor) -> Iterator[bytes]:
        """The tensor's bytes; whoever reads to the end has them hashed on the way."""
        hashes: list[bytes] = []
        for chunk in self.file.chunks(tensor):
            hashes += map(block_hash, blocks_in(chunk))
            yield chunk
        self.known[tensor.path, tensor.offset] = b"".join(hashes)


def _quantisation(model: ModelFile) -> str:
    sizes: dict[str, int] = {}
    for layer in model.layers:
        for tensor in layer.values():
            if len(tensor.shape) > 1:
                sizes[tensor.type.name] = sizes.get(tensor.type.name, 0) + tensor.size
    return max(sorted(sizes), key=sizes.__getitem__, default="F32")
