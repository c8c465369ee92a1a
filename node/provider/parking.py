"""Stages between two visits of their client: what they hold stays for a while, and gives way to whoever comes now.

A stage that is parked has no seat and reserves nothing; it keeps its place in the engine as long as nobody else needs
it. Then of the wallet that has most of them the oldest goes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hypercluster.node.engine.steps import EngineError, EngineFailed, EngineFull, UnknownSlot
from hypercluster.node.wire.messages import MOST_PARKED

if TYPE_CHECKING:
    from hypercluster.node.engine.engine import Engine
    from hypercluster.node.provider.stages import Stage
    from hypercluster.node.wire.messages import Open

MOST_BYTES = 2**27
"""of rows of a stage with which another one may begin: all of it is read again for that"""


class Parking:
    """The stages of one engine, those above all that are parked. For one thread. As a context manager it is cleared at
    the end.

    Args:
        seconds: for which a stage may stay, a day at most; 0 parks none.
    """

    def __init__(
        self, engine: Engine, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = min(int(seconds), MOST_PARKED)
        self._engine, self._clock = engine, clock
        self._stages: dict[tuple[str, bytes], Stage] = {}
        """that are parked, by client and session"""
        self._visited: dict[tuple[str, bytes], Stage] = {}
        """whose clients are here"""

    def __len__(self) -> int:
        return len(self._stages)

    def open(self, capacity: int) -> int:
        """A slot for a new session, for which what is parked gives way. Raises what Engine.open does."""
        return self._with_room(lambda: self._engine.open(capacity))

    def began(self, stage: Stage) -> None:
        """Note a stage whose client is here."""
        self._visited[_name(stage)] = stage

    def branch(
        self, opening: Open, client: str, channel_id: bytes, row_bytes: int
    ) -> tuple[int, Stage] | None:
        """A slot for a new session that holds what an opening wants it to begin with, and the stage that this is of,
        whose rows take so many bytes each; None where it is not to be had.
        """
        name = client, opening.resume
        stage = self._visited.get(name) or self._stages.get(name)
        if stage is None or not _fits(stage, opening, channel_id) or not self._engine.rewinds:
            return None
        if not stage.keeps(opening.branch, opening.position) or stage.spans.rows * row_bytes > MOST_BYTES:
            return None
        place = stage.slot, opening.position, opening.capacity
        try:
            return self._with_room(lambda: self._engine.branch(*place), besides=stage), stage
        except EngineError:
            return None

    def keep(self, stage: Stage) -> int:
        """Park a stage whose client has left, or end it if it never had a step; for how many seconds it is kept."""
        if not self.seconds or stage.receipts.last is None:
            self.end(stage)
            return 0
        stage.transcript.rest()
        stage.until = self._clock() + self.seconds
        name = _name(stage)
        self._leave(stage)
        if (same := self._stages.get(name)) is not None:
            self.end(same)
        self._stages[name] = stage
        return self.seconds

    def take(self, opening: Open, client: str, channel_id: bytes) -> Stage | None:
        """The stage that an opening wants to go on, if it is here, the client's, and holds as much as is asked for.

        Raises TooLong: it would be longer than the engine allows.
        """
        self.expire()
        stage = self._stages.get((client, opening.resume))
        if stage is None or not _fits(stage, opening, channel_id):
            return None
        try:
            held = self._engine.resize(stage.slot, opening.capacity)
        except (UnknownSlot, EngineFailed):
            self.end(stage)
            return None
        if opening.position > held or (opening.position < held and not self._engine.rewinds):
            return None
        del self._stages[_name(stage)]
        self.began(stage)
        return stage

    def end(self, stage: Stage) -> None:
        """Let go of a stage, parked or not."""
        self._leave(stage)
        if self._stages.get(_name(stage)) is stage:
            del self._stages[_name(stage)]
        try:
            self._engine.close(stage.slot)
        finally:
            stage.transcript.close()

    def expire(self) -> None:
        """End those whose time is over."""
        now = self._clock()
        for stage in [stage for stage in self._stages.values() if stage.until <= now]:
            self.end(stage)

    def clear(self) -> None:
        """End all, and park none from now on."""
        self.seconds = 0
        for stage in list(self._stages.values()):
            self.end(stage)

    def _with_room(self, opened: Callable[[], int], besides: Stage | None = None) -> int:
        while True:
            try:
                return opened()
            except EngineFull:
                parked = [stage for stage in self._stages.values() if stage is not besides]
                if not parked:
                    raise
                counts = Counter(stage.payer for stage in parked)
                self.end(min(parked, key=lambda stage: (-counts[stage.payer], stage.until)))

    def _leave(self, stage: Stage) -> None:
        if self._visited.get(_name(stage)) is stage:
            del self._visited[_name(stage)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()


def _name(stage: Stage) -> tuple[str, bytes]:
    return stage.record.client, stage.record.session


def _fits(stage: Stage, opening: Open, channel_id: bytes) -> bool:
    """Whether what comes out of a stage is what an opening asks for."""
    record = stage.record
    top_k = opening.top_k if record.top_k else 0
    asked = channel_id, opening.wire_dtype, top_k
    return asked == (record.channel_id, record.wire_dtype, record.top_k)
