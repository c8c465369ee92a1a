"""The few places of a verifier: for whoever feeds them, and lost by who does not when somebody else asks."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from hypercluster.node.errors import ErrorCode
from hypercluster.node.serving.refusals import Refused

GRACE_SECONDS = 3.0
"""that a place is its holder's, however little it sends"""
SLOW_BYTES = 64 * 1024
"""a second, on average, below which who paid for a place loses it to the next one"""


@dataclass(eq=False, slots=True)
class Place:
    """One place and who holds it; times are trio's.

    Attributes:
        rank: of its holder, higher is better.
        key: what it is for; a second one for the same takes the place of the first.
        taken: bytes that arrived.
        whole: whether everything has arrived, after which it cannot be lost.
    """

    rank: int
    key: object = None
    begun: float = field(default_factory=trio.current_time)
    taken: int = 0
    whole: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def speed(self) -> float:
        """Bytes a second since it was taken."""
        return self.taken / max(trio.current_time() - self.begun, 0.1)


class Places:
    """At most `most` at once. When all are held, the worst holder goes that may.

    Args:
        paid: whether holders pay for what they send. Then who is not slow keeps its place; else the slowest goes.
    """

    def __init__(self, most: int, *, paid: bool) -> None:
        self.most = most
        self._paid = paid
        self._held: list[Place] = []

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return self.most - len(self._held)

    @asynccontextmanager
    async def place(self, rank: int = 0, key: object = None) -> AsyncIterator[Place]:
        """A place until the end of the block, which is left early if it is lost.

        Raises:
            Refused: FULL with the time to wait: no place is to be had, or this one was lost to somebody else.
        """
        self._make_room(rank, key)
        place = Place(rank, key)
        self._held.append(place)
        try:
            with place.scope:
                yield place
        finally:
            self._drop(place)
        if place.scope.cancelled_caught:
            raise Refused(
                ErrorCode.FULL,
                "This place was needed by somebody who sends faster or paid before; send all at once, without pauses.",
                wait=GRACE_SECONDS,
            )

    def _make_room(self, rank: int, key: object) -> None:
        losers = [place for place in self._held if key is not None and place.key == key and not place.whole]
        if not losers and not self.free:
            losers = [place for place in self._held if self._may_go(place, rank)]
            if not losers:
                raise Refused(
                    ErrorCode.FULL, "This verifier has as many audits as it takes.", wait=self._wait()
                )
        if losers:
            loser = min(losers, key=lambda place: (place.rank, place.speed))
            self._drop(loser)
            loser.scope.cancel()

    def _may_go(self, place: Place, rank: int) -> bool:
        if place.whole:
            return False
        if place.rank < rank and not place.taken:
            return True
        old = trio.current_time() >= place.begun + GRACE_SECONDS
        return old and (not self._paid or place.speed < SLOW_BYTES)

    def _wait(self) -> float:
        """Seconds until the first of the holders may lose its place."""
        ends = [place.begun + GRACE_SECONDS for place in self._held if not place.whole]
        return max(1.0, min(ends, default=math.inf) - trio.current_time()) if ends else 2 * GRACE_SECONDS

    def _drop(self, place: Place) -> None:
        if place in self._held:
            self._held.remove(place)
