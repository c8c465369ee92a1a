"""The digests of a model file's parts: made for its manifest, and compared with one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from hypercluster.node.shards.blocks import BlockHashes, block_hash, blocks_in, tensor_root
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
    lines = {
        "shared": hasher.lines(model.shared),
        "embedding": hasher.lines(model.embedding),
        **{str(index): hasher.lines(tensors) for index, tensors in enumerate(model.layers)},
        "head": hasher.lines(_own(model.head, model.tied)),
    }
    template = model.file.scalar("tokenizer.chat_template")
    values = values_of(model.file)
    manifest = Manifest(
        architecture=model.rules.name,
        layers=model.h.layers,
        n_embd=model.h.n_embd,
        n_vocab=model.h.n_vocab,
        context=model.h.context,
        quantisation=_quantisation(model),
        tied=model.tied,
        chat_template=template if isinstance(template, str) else None,
        tokenizer=tokenizer_digest(model.file),
        metadata=metadata_digest(values),
        **asdict(traits_of(model)),
        shared=digest_of(lines["shared"]),
        embedding=digest_of(lines["embedding"]),
        blocks=tuple(digest_of(lines[str(index)]) for index in range(model.h.layers)),
        head=digest_of(lines["head"]),
        lines=lines,
        values=values,
    )
    return manifest, hasher.named(manifest.model_id, held(model))


def verify_weights(
    model: ModelFile, manifest: Manifest, start: int, progress: Progress | None = None
) -> BlockHashes:
    """Hash every tensor that the file holds and compare; the hashes of their blocks, by the model's names.

    `start` is the number in the model of the file's first layer. Raises ManifestMismatch naming what differs.
    """
    hashes = verify_parts(Hasher(model.file, progress), model, manifest, start)
    for tensor in model.placeholders.values():
        if any(chunk.count(0) != len(chunk) for chunk in model.file.chunks(tensor)):
            raise ManifestMismatch(f"{model.file.path}: the placeholder {tensor.name} is not all zeros.")
    return hashes


def verify_parts(hasher: Hasher, model: ModelFile, manifest: Manifest, start: int) -> BlockHashes:
    """Compare the tensors of `model`, whose layers are those from `start` on. Raises ManifestMismatch."""
    here = held(replace(model, tied=manifest.tied), start)
    hasher.hash(here)
    parts = {"shared", *map(str, range(start, start + len(model.layers)))}
    parts |= {"embedding"} if model.embedding else set()
    parts |= {"head"} if model.head else set()
    wanted = {name for name, line in manifest.tensors.items() if line.part in parts}
    differing: dict[str, list[str]] = {}
    for name in sorted(wanted | here.keys()):
        line, tensor = manifest.tensors.get(name), here.get(name)
        said = None if line is None else (line.type, line.shape, line.root)
        if said != (None if tensor is None else (tensor.type, tensor.shape, hasher.root(tensor))):
            differing.setdefault(line.part if line else _part(name), []).append(name)
    for part, names in differing.items():
        what = f"layer {part}" if part.isdigit() else _PARTS[part]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise ManifestMismatch(f"{model.file.path}: {what} differs from the manifest in {shown}.")
    return hasher.named(manifest.model_id, here)


def held(model: ModelFile, start: int = 0) -> Tensors:
    """The tensors of a file, placeholders left out, by their names in the whole model.

    `start` is the number in the model of the file's first layer.
    """
    layers = [
        {f"blk.{index}.{name}": tensor for name, tensor in tensors.items()}
        for index, tensors in enumerate(model.layers, start)
    ]
    head = _own(model.head, model.tied)
    embedding = dict(model.embedding)
    if model.tied and model.head:
        embedding["token_embd.weight"] = model.head["output.weight"]
    return {
        name: tensor for part in (model.shared, embedding, *layers, head) for name, tensor in part.items()
    }


def _own(head: Tensors, tied: bool) -> Tensors:
    """The head's tensors but the embedding itself."""
    return {name: tensor for name, tensor in head.items() if not (tied and name == "output.weight")}


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
            for chunk in self.chunks(tensor):
                if self.progress is not None:
                    self.progress(len(chunk))
        return self.known[place]

    def named(self, model_id: str, tensors: Tensors) -> BlockHashes:
        """The block hashes of tensors under these names."""
        return BlockHashes(model_id, {name: self.blocks(tensor) for name, tensor in tensors.items()})

    def chunks(self, tensor: Tensor) -> Iterator[bytes]:
        """The tensor's bytes; whoever reads to the end has them hashed on the way."""
        hashes: list[bytes] = []
        for chunk in self.file.chunks(tensor):
            hashes += map(block_hash, blocks_in(chunk))
            yield chunk
        self.known[tensor.path, tensor.offset] = b"".join(hashes)


def _part(name: str) -> str:
    """The part of a tensor that the manifest does not know."""
    layer = name.split(".")[1] if name.startswith("blk.") else ""
    return layer if layer.isdigit() else "shared"


def _quantisation(model: ModelFile) -> str:
    sizes: dict[str, int] = {}
    for layer in model.layers:
        for tensor in layer.values():
            if len(tensor.shape) > 1:
                sizes[tensor.type.name] = sizes.get(tensor.type.name, 0) + tensor.size
    return max(sorted(sizes), key=sizes.__getitem__, default="F32")
