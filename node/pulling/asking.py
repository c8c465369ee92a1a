"""Asking one peer for what it has of a model."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from hypercluster.node.errors import NodeError, PeerUnreachable
from hypercluster.node.network.direct import SecureStream, dial_direct
from hypercluster.node.network.host import Host
from hypercluster.node.network.steps import DIRECT_SECONDS
from hypercluster.node.network.stream import Stream
from hypercluster.node.shards.blocks import BLOCK
from hypercluster.node.wire.blocks import (
    BLOCKS_PROTOCOL,
    MOST_ASKED,
    MOST_PIECE,
    BlocksAsked,
    Held,
    What,
    decode_answer,
    decode_held,
    encode_blocks,
)
from hypercluster.node.wire.framing import Frames

log = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0
CLOSE_SECONDS = 1.0
MOST_HELD = 1 << 16
"""bytes of what a peer says that it has"""


class Refused(NodeError):
    """A peer does not give what was asked; `wait` is seconds to ask again after, 0 if it never will."""

    def __init__(self, sentence: str, wait: float) -> None:
        super().__init__(sentence)
        self.wait = wait


class Lied(NodeError):
    """A peer gave something else than what the model id stands for."""


class Asker:
    """A conversation with one peer about one model."""

    def __init__(self, stream: Stream | SecureStream, model_id: str) -> None:
        self.peer = stream.peer
        self._model = model_id
        self._sending = Frames(stream, max_frame=MOST_ASKED, frame_seconds=ANSWER_SECONDS)
        self._receiving = Frames(stream, max_frame=MOST_PIECE, frame_seconds=ANSWER_SECONDS)

    async def held(self) -> Held:
        """What the peer has. Raises NodeError."""
        return decode_held(await self.whole("held", MOST_HELD))

    async def whole(self, what: What, most: int, tensor: str = "") -> bytes:
        """An answer of `most` bytes at most. Raises Refused, Lied, NodeError."""
        size = await self._ask(BlocksAsked(self._model, what, tensor))
        if size > most:
            raise Lied(f"{self.peer} has {size} bytes of {what}, more than there can be.")
        pieces, came = [], 0
        while came < size:
            piece = await self._piece(size - came)
            pieces.append(piece)
            came += len(piece)
        return b"".join(pieces)

    async def blocks(self, tensor: str, first: int, sizes: Sequence[int]) -> AsyncGenerator[bytes, None]:
        """Blocks that follow each other, from number `first` on, of these sizes. Raises Refused, Lied, NodeError."""
        size = await self._ask(BlocksAsked(self._model, "blocks", tensor, first, len(sizes)))
        if size != sum(sizes):
            raise Lied(f"{self.peer} gives {size} bytes of {tensor} where {sum(sizes)} were asked.")
        for each in sizes:
            piece = await self._piece(BLOCK)
            if len(piece) != each:
                raise Lied(f"{self.peer} gives {len(piece)} bytes of {tensor} where {each} were asked.")
            yield piece

    async def _ask(self, asked: BlocksAsked) -> int:
        await self._sending.send(encode_blocks(asked))
        answer = decode_answer(await self._receiving.receive(ANSWER_SECONDS))
        if answer.refused:
            raise Refused(f"{self.peer} says: {answer.refused}", answer.wait)
        return answer.size

    async def _piece(self, most: int) -> bytes:
        piece = await self._receiving.receive(ANSWER_SECONDS)
        if not 0 < len(piece) <= most:
            raise Lied(f"{self.peer} sends {len(piece)} bytes where 1 to {most} are left.")
        return piece


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a peer is: its multiaddrs, and the address for direct connections if it has one."""

    addrs: tuple[str, ...]
    direct: str = ""


@asynccontextmanager
async def asking(host: Host, peer: str, where: Whereabouts, model_id: str) -> AsyncIterator[Asker]:
    """A conversation with a peer for as long as the block lasts, direct if it answers there.

    A libp2p stream costs several times as much computing per byte. Raises PeerUnreachable.
    """
    stream = await _dialled(host, peer, where)
    try:
        yield Asker(stream, model_id)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
            await stream.close()


async def _dialled(host: Host, peer: str, where: Whereabouts) -> Stream | SecureStream:
    if where.direct:
        try:
            return await dial_direct(host, peer, where.direct, DIRECT_SECONDS)
        except PeerUnreachable as error:
            log.info("%s Trying a libp2p stream.", error)
    return await host.open_stream(peer, BLOCKS_PROTOCOL, where.addrs)
