"""Notices that this process did not run for a while: stopped, asleep with the machine, or held up."""

from __future__ import annotations

import time

import trio

TICK_SECONDS = 0.25
FORGETTING = 0.95
"""of the lateness of before, at each tick"""
ABSENT_SECONDS = 10.0
"""between two ticks, or between two steps of a session: what timed out meanwhile may have done so through us"""


def now() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Wakefulness:
    """Looks at the clock all the time; a long gap between two looks is an absence, a short one is lateness."""

    def __init__(self) -> None:
        self.late = 0.0
        """seconds by which this process was late lately: it had too much to do, or did not get to it"""
        self._looked = now()
        self._woke = 0.0

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            before = now()
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
