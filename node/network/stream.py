"""One libp2p stream as the rest of the node reads and writes it."""

from __future__ import annotations

import logging

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError

from hypercluster.node.errors import ConnectionLost

log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
LINGER_SECONDS = 5.0
"""how long a closing side waits for the other to have read everything"""
LOST = (BaseLibp2pError, OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError)
"""what the layers below raise when a peer is gone"""


class Stream:
    """One libp2p stream as node.framing wants it. `peer` is the authenticated id of the other side."""

    def __init__(self, inner: INetStream) -> None:
        self.peer: str = inner.muxed_conn.peer_id.to_base58()
        self._inner = inner
        self._closed = False

    @property
    def ip(self) -> str:
        """The IP address that the peer comes from, empty if the connection is gone."""
        try:
            remote = self._inner.get_remote_address()
        except LOST:
            return ""
        return remote[0].partition("%")[0] if remote else ""

    async def read(self) -> bytes:
        """Return at least one byte, or none at the end. Raises ConnectionLost."""
        try:
            return await self._inner.read(_CHUNK)
        except EOFError:
            return b""
        except LOST as error:
            raise ConnectionLost(f"The stream to {self.peer} broke: {error}.") from None

    async def write(self, data: bytes) -> None:
        """Send all of data. Raises ConnectionLost."""
        try:
            await self._inner.write(data)
        except LOST as error:
            raise ConnectionLost(f"The stream to {self.peer} broke: {error}.") from None

    async def close(self) -> None:
        """End the stream: what was sent still arrives. Never raises for a lost peer."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._inner.close()
            with trio.move_on_after(LINGER_SECONDS):
                while await self._inner.read(_CHUNK):
                    pass
        except LOST as error:
            log.debug("closing a stream to %s: %s", self.peer, error)
        finally:
            await self.reset()

    async def reset(self) -> None:
        """End the stream at once; what the other side has not read is lost to it."""
        self._closed = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await self._inner.reset()
