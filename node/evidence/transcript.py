"""What a stage was asked and what it answered, step by step.

Both ends keep it: the client to have a stage audited and to accuse it, the provider because it may be asked to
show what its receipts commit to.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hypercluster.market.trust.receipt import DisputeDomain, Receipt
from hypercluster.node.errors import WireError
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.identity import address_of_peer
from hypercluster.node.wire.records import AuditStep, StageRecord, StepRoots

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transcript:
    """A stage and its steps so far, in order."""

    record: StageRecord
    steps: tuple[AuditStep, ...]

    @property
    def tokens(self) -> int:
        """Rows of input over all steps, those that were forgotten later included."""
        return sum(step.rows for step in self.steps)

    @property
    def length(self) -> int:
        """The most tokens that the stage held at once, in the cells of its model."""
        return max((step.position + step.rows for step in self.steps), default=0)

    @property
    def runs(self) -> list[list[AuditStep]]:
        """The steps, cut where one goes back: each begins within what was held, and forgets what lay behind."""
        runs: list[list[AuditStep]] = []
        end = -1
        for step in self.steps:
            if step.position != end:
                runs.append([])
            runs[-1].append(step)
            end = step.position + step.rows
        return runs

    @property
    def outputs(self) -> int:
        """Rows of output over all steps."""
        return sum(step.outputs for step in self.steps)

    @property
    def generated(self) -> int:
        """Steps of a single token."""
        return sum(step.rows == 1 for step in self.steps)

    @property
    def input(self) -> bytes:
        """All rows of input, packed."""
        return b"".join(step.input for step in self.steps)

    @property
    def output(self) -> bytes:
        """All rows of output, packed."""
        return b"".join(step.output for step in self.steps)

    def receipts(self, domain: DisputeDomain, *, own: bool = False) -> list[tuple[Receipt, bytes]]:
        """The chain of receipts with their signatures, all checked against the data and the peer's key.

        Those of one's `own` file are not checked again, which saves most of the time.

        Raises:
            BadReceipt: one does not belong to what is here.
            WireError, MarketError: the data do not have the rows that they should.
        """
        return _receipts(self.record, self.steps, domain, own=own)


@dataclass(frozen=True)
class Held:
    """A stage and its steps so far as its client holds them: some rows may have gone from provider to provider."""

    record: StageRecord
    steps: tuple[AuditStep | StepRoots, ...]

    @property
    def missing(self) -> list[int]:
        """Numbers of the steps some of whose rows are elsewhere, ascending."""
        return [step.seq for step in self.steps if isinstance(step, StepRoots)]

    def receipts(self, domain: DisputeDomain, *, own: bool = False) -> list[tuple[Receipt, bytes]]:
        """As those of a Transcript; of rows that are elsewhere the roots count that their provider signed."""
        return _receipts(self.record, self.steps, domain, own=own)

    def whole(self, found: Mapping[int, AuditStep] = MappingProxyType({})) -> Transcript | None:
        """The transcript, with the steps `found` elsewhere by their numbers; None while some are missing."""
        steps = [step if isinstance(step, AuditStep) else found.get(step.seq) for step in self.steps]
        whole = tuple(step for step in steps if step is not None)
        return Transcript(self.record, whole) if len(whole) == len(steps) else None


def _receipts(
    record: StageRecord, steps: Sequence[AuditStep | StepRoots], domain: DisputeDomain, *, own: bool
) -> list[tuple[Receipt, bytes]]:
    chain = ReceiptChain(record.stage, domain)
    node = address_of_peer(record.peer)
    found: list[tuple[Receipt, bytes]] = []
    for step in steps:
        if step.seq != len(found):
            raise WireError("seq", f"is {step.seq} where {len(found)} comes next")
        receipt = chain.next(step)
        if own:
            chain.follow(receipt)
        else:
            chain.accept(receipt, step.receipt, node)
        found.append((receipt, step.receipt))
    return found
