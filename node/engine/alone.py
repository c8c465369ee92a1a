"""A step that nobody waits before or beside: whoever asks for it has it computed at once and reads the answer, with no
thread of the engine's between. What does not go as it should is left to that thread.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from hypercluster.node.engine.apart import Apart, Ended
from hypercluster.node.engine.batching import Found, entered, left
from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.engine.steps import EngineError, StepFailed, StepOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercluster.node.engine.loading import Loading
    from hypercluster.node.engine.slots import Slot


class Alone:
    """Such a step under way. `fd` can be read once there is an answer, within `seconds`.

    Whoever began it calls `look` when `fd` can be read while it is `ours`, and `leave` in any case at the end.

    Args:
        told: what came of it.
        left: that somebody else has to see to it.
    """

    def __init__(
        self,
        computing: Apart,
        loading: Loading,
        place: Slot,
        told: Callable[[Alone, Found | EngineError], None],
        left: Callable[[], None],
    ) -> None:
        self._computing, self._loading, self._told, self._left = computing, loading, told, left
        self.place, self.work = place, place.running
        self.rows = len(self.work.payload)
        self.ours, self._over = True, False
        self._reading = threading.Lock()
        self.started = time.monotonic()
        self.seconds_taken = 0.0
        entered(computing, loading, [self.work], self.rows)
        self.seconds = computing.begin(self.rows)
        self.fd = computing.fd

    @property
    def done(self) -> Future[StepOutput]:
        """What comes of the step, however it is computed in the end."""
        return self.work.done

    def look(self) -> None:
        """Read what has come."""
        with self._reading:
            if self._over:
                self.ours = False
                return
            try:
                answered = self._computing.came()
            except LlamaError as error:
                found: Found | EngineError = StepFailed(f"The step failed: {error}")
            else:
                if answered is None:  # it takes a while to learn how a process ended
                    self.leave()
                if not answered:
                    return
                found = self._found()
            self.ours, self._over = False, True
        self._told(self, found)

    def leave(self) -> None:
        """See no more to it."""
        if self.ours:
            self.ours = False
            self._left()

    def finish(self) -> None:
        """See to what was left, in the engine's thread. Raises Ended."""
        with self._reading:
            if self._over:
                return
            self._over = True
        try:
            self._computing.finish()
            found: Found | EngineError = self._found()
        except Ended:
            raise
        except LlamaError as error:
            found = StepFailed(f"The step failed: {error}")
        self._told(self, found)

    def _found(self) -> Found:
        self.seconds_taken = time.monotonic() - self.started
        self._computing.took(self.rows, self.seconds_taken)
        return left(self._computing, self._loading, [self.work], self.rows)[0]
