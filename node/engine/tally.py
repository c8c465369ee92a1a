"""What an engine has done so far."""

from __future__ import annotations

import collections
import statistics

from hypercluster.node.engine.steps import EngineStats


class Tally:
    """Counts of one engine; whoever holds its lock counts."""

    def __init__(self) -> None:
        self.steps = self.failures = 0
        self._tokens = self._decodes = self._batched_rows = self._largest = 0
        self._busy = 0.0
        self._recent: collections.deque[float] = collections.deque(maxlen=64)

    def decoded(self, steps: int, rows: int, seconds: float) -> None:
        """One llama_decode of so many steps, `rows` of each."""
        self._decodes += 1
        self._busy += seconds
        self._tokens += steps * rows
        if rows == 1:
            self._batched_rows += steps
            self._largest = max(self._largest, steps)
            self._recent.append(seconds)

    def stats(self, *, sessions: int, free: int, waiting: int) -> EngineStats:
        """All of it, and how things stand."""
        return EngineStats(
            sessions=sessions,
            free=free,
            waiting=waiting,
            steps=self.steps,
            tokens=self._tokens,
            decodes=self._decodes,
            batched_rows=self._batched_rows,
            largest_batch=self._largest,
            busy_ms=1e3 * self._busy,
            ms_per_decode=1e3 * statistics.median(self._recent) if self._recent else 0.0,
            failures=self.failures,
        )
