"""How fast a provider is: measured at the start, again whenever it is idle, and by the steps that it serves."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.speed import measure as time_engine
from hypercluster.node.engine.steps import EngineFailed, EngineFull, Measurement

log = logging.getLogger(__name__)

ROUNDS = 5
"""of which the best counts: what else the machine does can only make a round slower"""
ROUNDS_SECONDS = 0.25
"""after which no further round begins: a large shard is measured again soon enough, when it idles or serves"""
START_ROWS = 16
"""of a prompt that the first round at a start takes: a chunk of a large shard is half a second of its processor"""
FIRST_AGAIN = 15.0
"""seconds until an idle provider measures itself again; twice as long after each time, up to LAST_AGAIN"""
LAST_AGAIN = 600.0
LOADED_SECONDS = 15.0
"""for which what was served says how fast the next one would be served"""
SERVED = 8
"""decodes that say enough"""


class Speed:
    """What one engine takes per token, in ms, with the rest before each step counted in.

    Args:
        throttle_ms: rest before each step.
        step_tokens: tokens of a prompt that share one step.
        timing: one round, with so many rows of a prompt or None for a chunk; raises EngineFull.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        throttle_ms: float = 0.0,
        step_tokens: int = 64,
        timing: Callable[[Engine, int | None], Measurement] = time_engine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._throttle_ms, self._step_tokens = engine, throttle_ms, step_tokens
        self._time, self._clock = timing, clock
        self.cost_ms = 0.0
        """per generated token"""
        self.prompt_ms = 0.0
        """per prompt token, in steps of many"""
        self.measuring = False
        """a session of our own is open, for a moment"""
        self.parked: Callable[[], int] = lambda: 0
        """sessions that nobody uses now"""
        self._served_at = -math.inf
        self._pause = FIRST_AGAIN
        self._again_at = 0.0
        self._decodes = 0

    @property
    def loaded(self) -> bool:
        """Whether the figure is what clients got a moment ago."""
        return self._clock() - self._served_at < LOADED_SECONDS

    def measure(self, rows: int | None = None) -> None:
        """Take the best of several rounds, in a session of our own, the first with so many rows of a prompt.

        Raises EngineFull.
        """
        self.measuring = True
        try:
            best = self._best(rows)
        finally:
            self.measuring = False
        self.cost_ms = self._throttle_ms + best.decode_ms
        self.prompt_ms = self._throttle_ms / self._step_tokens + best.prefill_ms
        self._decodes = self._engine.stats().decodes
        self._again_at = self._clock() + self._pause
        self._pause = min(2 * self._pause, LAST_AGAIN)

    def _best(self, rows: int | None) -> Measurement:
        end = self._clock() + ROUNDS_SECONDS
        best = self._time(self._engine, rows)
        for _ in range(ROUNDS - 1):
            if self._clock() > end:
                break
            best = _better(best, self._time(self._engine, None))
        return best

    @property
    def due(self) -> bool:
        """Whether a look finds something to do."""
        return self._clock() >= self._again_at or self._engine.stats().decodes >= self._decodes + SERVED

    def look(self) -> None:
        """Bring the figures up to date: by what was served since the last look, else by measuring when idle."""
        stats = self._engine.stats()
        if stats.decodes >= self._decodes + SERVED:
            # What clients get is the truth, sessions that share a decode included.
            self._decodes, self._served_at = stats.decodes, self._clock()
            self.cost_ms = self._throttle_ms + stats.ms_per_decode
            self._again_at = max(self._again_at, self._clock() + FIRST_AGAIN)
        elif stats.sessions <= self.parked() and self._clock() >= self._again_at:
            try:
                self.measure()
            except (EngineFull, EngineFailed):
                log.debug(
                    "clients came first, or the engine is down; the speed is measured by what is served"
                )


def _better(one: Measurement, other: Measurement) -> Measurement:
    return Measurement(min(one.decode_ms, other.decode_ms), min(one.prefill_ms, other.prefill_ms))
