"""Cutting a model file into shards: standalone GGUF files that stock llama.cpp loads.

What a shard consists of is decided by planning.py. Shards have no vocabulary; clients get that in a file of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from hypercluster.node.shards.blueprint import Blueprint
from hypercluster.node.shards.container import CHUNK, Tensor
from hypercluster.node.shards.digests import Hasher, manifest_of, verify_tensors
from hypercluster.node.shards.errors import ManifestMismatch
from hypercluster.node.shards.manifest import Manifest
from hypercluster.node.shards.model import ModelFile, check_source
from hypercluster.node.shards.planning import Piece, Plan, plan
from hypercluster.node.shards.validate import check_shard, shard_metadata
from hypercluster.node.shards.values import metadata_digest, values_of
from hypercluster.node.shards.writing import Part, Progress, replacing, write_parts

_ONE = struct.pack("<f", 1.0)


def split(
    source: Path,
    start: int,
    stop: int,
    dest: Path,
    *,
    manifest: Manifest | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write layers [start, stop) of the model file `source` to `dest` and return it.

    Streams: memory stays at a few MiB whatever the size of the model. Without `manifest` the whole source is
    hashed first. The file appears under its name only when what was read and what was written both are what
    the manifest says. `progress` is called with the number of bytes just written, then with those just
    checked: twice `shard_bytes` in total.
    Raises InvalidRange, ManifestMismatch, MalformedFile, UnsupportedModel, InvalidTensor,
    WriteFailed.
    """
    model = check_source(source)
    shard = plan(model.blueprint, start, stop)
    if manifest is None:
        manifest = manifest_of(model)
    hasher = Hasher(model.file)
    with replacing(dest) as file:
        try:
            if metadata_digest(values_of(model.file)) != manifest.metadata:
                raise ManifestMismatch(f"{source} has other metadata than the manifest says.")
            parts = [_part(piece, model, hasher) for piece in shard.pieces]
            write_parts(file, shard_metadata(shard, manifest.model_id, start, stop), parts, progress)
            verify_tensors(hasher, _copied(shard, model), manifest)
        except ManifestMismatch as error:
            raise ManifestMismatch(
                f"{error} It is not, or no longer, the model {manifest.model_id}: fetch it again. "
                "If it was changed on purpose, give it another name or date, and it is hashed anew."
            ) from error
        file.flush()
        check_shard(Path(file.name), manifest, start, stop, progress=progress)
    return dest


def shard_bytes(model: ModelFile | Blueprint, start: int, stop: int) -> int:
    """Bytes of the shard of layers [start, stop) that come from the model: what it takes on a disk and in memory.

    Raises InvalidRange, UnsupportedModel.
    """
    return plan(model if isinstance(model, Blueprint) else model.blueprint, start, stop).copied


def filling(piece: Piece) -> Iterator[bytes]:
    """The bytes of a piece that copies nothing, at most CHUNK at once."""
    unit = _ONE if piece.fill else bytes(4)
    for at in range(0, piece.row.size, CHUNK):
        size = min(CHUNK, piece.row.size - at)
        yield (unit * (-(-size // 4)))[:size]


def _part(piece: Piece, model: ModelFile, hasher: Hasher) -> Part:
    """What to write; whoever reads a copy through it has it hashed on the way."""
    if piece.source is not None:
        return _of(piece, partial(hasher.chunks, model.file.tensors[piece.source]))
    return _of(piece, partial(filling, piece) if piece.fill else None)


def _of(piece: Piece, chunks: partial[Iterator[bytes]] | None) -> Part:
    return Part(piece.name, piece.row.type, piece.row.shape, chunks)


def _copied(shard: Plan, model: ModelFile) -> dict[str, Tensor]:
    return {
        piece.source: model.file.tensors[piece.source] for piece in shard.pieces if piece.source is not None
    }
