"""What a provider knows of a stage as long as it holds it: its place in the engine, its receipts, where its steps were.

A stage may begin with a copy of what another one holds. It has the same steps then, each with a receipt of its own, so
that who looks at it later sees a stage as any other. They are signed with the first step that is paid for.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import coincurve

    from hypercluster.market.ledger import SessionRecord
    from hypercluster.node.evidence.receipts import ReceiptChain
    from hypercluster.node.evidence.transcript_store import TranscriptStore, TranscriptWriter
    from hypercluster.node.wire.records import AuditStep, StageRecord


@dataclass(slots=True)
class Spans:
    """Where each step of a stage began and ended, in tokens."""

    starts: array[int] = field(default_factory=lambda: array("I"))
    stops: array[int] = field(default_factory=lambda: array("I"))

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, step: AuditStep) -> None:
        """Note a step that was taken."""
        self.starts.append(step.position)
        self.stops.append(step.position + step.rows)

    @property
    def rows(self) -> int:
        """Of all steps."""
        return sum(self.stops) - sum(self.starts)

    def first(self, steps: int) -> Spans:
        """Those of so many steps."""
        return Spans(self.starts[:steps], self.stops[:steps])

    def keep(self, steps: int, position: int) -> bool:
        """Whether the first `steps` steps came to `position`, and no later one has changed what lies before it."""
        return (
            0 < steps <= len(self)
            and 0 < position <= self.stops[steps - 1]
            and all(start >= position for start in self.starts[steps:])
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """The stage, by its hash, whose first `steps` steps another one begins with."""

    stage_hash: bytes
    steps: int


@dataclass(eq=False, slots=True, kw_only=True)
class Stage:
    """What lasts from one visit to the next: a slot of the engine, the chain of receipts, transcript and books.

    `origin` is what it begins with that is not signed yet.
    """

    record: StageRecord
    receipts: ReceiptChain
    transcript: TranscriptWriter
    books: SessionRecord
    payer: str
    slot: int
    spans: Spans = field(default_factory=Spans)
    origin: Origin | None = None
    under_way: int | None = None
    """where the step begins that is computed now, or was and has no receipt yet"""
    until: float = 0.0
    """when its time is over, by the clock of who parks it"""

    @property
    def next_seq(self) -> int:
        """Of the next step."""
        return self.receipts.next_seq if self.origin is None else self.origin.steps

    def keeps(self, steps: int, position: int) -> bool:
        """Whether what it holds before `position` is what its first `steps` steps left there, and stays so for now."""
        if self.origin is not None or (self.under_way is not None and self.under_way < position):
            return False
        return self.spans.keep(steps, position)

    def _took(self, step: AuditStep, key: coincurve.PrivateKey) -> bytes:
        """Sign for a step and write it down; the signature, 64 bytes. Raises StoreFull."""
        receipt = self.receipts.next(step)
        signature = self.receipts.sign(receipt, key)
        self.transcript.append(replace(step, receipt=signature))
        return signature

    def inherit(self, transcripts: TranscriptStore, key: coincurve.PrivateKey, issued: int) -> bytes:
        """Sign the steps that it begins with, at `issued` (unix s), and write them down; 64 bytes for each.

        Takes its time. Raises NoTranscript, StoreFull: then nothing more may be signed for it.
        """
        assert self.origin is not None
        begun = transcripts.load(self.origin.stage_hash, self.origin.steps - 1)
        signed = b"".join(self._took(replace(step, issued=issued, receipt=b""), key) for step in begun.steps)
        self.origin = None
        return signed
