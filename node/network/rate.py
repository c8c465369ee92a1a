"""Token buckets: how often somebody may do something."""

from __future__ import annotations

import trio

_MAX_KEYS = 10_000


class Rate:
    """A token bucket per key: `per_second` on average, `burst` at once."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, key: str) -> bool:
        """Take a token of `key`, or return False if it has none left."""
        now = trio.current_time()
        tokens, at = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_second)
        if len(self._buckets) > _MAX_KEYS:
            self._buckets.clear()
        self._buckets[key] = (max(tokens - 1, 0.0), now)
        return tokens >= 1
