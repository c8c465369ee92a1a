"""One verifier put to the test with a planted fault, and what its answers prove.

It is shown the planted transcript alone, as any other, and the true one only once it has passed that: who gets both
knows that one of them is planted, and needs to compute only then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from hypercluster.market.trust import merkle
from hypercluster.market.trust.receipt import Finding
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.auditing.opinion import AuditFailed, NoAuditor
from hypercluster.node.rows import WireDtype

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.client.auditing.opinion import Opinion, SignedVerdict
    from hypercluster.node.client.auditing.traps import Planted
    from hypercluster.node.client.auditing.verifier import VerifierAuditor
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.evidence.transcript import Transcript


class Answer(Enum):
    """What a verifier made of a planted fault: found it, does not say, or passed it; the last is no proof where its
    tolerance is so wide that it may pass both.
    """

    FOUND = "found"
    DOUBTED = "doubted"
    TOO_COARSE = "too coarse"
    MISSED = "missed"


TRAP = "trap: "
"""begins the note on an audit that was a test of the auditor"""
_WORDS = {
    Answer.FOUND: "the verifier found the planted fault",
    Answer.DOUBTED: "the verifier is in doubt about a planted fault",
    Answer.TOO_COARSE: "the verifier passed a planted fault, within a tolerance that is too wide to tell",
    Answer.MISSED: "the verifier did not find the planted fault",
}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two passes of one verifier for one input, and the row in which they differ, with its Merkle proofs."""

    first: SignedVerdict
    second: SignedVerdict
    row: int
    first_row: tuple[bytes, list[bytes]]
    second_row: tuple[bytes, list[bytes]]


@dataclass(frozen=True, slots=True)
class Trial:
    """How a verifier did with what it was shown, and what it was paid. `proof` is for the chain, where there is one."""

    answer: Answer
    shown: Transcript
    cost_wei: int
    proof: Contradiction | None = None

    @property
    def evidence(self) -> Evidence:
        """What it says of the verifier. Who is paid and is of no use is taken as one that refused."""
        if self.answer is Answer.MISSED:
            return Evidence.LIE
        return Evidence.AUDIT_PASSED if self.answer is Answer.FOUND else Evidence.REFUSAL

    @property
    def note(self) -> str:
        """The same in words."""
        return f"{TRAP}{_WORDS[self.answer]}"


async def put_to_the_test(
    verifiers: VerifierAuditor,
    verifier: Advert,
    transcript: Transcript,
    planted: Planted,
    spending: Spending,
    *,
    is_tail: bool,
) -> Trial:
    """Show a verifier a planted transcript, and if it passes that the true one, paid within `spending`.

    Raises NoAuditor, AuditFailed: it did not answer the first time.
    """
    before = spending.spent_wei
    said = await verifiers.ask(verifier, planted.transcript, spending)
    trial = partial(Trial, shown=planted.transcript)
    if said.finding is not Finding.PASS or said.signed is None:
        found = said.finding is Finding.FAIL
        return trial(Answer.FOUND if found else Answer.DOUBTED, cost_wei=said.cost_wei)
    if not planted.refutes(said.signed.verdict.tolerance):
        return trial(Answer.TOO_COARSE, cost_wei=said.cost_wei)
    try:
        true = await verifiers.ask(verifier, transcript, spending)
    except (NoAuditor, AuditFailed):
        # What came may be of no use and was paid all the same.
        return trial(Answer.MISSED, cost_wei=spending.spent_wei - before)
    # The contract has no measure for candidates, and reads no blocks.
    proven = not is_tail and transcript.record.wire_dtype is not WireDtype.Q8
    proof = None if not proven else _contradiction(transcript, planted, true, said)
    return trial(Answer.MISSED, cost_wei=said.cost_wei + true.cost_wei, proof=proof)


def _contradiction(
    transcript: Transcript, planted: Planted, true: Opinion, said: Opinion
) -> Contradiction | None:
    first, second = true.signed, said.signed
    if true.finding is not Finding.PASS or first is None or second is None:
        return None
    tolerance = max(first.verdict.tolerance, second.verdict.tolerance)
    if not planted.refutes(tolerance):
        return None
    tables = [merkle.split_rows(each.output, each.outputs) for each in (transcript, planted.transcript)]
    shown = [(table[planted.row], merkle.proof(table, planted.row)) for table in tables]
    return Contradiction(first, second, planted.row, shown[0], shown[1])
