"""So many bytes a second, for all who want some."""

from __future__ import annotations

import math

import trio


class Pace:
    """`rate` bytes a second on average; what is taken at once is waited for afterwards. For one loop."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = -math.inf

    async def take(self, size: int) -> None:
        """Return when `size` bytes may go out."""
        now = trio.current_time()
        at = max(self._free, now)
        self._free = at + size / self._rate
        await trio.sleep_until(at)
