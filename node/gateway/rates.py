"""How often a key may ask: so many times in each minute, counted over the last sixty seconds."""

from __future__ import annotations

import math
from collections import deque

import trio

WINDOW_SECONDS = 60.0


class Rates:
    """Remembers when each key was last used."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def take(self, key_id: str, per_minute: int | None) -> int | None:
        """Count one call, or say in how many whole seconds one would be let in. None: no bound."""
        if per_minute is None:
            return None
        times = self._times.setdefault(key_id, deque())
        now = trio.current_time()
        while times and times[0] <= now - WINDOW_SECONDS:
            times.popleft()
        if len(times) < per_minute:
            times.append(now)
            return None
        if not times:
            return math.ceil(WINDOW_SECONDS)
        return max(1, math.ceil(times[0] + WINDOW_SECONDS - now))
