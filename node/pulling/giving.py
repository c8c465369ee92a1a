"""Giving a model to others, block by block: whatever of it lies here, for nothing, within a rate.

Who asks need not be believed nor believe: it knows the model by its id and compares every block.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from hypercluster.node.errors import ConnectionLost, NodeError
from hypercluster.node.network.direct import SecureStream
from hypercluster.node.network.host import Host
from hypercluster.node.pulling.pace import Pace
from hypercluster.node.shards import Manifest
from hypercluster.node.shards.blocks import BLOCK, BlockHashes, block_count, block_hash, read_block
from hypercluster.node.shards.container import Container, Tensor
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.planning import plan
from hypercluster.node.shards.store import MANIFEST, StoredModel
from hypercluster.node.wire.blocks import (
    BLOCKS_PROTOCOL,
    MOST_ASKED,
    MOST_PIECE,
    BlocksAnswer,
    BlocksAsked,
    Held,
    decode_asked,
    encode_blocks,
)
from hypercluster.node.wire.framing import ByteStream, Frames

log = logging.getLogger(__name__)

T = TypeVar("T")
Args = TypeVarTuple("Args")

IDLE_SECONDS = 30.0
"""that a peer may take for its next question, and for taking a block"""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What lies here of one model: each tensor of the model by its name there, wherever its bytes are.

    `ranges` are half-open ranges of layers; `vocabulary` is the file that clients tokenize with, if it is here.
    """

    manifest: Manifest
    folder: Path
    tensors: dict[str, Tensor]
    ranges: tuple[tuple[int, int], ...]
    vocabulary: Path | None
    hashes: BlockHashes | None
    """of all blocks of the model, where they are at hand"""

    def held(self) -> Held:
        """The same as peers are told it."""
        outside = [name for name in self.tensors if not name.startswith("blk.")]
        return Held(self.ranges, tuple(outside[:256]))


def shelf_of(stored: StoredModel, shards: Iterable[tuple[int, int]]) -> Shelf:
    """What of a model is on this machine: its whole file where that is here, and the shards of these ranges.

    The shards have been checked. Raises ShardError where a file cannot be read.
    """
    manifest, tensors = stored.manifest, dict[str, Tensor]()
    ranges = list(shards)
    for start, stop in ranges:
        file = read_container(stored.shard_path(start, stop))
        tensors |= dict(_copied(manifest, file, start, stop))
    if stored.source is not None:
        file = read_container(stored.source)
        tensors |= {name: each for name, each in file.tensors.items() if name in manifest.tensors}
        ranges = [(0, manifest.layers)]
    try:
        vocabulary = stored.vocabulary()
    except (NodeError, OSError):  # there is none, or none here
        vocabulary = None
    return Shelf(manifest, stored.folder, tensors, tuple(ranges), vocabulary, stored.block_hashes())


def _copied(manifest: Manifest, file: Container, start: int, stop: int) -> Iterator[tuple[str, Tensor]]:
    for piece in plan(manifest.blueprint, start, stop).pieces:
        if piece.source is not None and piece.name in file.tensors:
            yield piece.source, file.tensors[piece.name]


class Giver:
    """Answers peers that want blocks, `rate` bytes a second to all of them together."""

    def __init__(self, shelves: Iterable[Shelf], rate: float) -> None:
        self._shelves = {shelf.manifest.model_id: shelf for shelf in shelves}
        self._pace = Pace(rate)
        self._threads = trio.CapacityLimiter(2)
        self._hashes: dict[tuple[str, str], bytes] = {}
        self.given = 0
        """bytes of blocks, since the start"""

    def open_at(self, host: Host) -> Callable[[SecureStream], Awaitable[None]]:
        """Serve peers of `host`; returns the handler for those that come over a direct connection."""
        host.serve(BLOCKS_PROTOCOL, self.serve, bound="block")

        async def on_direct(stream: SecureStream) -> None:
            with host.within("block", stream.peer, stream.ip):
                await self.serve(stream)

        return on_direct

    async def serve(self, stream: ByteStream) -> None:
        """Answer one peer until it has no more questions. Raises NodeError for what a peer does."""
        asking = Frames(stream, max_frame=MOST_ASKED, frame_seconds=IDLE_SECONDS)
        answering = Frames(stream, max_frame=MOST_PIECE, frame_seconds=IDLE_SECONDS)
        while True:
            try:
                asked = decode_asked(await asking.receive(IDLE_SECONDS))
            except ConnectionLost:
                return
            shelf = self._shelves.get(asked.model)
            if shelf is None:
                await answering.send(encode_blocks(BlocksAnswer(refused="Nothing of this model is here.")))
            elif asked.what in ("hashes", "blocks"):
                await self._give(shelf, asked, answering)
            else:
                await self._tell(shelf, asked, answering)

    async def _tell(self, shelf: Shelf, asked: BlocksAsked, answering: Frames) -> None:
        if asked.what == "held":
            raw = encode_blocks(shelf.held())
        else:
            path = shelf.folder / MANIFEST if asked.what == "manifest" else shelf.vocabulary
            if path is None:
                await answering.send(encode_blocks(BlocksAnswer(refused="The vocabulary is not here.")))
                return
            raw = await self._in_thread(path.read_bytes)
        await self._send(raw, answering)

    async def _give(self, shelf: Shelf, asked: BlocksAsked, answering: Frames) -> None:
        tensor = shelf.tensors.get(asked.tensor)
        if tensor is None:
            await answering.send(encode_blocks(BlocksAnswer(refused="This tensor is not here.")))
        elif asked.what == "hashes":
            await self._send(await self._hashes_of(shelf, asked.tensor, tensor), answering)
        else:
            stop = min(block_count(tensor.size), asked.first + asked.count)
            if asked.first >= stop:
                await answering.send(encode_blocks(BlocksAnswer(refused="The tensor has no such block.")))
                return
            size = min(tensor.size, stop * BLOCK) - asked.first * BLOCK
            await answering.send(encode_blocks(BlocksAnswer(size)))
            buffer = bytearray(BLOCK)
            for index in range(asked.first, stop):
                await self._pace.take(min(BLOCK, tensor.size - index * BLOCK))
                block = await self._read(tensor, index, buffer)
                await answering.send(block)
                self.given += len(block)

    async def _read(self, tensor: Tensor, index: int, buffer: bytearray) -> memoryview:
        return await self._in_thread(read_block, tensor, index, buffer)

    async def _send(self, raw: bytes, answering: Frames) -> None:
        await answering.send(encode_blocks(BlocksAnswer(len(raw))))
        for at in range(0, len(raw), MOST_PIECE):
            piece = raw[at : at + MOST_PIECE]
            await self._pace.take(len(piece))
            await answering.send(piece)

    async def _hashes_of(self, shelf: Shelf, name: str, tensor: Tensor) -> bytes:
        """The hashes of a tensor's blocks, computed once and kept: a thirty-thousandth of the weights."""
        if shelf.hashes is not None:
            return shelf.hashes.tensors[name]
        key = shelf.manifest.model_id, name
        if key not in self._hashes:
            self._hashes[key] = await self._in_thread(_hash_all, tensor)
        return self._hashes[key]

    async def _in_thread(self, work: Callable[[*Args], T], *args: *Args) -> T:
        return await trio.to_thread.run_sync(work, *args, limiter=self._threads)


def _hash_all(tensor: Tensor) -> bytes:
    buffer = bytearray(BLOCK)
    return b"".join(
        block_hash(read_block(tensor, index, buffer)) for index in range(block_count(tensor.size))
    )
