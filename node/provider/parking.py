"""Stages between two visits of their client: what they hold stays for a while, and gives way to whoever comes now.

A stage that is parked has no seat and reserves nothing; it keeps its place in the engine as long as nobody else needs
it. Then of the wallet that has most of them the oldest goes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hypercluster.node.engine.steps import EngineFailed, EngineFull, UnknownSlot
from hypercluster.node.wire.messages import MOST_PARKED

if TYPE_CHECKING:
    from hypercluster.market.ledger import SessionRecord
    from hypercluster.node.engine.engine import Engine
    from hypercluster.node.evidence.receipts import ReceiptChain
    from hypercluster.node.evidence.transcript_store import TranscriptWriter
    from hypercluster.node.wire.messages import Open
    from hypercluster.node.wire.records import StageRecord


@dataclass(eq=False, slots=True, kw_only=True)
class Stage:
    """What lasts from one visit to the next: a slot of the engine, the chain of receipts, transcript and books."""

    record: StageRecord
    receipts: ReceiptChain
    transcript: TranscriptWriter
    books: SessionRecord
    payer: str
    slot: int
    until: float = 0.0
    """when its time is over, by the clock of who parks it"""


class Parking:
    """The parked stages of one engine. For one thread. As a context manager it is cleared at the end.

    Args:
        seconds: for which a stage may stay, a day at most; 0 parks none.
    """

    def __init__(
        self, engine: Engine, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = min(int(seconds), MOST_PARKED)
        self._engine, self._clock = engine, clock
        self._stages: dict[bytes, Stage] = {}

    def __len__(self) -> int:
        return len(self._stages)

    def open(self, capacity: int) -> int:
        """A slot for a new session, for which what is parked gives way. Raises what Engine.open does."""
        while True:
            try:
                return self._engine.open(capacity)
            except EngineFull:
                if not self._stages:
                    raise
                self.end(self._victim())

    def keep(self, stage: Stage) -> int:
        """Park a stage whose client has left, or end it if it never had a step; for how many seconds it is kept."""
        if not self.seconds or stage.receipts.last is None:
            self.end(stage)
            return 0
        stage.transcript.rest()
        stage.until = self._clock() + self.seconds
        self._stages[stage.record.session] = stage
        return self.seconds

    def take(self, opening: Open, client: str, channel_id: bytes) -> Stage | None:
        """The stage that an opening wants to go on, if it is here, the client's, and holds as much as is asked for.

        Raises TooLong: it would be longer than the engine allows.
        """
        self.expire()
        stage = self._stages.get(opening.resume)
        if stage is None:
            return None
        record = stage.record
        top_k = opening.top_k if record.top_k else 0
        asked = (client, channel_id, opening.wire_dtype, top_k)
        if asked != (record.client, record.channel_id, record.wire_dtype, record.top_k):
            return None
        try:
            held = self._engine.resize(stage.slot, opening.capacity)
        except (UnknownSlot, EngineFailed):
            self.end(stage)
            return None
        if opening.position > held or (opening.position < held and not self._engine.rewinds):
            return None
        return self._stages.pop(record.session)

    def end(self, stage: Stage) -> None:
        """Let go of a stage, parked or not."""
        self._stages.pop(stage.record.session, None)
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

    def _victim(self) -> Stage:
        counts = Counter(stage.payer for stage in self._stages.values())
        return min(self._stages.values(), key=lambda stage: (-counts[stage.payer], stage.until))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
