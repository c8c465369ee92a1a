"""The seam of the step exchange: messages over one connection, whichever kind it is.

Two kinds give the same `Connection`. A libp2p stream goes wherever libp2p goes, but each message costs yamux
frames, locks and scheduler ticks. A direct connection (direct.py) is a TCP connection of its own. Clients try
the direct one and fall back (steps.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from hypercluster.node.network.budgets import Source, block_of
from hypercluster.node.wire.codec import Message, decode, encode
from hypercluster.node.wire.framing import ByteStream, Frames


class _Closable(ByteStream, Protocol):
    peer: str

    @property
    def ip(self) -> str: ...

    async def close(self) -> None: ...

    async def reset(self) -> None: ...


class Connection:
    """Messages to and from one authenticated peer. One task may receive while another sends."""

    def __init__(self, stream: _Closable, *, direct: bool = False, frame_seconds: float = 30.0) -> None:
        self.peer = stream.peer
        self.direct = direct
        """whether this is a TCP connection of its own"""
        self.ip = stream.ip
        """of the other end, empty if the connection is gone"""
        self.source = Source(stream.peer, block_of(self.ip))
        """who is at the other end, for budgets"""
        self._stream = stream
        self._frames = Frames(stream, frame_seconds=frame_seconds)

    def raise_bound(self, max_frame: int) -> None:
        """Allow frames of `max_frame` bytes, see node.wire.bounds.frame_bound; never lowers the bound."""
        self._frames.max_frame = max(self._frames.max_frame, max_frame)

    async def send(self, message: Message, timeout: float | None = None) -> None:
        """Send one message within `timeout` seconds. Raises FrameTooLong, FrameTimeout, ConnectionLost."""
        await self._frames.send(encode(message), timeout)

    async def receive(self, timeout: float | None = None) -> Message:
        """The next message, which must begin within `timeout` seconds.

        Raises WireError, FrameTooLong, FrameTimeout, FrameError, ConnectionLost. Close it after any of them.
        """
        return decode(await self._frames.receive(timeout))

    async def close(self) -> None:
        """End the connection; what was sent still arrives. Never raises for a lost peer."""
        await self._stream.close()

    async def reset(self) -> None:
        """End the connection at once, whether or not what was sent arrives."""
        await self._stream.reset()


Handler = Callable[[Connection], Awaitable[None]]
