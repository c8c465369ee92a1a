"""What is written down of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hypercluster.market.ledger import AuditRecord, Ledger
from hypercluster.market.trust.fingerprint import fingerprint
from hypercluster.node.client.auditing.policy import Report
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Held, Transcript
from hypercluster.node.replay.comparing import claimed_numbers

if TYPE_CHECKING:
    from hypercluster.market.trust.audit import Difference
    from hypercluster.node.client.auditing.reporter import Ruling


class Reports:
    """Writes audits into the ledger, with fingerprints of what was claimed under a secret of 32 bytes."""

    def __init__(self, ledger: Ledger, secret: bytes, *, layers: int, width: int) -> None:
        self._ledger, self._secret = ledger, secret
        self._layers, self._width = layers, width

    async def write(
        self,
        transcript: Transcript | Held,
        operator: str,
        finding: str,
        *,
        note: str,
        auditor: str = "",
        cost: int = 0,
        fault: str = "",
        difference: Difference | None = None,
        ruling: Ruling | None = None,
    ) -> Report:
        """Write an audit of a stage down, paid with `cost` wei, and return the report on it."""
        record = transcript.record
        tokens = sum(step.rows for step in transcript.steps)
        generated = sum(step.rows == 1 for step in transcript.steps)
        row = AuditRecord(
            stage_hash=record.stage.struct_hash(),
            session=record.session,
            peer=record.peer,
            operator=operator,
            model_id=record.model_id,
            layer_start=record.layer_start,
            layer_stop=record.layer_stop,
            tokens=tokens,
            generated=generated,
            auditor=auditor or "-",
            finding=finding,
            median_error=difference.median if difference else None,
            max_error=difference.maximum if difference else None,
            agreement=difference.agreement if difference else None,
            exact=difference.exact if difference else False,
            cost=cost,
            fingerprint=self._fingerprint(transcript),
            note=note,
            case_id=ruling.case_id if ruling else None,
        )
        await trio.to_thread.run_sync(self._ledger.trust.save_audit, row)
        return Report(
            peer=record.peer,
            operator=operator,
            layer_start=record.layer_start,
            layer_stop=record.layer_stop,
            tokens=tokens,
            generated=generated,
            finding=finding,
            auditor=auditor,
            cost_wei=cost,
            note=note,
            fault=fault,
            difference=difference,
            ruling=ruling,
        )

    def _fingerprint(self, transcript: Transcript | Held) -> bytes:
        """Of what was claimed, under our secret: it outlives the tensors and still tells what they were."""
        if isinstance(transcript, Held):
            return b""
        is_tail = transcript.record.layer_stop == self._layers
        try:
            return fingerprint(claimed_numbers(transcript, self._width, is_tail), self._secret)
        except NodeError:
            return b""
