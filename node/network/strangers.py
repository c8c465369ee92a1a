"""How much of this process strangers get: what their connections make the event loop do is measured, not guessed.

Budgets count acts, and what an act costs depends on what follows from it: a new libp2p connection alone makes a host
introduce itself, ask back and measure. So every task that a stranger's connection started is charged to it, and while
strangers have had more than their share they wait, for their next handshake and for the next bytes to be read. Who
paid or has stake behind it never waits. A node that serves nobody who is known at the moment has more to give.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import count

import trio

from hypercluster.node.network.bounds import BOUNDS, Bound

IDLE_SHARE = 0.6
"""of one core, where nobody who is known is served"""
_LOOK_SECONDS = 1.0
"""between looks at whether a peer is still a stranger"""
_MOST_DEBT = 0.5
"""seconds of work that strangers may have had too much: one long task holds the others up for a few seconds at most"""
_SERVING = 0.02
"""seconds of work for those who are known in about a second: less is no more than that they are connected"""


class Charge:
    """What one connection costs. `peer` is empty until the handshake is over."""

    __slots__ = ("_looked", "_stranger", "finish", "owner", "peer")

    def __init__(self, owner: StrangersTime) -> None:
        self.owner = owner
        self.peer = ""
        self.finish = 0.0
        """in seconds of strangers' work: until when it has had its part, had all of them as much as each other"""
        self._stranger = True
        self._looked = -math.inf

    def known(self) -> None:
        """Charge it no more: what comes over it is paid for."""
        self._stranger = False

    def is_stranger(self) -> bool:
        """Whether it is charged still."""
        if self.peer and self._stranger:
            now = time.monotonic()
            if now > self._looked + _LOOK_SECONDS:
                self._stranger, self._looked = self.owner.is_stranger(self.peer), now
        return self._stranger


_CHARGED: ContextVar[Charge | None] = ContextVar("charged", default=None)
"""tasks inherit it from who starts them"""


def charged_now() -> Charge | None:
    """The connection that the task which asks works for, if it is one."""
    return _CHARGED.get()


class StrangersTime(trio.abc.Instrument):
    """Seconds of work that strangers together get: so many a second, as `bound` says, and who of them is next.

    A trio instrument of the loop that `run` runs in. All who wait get as much as each other, by start-time fair
    queueing (Goyal, Vin and Cheng, 1996): who sends without end waits longest, a newcomer hardly at all.
    """

    def __init__(
        self, is_stranger: Callable[[str], bool] = lambda peer: True, bound: Bound = BOUNDS["work"]
    ) -> None:
        self.is_stranger = is_stranger
        self._share, self._burst = bound.total
        self._left, self._at = self._burst, time.monotonic()
        self._known = 0.0
        self._seen = 0.0
        """this thread's processor time when the last task stopped"""
        self._virtual = 0.0
        self._waiting: list[tuple[float, int, trio.Event]] = []
        self._numbers = count()
        self._somebody = trio.Event()

    @contextmanager
    def charged(self) -> Iterator[Charge]:
        """Charge what this task does in the block, and all tasks that it starts there, to a connection."""
        charge = Charge(self)
        token = _CHARGED.set(charge)
        try:
            yield charge
        finally:
            _CHARGED.reset(token)

    def wait(self) -> float:
        """Seconds until strangers have time again; 0 if they have."""
        now = time.monotonic()
        passed = now - self._at
        share = self._share if self._known > _SERVING else IDLE_SHARE
        self._left = min(self._burst, self._left + passed * share)
        self._known *= math.exp(-passed)
        self._at = now
        return max(0.0, -self._left / share)

    async def turn(self, charge: Charge) -> None:
        """Return when it is this stranger's turn, at once for anybody else."""
        if not charge.is_stranger():
            return
        charge.finish = max(charge.finish, self._virtual)
        if not self.wait() and not self._waiting:
            return
        event = trio.Event()
        heapq.heappush(self._waiting, (charge.finish, next(self._numbers), event))
        self._somebody.set()
        await event.wait()

    async def run(self) -> None:
        """Give turns until cancelled."""
        self._seen = time.thread_time()
        trio.lowlevel.add_instrument(self)
        try:
            while True:
                await self._somebody.wait()
                # One turn after the other: what the last one cost is known by then.
                await trio.sleep(self.wait())
                if self._waiting:
                    self._virtual, _, event = heapq.heappop(self._waiting)
                    event.set()
                else:
                    self._somebody = trio.Event()
        finally:
            with suppress(KeyError):  # trio has left out one that failed, and told why
                trio.lowlevel.remove_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio tells that a task has gone on and stopped again."""
        # Of this thread's processor: while others have it nobody here makes work. The loop's own work before a task
        # goes on is counted with it; to be told of that moment as well costs as much again.
        now = time.thread_time()
        took, self._seen = now - self._seen, now
        charge = task.context.get(_CHARGED)
        if charge is None or charge.owner is not self:
            return
        if charge.is_stranger():
            self._left = max(self._left - took, -_MOST_DEBT)
            charge.finish += took
        else:
            self._known += took
