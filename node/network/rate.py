"""Token buckets: how often somebody may do something."""

from __future__ import annotations

from collections.abc import Callable

import trio

MOST_KEYS = 10_000
_ROUNDING = 1e-6
"""of a token: a wait that is shorter than the clock can tell would never end"""


class Rate:
    """A token bucket per key: `per_second` on average, `burst` at once.

    At most `most` keys are remembered. When there are more, the fuller half is forgotten, which is nearest to
    never seen: so a flood of new names gives nobody a bucket back that it has emptied.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        most: int = MOST_KEYS,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most = most
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, key: str) -> float:
        """Seconds until `key` has a token; 0 if it has one."""
        missing = 1 - self._tokens(key, self._clock())
        return missing / self._per_second if missing > _ROUNDING else 0.0

    def allows(self, key: str) -> bool:
        """Take a token of `key`, or return False if it has none left. Who is refused loses nothing."""
        now = self._clock()
        tokens = self._tokens(key, now)
        if tokens < 1 - _ROUNDING:
            return False
        if key not in self._buckets and len(self._buckets) >= self._most:
            self._forget(now)
        self._buckets[key] = (max(tokens - 1, 0.0), now)
        return True

    def _tokens(self, key: str, now: float) -> float:
        tokens, at = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._per_second)

    def _forget(self, now: float) -> None:
        emptiest = sorted(self._buckets, key=lambda key: self._tokens(key, now))
        self._buckets = {key: self._buckets[key] for key in emptiest[: self._most // 2]}
