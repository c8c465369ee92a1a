"""Having a step computed, with as few threads between as there can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hypercluster.node.threads import completed

if TYPE_CHECKING:
    from hypercluster.node.engine.alone import Alone
    from hypercluster.node.engine.engine import Engine
    from hypercluster.node.engine.steps import Outputs, StepOutput
    from hypercluster.node.rows import Payload


class Computed:
    """A step that an engine computes from now on: see Engine.submit for what it takes and raises."""

    def __init__(
        self, engine: Engine, slot: int, position: int, payload: Payload, outputs: Outputs, top_k: int
    ) -> None:
        self._alone: Alone | None = engine.begin(slot, position, payload, outputs, top_k)
        step = self._alone
        self._done = engine.submit(slot, position, payload, outputs, top_k) if step is None else step.done

    async def output(self) -> StepOutput:
        """What it gave. Raises EngineError. To be awaited, or `leave` is to be called."""
        if self._alone is not None:
            try:
                await _awaited(self._alone)
            finally:
                self.leave()
            if self._done.done():
                return self._done.result()
        return await completed(self._done)

    def leave(self) -> None:
        """Wait for it no more."""
        if self._alone is not None:
            self._alone.leave()


async def _awaited(step: Alone) -> None:
    """Return when it is done, or has to be left."""
    with trio.move_on_after(step.seconds):
        while step.ours:
            await trio.lowlevel.wait_readable(step.fd)
            step.look()
