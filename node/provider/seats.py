"""Who sits at a provider's engine: so many sessions at most, and who gives way to whom when all are taken.

A session that works is never disturbed. Who holds one and does not pay, or stopped to ask for steps, gives it up to
somebody of a better class or price, after a short grace; to somebody like itself only if it holds more of them. Who
holds more than half of all has a shorter grace.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from hypercluster.node.errors import ErrorCode
from hypercluster.node.serving.classes import Class
from hypercluster.node.serving.lapses import Lapses
from hypercluster.node.serving.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hypercluster.node.network.connection import Connection
    from hypercluster.node.provider.incoming import Incoming
    from hypercluster.node.wire.codec import Message

GRACE_SECONDS = 3.0
"""a session whose first step has not come gives way to nobody before"""
STALLED_SECONDS = 3.0
STALLED_STEPS = 20.0
"""nor does one whose next step is late, by this many times its own pace"""
CROWDING_SECONDS = 1.0
"""instead of STALLED_SECONDS, for the wallet that holds more than half of all places"""
LEAST_IDLE_SECONDS = 30.0
"""that a client gets for its next step, whatever its pace"""
IDLE_STEPS = 50.0
"""times its own pace that it gets, up to the idle limit"""
LEAVE_SECONDS = 2.0
"""for who was told to give way"""
SOON = 1.0
"""seconds after which a newcomer may try again whose own sessions wait for their first steps"""
LEAST_WAIT, MOST_WAIT = 0.2, 30.0
_SHARE = 0.2
"""of a new measurement in a mean"""


@dataclass(eq=False, slots=True)
class Seat:
    """One session's place. Times are of the monotonic clock, in seconds."""

    payer: str
    rank: tuple[Class, int, int]
    """class, price in wei a token, wei that the wallet has paid before: who is worth more comes last"""
    taken: float
    first_seconds: float
    """for the first step"""
    most_idle: float
    beyond: bool = False
    """a newcomer's, while newcomers have their share already: it has no grace before a payer"""
    paid: bool = False
    idle_since: float | None = None
    """since when it is the client's turn; None while a step is under way"""
    pace: float = 0.0
    """seconds that the client takes from an answer to its next step, a mean"""
    kept: float = 0.0
    """seconds that it was the client's turn before the first paid step"""
    gone: trio.Event = field(default_factory=trio.Event)
    told: bool = False
    """to give way"""
    _scope: trio.CancelScope | None = None

    @property
    def patience(self) -> float:
        """Seconds that the client gets for its next step."""
        if not self.paid:
            return min(self.first_seconds, self.most_idle)
        return min(self.most_idle, max(LEAST_IDLE_SECONDS, IDLE_STEPS * self.pace))

    def yields_at(self, to: Class, *, crowding: bool = False) -> float:
        """From when on it may be told to give way; never while a step of it is under way."""
        if self.idle_since is None:
            return math.inf
        if not self.paid:
            return self.taken + (0 if self.beyond and to is Class.PAYER else GRACE_SECONDS)
        stalled = CROWDING_SECONDS if crowding else STALLED_SECONDS
        return self.idle_since + max(stalled, STALLED_STEPS * self.pace)

    def give_way(self) -> None:
        """End the session, which waits for its client."""
        self.told = True
        if self._scope is not None:
            self._scope.cancel()

    @contextmanager
    def clients_turn(self) -> Iterator[None]:
        """Within the block it is the client that everybody waits for. Raises Refused: somebody else gets the place."""
        began = self.idle_since = time.monotonic()
        try:
            with trio.CancelScope() as self._scope:
                yield
        finally:
            self._scope = None
            if not self.paid:
                self.kept += time.monotonic() - began
        if self.told:
            raise Refused(ErrorCode.TIMEOUT, "No step came for a while and others wait: the session is over.")
        self.idle_since = None

    async def receive(self, connection: Connection | Incoming) -> Message:
        """The client's next message.

        Raises:
            Refused, FrameTimeout: TIMEOUT, as it did not come in time, or somebody else gets the place.
            ConnectionLost, WireError, FrameError: see Connection.receive.
        """
        began = time.monotonic()
        with self.clients_turn():
            message = await connection.receive(self.patience)
        if self.paid:
            self.pace += _SHARE * (time.monotonic() - began - self.pace)
        return message


