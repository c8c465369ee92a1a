"""Loading a shard, in our own process or another one, and how long to wait until it is loaded again."""

from __future__ import annotations

import mmap
import time

from hypercluster.node.engine.apart import Apart
from hypercluster.node.engine.batching import Computing
from hypercluster.node.engine.computing import Computer
from hypercluster.node.engine.loading import Loading
from hypercluster.node.engine.processes import POSSIBLE

FIRST_PAUSE = 0.5
MOST_PAUSE = 60.0
LASTING = 300.0
"""seconds after which a start counts as good, and the next pause is short again"""


class Starts:
    """Starts of one shard. `apart` is in a process of its own, where the system can have that."""

    def __init__(self, loading: Loading, *, apart: bool) -> None:
        self._loading, self._apart = loading, apart and POSSIBLE
        self._pause = FIRST_PAUSE
        self._last = 0.0

    def load(self) -> Computing:
        """Raises LoadFailed, LlamaError."""
        self._last = time.monotonic()
        if self._apart:
            return Apart(self._loading)
        return Computer(self._loading, lambda size: mmap.mmap(-1, size))

    def pause(self) -> float:
        """Seconds until it may be loaded again: twice as many each time, unless the last start had lasted."""
        if time.monotonic() - self._last > LASTING:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(MOST_PAUSE, 2 * self._pause)
        return pause
