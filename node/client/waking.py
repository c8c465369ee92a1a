"""Notices that this process did not run for a while: stopped, asleep with the machine, or held up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio

TICK_SECONDS = 0.25
IDLE_SECONDS = 4.0
"""between two ticks while nobody is waited for: then only absences count"""
FORGETTING = 0.95
"""of the lateness of before, at each tick"""
ABSENT_SECONDS = 10.0
"""between two ticks, or between two steps of a session: what timed out meanwhile may have done so through us"""


def now() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Wakefulness:
    """Looks at the clock all the time; a long gap between two looks is an absence, a short one is lateness.

    Args:
        somebody: returns while answers are waited for, or once they are.
    """

    def __init__(self, somebody: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
        self.late = 0.0
        """seconds by which this process was late lately: it had too much to do, or did not get to it"""
        self._somebody = somebody
        self._looked = now()
        self._woke = 0.0

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            idle = now()
            with trio.move_on_after(IDLE_SECONDS):
                await self._somebody()
            before = now()
            self.late *= FORGETTING ** ((before - idle) / TICK_SECONDS)
            self._look()
            await trio.sleep(TICK_SECONDS)
            self.late = max(now() - before - TICK_SECONDS, FORGETTING * self.late)
            self._look()

    def absent_since(self, moment: float) -> bool:
        """Whether this process was away at any time after `moment`, as `now` gives it."""
        self._look()
        return self._woke > moment

    def _look(self) -> None:
        at = now()
        if at - self._looked > ABSENT_SECONDS:
            self._woke = at
        self._looked = at