class Seats:
    """All places of a provider. For one thread.

    Args:
        most: sessions at once.
        first_seconds: for the first step of a session.
        most_idle: seconds for a later one at most.
    """

    def __init__(self, most: int, *, first_seconds: Callable[[], float], most_idle: float) -> None:
        self.most = most
        self._first_seconds, self._most_idle = first_seconds, most_idle
        self._seats: list[Seat] = []
        self._lapses = Lapses(time.monotonic)
        self._lasting = 1.0
        """seconds that a paid session lasts, a mean"""

    @property
    def yielding(self) -> int:
        """Sessions that would give way to a payer: others may take them for free."""
        now = time.monotonic()
        return sum(now >= self._yields_at(seat, Class.PAYER) for seat in list(self._seats))

    @asynccontextmanager
    async def seat(self, payer: str, class_: Class, price_wei: int, paid_wei: int) -> AsyncIterator[Seat]:
        """A place for as long as the block lasts, for a wallet that has paid `paid_wei` before.

        Raises:
            Refused: FULL, with the time to wait.
        """
        now = time.monotonic()
        seat = Seat(payer, (class_, price_wei, paid_wei), now, self._first_seconds(), self._most_idle)
        seat.idle_since = now
        self._check_conduct(seat)
        newcomers = sum(each.rank[0] < Class.PAYER and not each.paid for each in self._seats)
        seat.beyond = class_ is not Class.PAYER and newcomers >= (self.most + 1) // 2
        victim = self._victim(seat) if len(self._seats) >= self.most else None
        if len(self._seats) >= self.most and victim is None:
            raise self._full(seat)
        self._seats.append(seat)
        try:
            if victim is not None:
                victim.give_way()
                with trio.move_on_after(LEAVE_SECONDS):
                    await victim.gone.wait()
                if not victim.gone.is_set():
                    raise self._full(seat)
            yield seat
        finally:
            self._seats.remove(seat)
            seat.gone.set()
            if seat.paid and seat.told:
                # It was in the way of others, and may not take the next place at once.
                self._lapses.lapsed(payer)
            elif seat.paid:
                self._lasting += _SHARE * (time.monotonic() - seat.taken - self._lasting)
                self._lapses.paid(payer)
            elif seat.kept >= GRACE_SECONDS:
                self._lapses.lapsed(payer)

    def _check_conduct(self, asker: Seat) -> None:
        """Refuse whose places stay unpaid, and newcomers beyond their share."""
        if wait := self._lapses.wait(asker.payer):
            raise Refused(
                ErrorCode.FULL,
                "Sessions were opened from this wallet and not used: the next one opens in "
                f"{math.ceil(wait)} s.",
                wait=wait,
            )
        if asker.rank[0] is Class.PAYER:
            return
        if self._unpaid_of(asker.payer) >= (few := max(2, self.most // 2)):
            raise Refused(
                ErrorCode.FULL,
                f"A wallet that has not paid here yet has {few} sessions at most: take the first step of one of them.",
                wait=SOON,
            )

    def _victim(self, asker: Seat) -> Seat | None:
        """Who gives way to `asker` now: the one who is worth least."""
        now = time.monotonic()
        found = [
            seat
            for seat in self._seats
            # Who was told already leaves its place to somebody else.
            if not seat.told and self._yields_at(seat, asker.rank[0]) <= now and self._before(asker, seat)
        ]
        return min(found, key=lambda seat: (seat.paid, seat.rank, seat.taken), default=None)

    def _before(self, asker: Seat, seat: Seat) -> bool:
        """Whether `asker` comes before who holds a seat, once that has had its grace."""
        if asker.payer == seat.payer:
            return False
        if seat.paid:
            more = asker.rank[0] is Class.PAYER and self._held_by(seat.payer) > self._held_by(asker.payer) + 1
        else:
            more = self._unpaid_of(seat.payer) > self._unpaid_of(asker.payer)
        return asker.rank > seat.rank or more

    def _yields_at(self, seat: Seat, to: Class) -> float:
        return seat.yields_at(to, crowding=2 * self._held_by(seat.payer) > self.most)

    def _held_by(self, payer: str) -> int:
        return sum(seat.payer == payer for seat in self._seats)

    def _unpaid_of(self, payer: str) -> int:
        return sum(seat.payer == payer and not seat.paid for seat in self._seats)

    def _full(self, asker: Seat) -> Refused:
        now = time.monotonic()
        waits = [self._lasting / max(1, len(self._seats))] if any(s.paid for s in self._seats) else []
        for seat in self._seats:
            if self._before(asker, seat):
                waits.append(self._yields_at(seat, asker.rank[0]) - now)
            elif not seat.paid:
                waits.append(seat.taken + seat.patience - now)
        wait = min(MOST_WAIT, max(LEAST_WAIT, min(waits, default=LEAST_WAIT)))
        return Refused(
            ErrorCode.FULL, f"All {self.most} sessions are taken; come back in {wait:.1f} s.", wait=wait
        )
