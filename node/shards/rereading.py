"""Reading a shard again while it is served: a disk that rots, or a file that somebody changes, is found by samples."""

from __future__ import annotations

import random
from pathlib import Path

from hypercluster.node.shards.blocks import BlockHashes, block_count, checked_hashes, read_block, verify_block
from hypercluster.node.shards.container import Tensor
from hypercluster.node.shards.digests import Hasher
from hypercluster.node.shards.errors import ManifestError, ManifestMismatch
from hypercluster.node.shards.filler import check_filler
from hypercluster.node.shards.manifest import Manifest
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.planning import plan
from hypercluster.node.shards.validate import check_shard

_drawn = random.SystemRandom()


class Rereading:
    """Compares samples of the shard of layers [start, stop), which was checked when it was loaded, with the manifest.

    `hashes` are those of the whole model, where they are at hand; those of a tensor are else learned when it is first
    read, from all of it.
    """

    def __init__(
        self, path: Path, manifest: Manifest, start: int, stop: int, hashes: BlockHashes | None = None
    ) -> None:
        self._path, self._manifest, self._range = path, manifest, (start, stop)
        self._known: dict[str, bytes] = {} if hashes is None else dict(hashes.tensors)
        self._pieces = plan(manifest.blueprint, start, stop).pieces
        self._weights = [block_count(piece.row.size) for piece in self._pieces]

    def look(self, blocks: int) -> None:
        """Read the header and some blocks again. Raises MalformedFile, ManifestMismatch."""
        check_shard(self._path, self._manifest, *self._range, verify=False)
        file = read_container(self._path)
        learned = False
        for piece in _drawn.choices(self._pieces, self._weights, k=blocks):
            tensor = file.tensors[piece.name]
            if piece.source is None:
                check_filler(tensor, piece.fill)
            elif piece.source in self._known:
                self._read(tensor, piece.source)
            elif not learned:
                self._known[piece.source] = self._learn(Hasher(file).blocks(tensor), piece.source)
                learned = True

    def _learn(self, hashes: bytes, source: str) -> bytes:
        try:
            return checked_hashes(self._manifest, source, hashes)
        except ManifestError as error:
            raise ManifestMismatch(
                f"{self._path}: {source} is not, or no longer, what the manifest says."
            ) from error

    def _read(self, tensor: Tensor, source: str) -> None:
        index = _drawn.randrange(block_count(tensor.size))
        hashes = BlockHashes(self._manifest.model_id, self._known)
        verify_block(hashes, source, index, read_block(tensor, index), str(self._path))
