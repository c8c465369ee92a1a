"""Ends waits for providers that take too long, while somebody else could go on; nobody else, and they go on waiting.

One task looks at all waits of a client a few times a second, so that a wait costs a step next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from hypercluster.market.advert import Advert
from hypercluster.node.client.pace import FACTOR, MOST_SECONDS, SLACK_SECONDS, Pace

TICK_SECONDS = 0.25
LATE_SECONDS = 0.5
"""by which this process may be late itself; if it was, answers are read first that may have come meanwhile"""
FREE_SECONDS = 1.0
"""by which any step may be late without using up slack"""


KNOWN_STEPS = 4
"""of a session, after which its own time for a token says how long a silence is"""
SILENT_STEPS, SILENT_SECONDS = 50, 4.0
"""so many times that, and so many seconds at least, is the slack of a session that is known"""


class TooSlow(Exception):
    """A wait was ended after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a wait of {seconds:.1f} s")
        self.seconds = seconds


@dataclass(eq=False, slots=True)
class _Wait:
    until: float
    elsewhere: Callable[[], bool]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Patience:
    """The waits of one client; `watch` has to run for any of them to end."""

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()
        self._somebody = trio.Event()

    async def somebody(self) -> None:
        """Return while there are waits, or once there are."""
        await self._somebody.wait()

    async def watch(self) -> None:
        """Look at all waits for ever."""
        while True:
            await self.somebody()
            before = trio.current_time()
            await trio.sleep(TICK_SECONDS)
            at = trio.current_time()
            if at > before + TICK_SECONDS + LATE_SECONDS:
                continue
            for wait in list(self._waits):
                if at >= wait.until and wait.elsewhere():
                    wait.scope.cancel()
            if not self._waits:
                self._somebody = trio.Event()

    @contextmanager
    def within(self, seconds: float, elsewhere: Callable[[], bool]) -> Iterator[None]:
        """A block that is left once it took so many seconds and `elsewhere` says that somebody else could go on.

        Raises:
            TooSlow: it was left so.
        """
        began = trio.current_time()
        wait = _Wait(began + seconds, elsewhere)
        self._waits.add(wait)
        self._somebody.set()
        try:
            with wait.scope:
                yield
        finally:
            self._waits.discard(wait)
        if wait.scope.cancelled_caught:
            raise TooSlow(trio.current_time() - began)


def nowhere() -> bool:
    """Nobody else could go on, as far as anybody knows."""
    return False


class Leash:
    """How long one session may take for each step, and what it took.

    What it takes more than is expected uses up its slack, so that who is a little late each time has no more of it
    than who is late once.
    """

    def __init__(
        self, pace: Pace, patience: Patience, advert: Advert, elsewhere: Callable[[], bool] = nowhere
    ) -> None:
        self._pace, self._patience, self._advert = pace, patience, advert
        self._elsewhere = elsewhere
        self._slack = SLACK_SECONDS
        self._steps = self._rows = 0
        self._step_ms = self._rows_ms = 0.0

    @contextmanager
    def opening(self) -> Iterator[None]:
        """The time in which the session is opened. Raises TooSlow."""
        with self._watched(self._pace.seconds_to_open(self._advert.peer)):
            yield

    @contextmanager
    def step(self, rows: int) -> Iterator[None]:
        """The time in which a step of `rows` tokens is answered. Raises TooSlow."""
        began = trio.current_time()
        with self._watched(self.seconds_for(rows)):
            yield
        took = trio.current_time() - began
        self._slack -= max(0.0, took - FREE_SECONDS - self.expected_seconds(rows))
        if rows == 1:
            self._steps, self._step_ms = self._steps + 1, self._step_ms + 1000 * took
        else:
            self._rows, self._rows_ms = self._rows + rows, self._rows_ms + 1000 * took

    @contextmanager
    def showing(self, rows: int) -> Iterator[None]:
        """The time in which the rows of a step that was answered are shown. Raises TooSlow."""
        with self._watched(self.seconds_for(rows)):
            yield

    def seconds_for(self, rows: int) -> float:
        """How long a step of `rows` tokens may take now, s, where somebody else could go on."""
        slack, own = self._slack, math.inf
        if rows == 1 and self._steps >= KNOWN_STEPS:
            # Who stands still in the middle of an answer is left sooner than who is slow to begin one, however slow it
            # says that it is.
            own = self._step_ms / self._steps / 1000
            slack = min(slack, max(SILENT_SECONDS, SILENT_STEPS * own))
        return self._pace.seconds_for(self._advert, rows, slack, own)

    def expected_seconds(self, rows: int) -> float:
        """What such a step is expected to take, s, with a margin."""
        return min(MOST_SECONDS, FACTOR * self._pace.expected_seconds(self._advert, rows))

    def served(self) -> None:
        """Note that the session went well, so that what it took is expected of the next one."""
        self._pace.served(
            self._advert.peer,
            self._step_ms / self._steps if self._steps else None,
            self._rows_ms / self._rows if self._rows else None,
        )

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        try:
            with self._patience.within(seconds, self._elsewhere):
                yield
        except TooSlow:
            self._pace.cut_off(self._advert.peer)
            raise
