"""Locks that cost no turn of the event loop where nobody holds them.

trio's own give other tasks a turn each time they are taken. py-libp2p takes half a dozen for each frame, each for a
few lines, and what it does in between, to read and to send, has turns enough.
"""

from __future__ import annotations

import trio


class Lock:
    """A lock for `async with`; who waits gets it in the order in which they came."""

    __slots__ = ("_held", "_waiting")

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._held:
            await self._waiting.park()  # whoever leaves hands it over
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        if self._waiting:
            self._waiting.unpark()
        else:
            self._held = False


class WriteLock(Lock):
    """The same for who asks for a lock to write, and never for one to read."""

    __slots__ = ()

    def write_lock(self) -> Lock:
        """The lock."""
        return self
