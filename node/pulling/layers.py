"""The file of a shard while it is fetched: made from the manifest, filled with blocks from wherever they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hypercluster.node.pulling.filling import Block, Filling
from hypercluster.node.shards import Manifest, ManifestMismatch, check_shard
from hypercluster.node.shards.blocks import BLOCK, HASH, block_count
from hypercluster.node.shards.errors import FetchFailed
from hypercluster.node.shards.planning import Plan, plan
from hypercluster.node.shards.slicing import filling as filled
from hypercluster.node.shards.store import shard_name
from hypercluster.node.shards.validate import shard_metadata
from hypercluster.node.shards.writing import Part, Progress, laid_out


@dataclass(frozen=True, slots=True)
class Run:
    """Blocks of one tensor of the model that follow each other: numbers of blocks of the filling, from `first` on."""

    tensor: str
    first: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Layers:
    """The shard of layers [start, stop) of a manifest's model, to be fetched into a folder. Raises InvalidRange."""

    manifest: Manifest
    start: int
    stop: int
    folder: Path

    @property
    def path(self) -> Path:
        """Where the shard will be."""
        return self.folder / shard_name(self.start, self.stop)

    @property
    def copied(self) -> int:
        """Bytes that come from the model."""
        return self._plan.copied

    @cached_property
    def _plan(self) -> Plan:
        return plan(self.manifest.blueprint, self.start, self.stop)

    def sources(self) -> list[str]:
        """The tensors of the model that it needs, each once."""
        return list(dict.fromkeys(piece.source for piece in self._plan.pieces if piece.source is not None))

    def filling(self, hashes: Mapping[str, bytes] | None) -> tuple[Filling, list[tuple[str, int]]]:
        """The file to be filled, and for each of its blocks the tensor of the model and the number of the block in it.

        `hashes` are those of all blocks of each tensor, compared with the manifest; without them no block is checked
        before all are there. Raises FetchFailed.
        """
        pieces = self._plan.pieces
        header, offsets, size = laid_out(
            shard_metadata(self._plan, self.manifest.model_id, self.start, self.stop),
            [Part(p.name, p.row.type, p.row.shape, tuple) for p in pieces],
        )
        blocks: list[Block] = []
        origins: list[tuple[str, int]] = []
        given = [(0, header)]
        for piece, offset in zip(pieces, offsets, strict=True):
            if piece.source is None:
                if piece.fill:  # what is not written is zero
                    given.append((offset, b"".join(filled(piece))))
                continue
            line = None if hashes is None else hashes[piece.source]
            for number in range(block_count(piece.row.size)):
                at = number * BLOCK
                digest = None if line is None else line[HASH * number : HASH * (number + 1)]
                blocks.append(Block(offset + at, min(BLOCK, piece.row.size - at), digest))
                origins.append((piece.source, number))
        return Filling(self.path, size, blocks, of=self.manifest.model_id, given=given), origins

    def finish(self, filling: Filling, progress: Progress | None = None) -> Path:
        """Give the shard its name and check it as a whole. Raises ShardError, FetchFailed."""
        path = filling.finish()
        try:
            check_shard(path, self.manifest, self.start, self.stop, progress=progress)
        except ManifestMismatch as error:
            path.unlink(missing_ok=True)
            raise FetchFailed(f"{error} It is thrown away: fetch it again, and look at your disk.") from error
        return path


def runs(filling: Filling, origins: list[tuple[str, int]], most: int) -> Iterator[Run]:
    """What is missing, in runs of `most` blocks at most."""
    run: list[int] = []
    for index in filling.missing():
        follows = run and index == run[-1] + 1 and origins[index][0] == origins[run[0]][0]
        if run and (not follows or len(run) == most):
            yield Run(*origins[run[0]], tuple(run))
            run = []
        run.append(index)
    if run:
        yield Run(*origins[run[0]], tuple(run))
