"""What somebody says who looked over a transcript, and how one asks for it.

All auditors run the stage's inputs again and say how far the outputs are from what was claimed. They differ in what
they cost and in whose word it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hypercluster.market.errors import MarketError, Overbilled
from hypercluster.market.money.budget import LimitReached
from hypercluster.market.trust.audit import Difference
from hypercluster.market.trust.receipt import Finding, Verdict
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.blame import REFUSALS, seen_in
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Transcript

if TYPE_CHECKING:
    from hypercluster.node.client.account import OutgoingAccount, Recipient
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.payer import Payer


class NoAuditor(NodeError):
    """Nobody is there who could audit this stage, or it cannot be paid, or the auditor has no time; then `wait` is in
    how many seconds it may have, 0 if nobody knows.
    """

    def __init__(self, sentence: str, wait: float = 0.0) -> None:
        super().__init__(sentence)
        self.wait = wait


class AuditFailed(NodeError):
    """An auditor did not do its work; this says nothing about the provider.

    `evidence` is what was seen of the auditor, where it is a peer.
    """

    def __init__(self, auditor: str, reason: str, evidence: Evidence | None = None) -> None:
        super().__init__(f"Auditor {auditor} failed: {reason}")
        self.auditor = auditor
        self.evidence = evidence


async def funded(payer: Payer, payee: Recipient, wei: int, spending: Spending) -> OutgoingAccount:
    """The account from which an auditor is paid `wei`.

    Raises:
        NoAuditor: a limit, an empty wallet or a silent chain is ours.
    """
    if refusal := spending.refusal(wei):
        raise NoAuditor(f"This audit is not paid: {refusal}")
    try:
        return (await payer.fund({payee: wei}))[payee]
    except (NodeError, MarketError) as error:
        raise NoAuditor(f"This audit cannot be paid: {error}") from error


@contextmanager
def asking(auditor: str) -> Iterator[None]:
    """Say of what goes wrong whose doing it is.

    Raises:
        NoAuditor: a limit of ours is reached, or it refused for a reason that is no evidence against it;
        AuditFailed: it did not do its work.
    """
    try:
        yield
    except NoAuditor:
        raise
    except LimitReached as refusal:
        raise NoAuditor(f"This audit is not paid: {refusal}") from refusal
    except (NodeError, MarketError) as error:
        if isinstance(error, HopFailed) and error.how is How.REFUSED and not REFUSALS[error.code].evidence:
            raise NoAuditor(f"Auditor {auditor} refused: {error.reason}", error.wait) from error
        other = Evidence.REFUSAL if isinstance(error, Overbilled) else Evidence.DEATH
        seen = seen_in(error) if isinstance(error, HopFailed) else other
        raise AuditFailed(auditor, str(error), seen) from error


@dataclass(frozen=True, slots=True)
class SignedVerdict:
    """A verifier's verdict, its signature, and the fingerprint that its hash stands for."""

    verdict: Verdict
    signature: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Opinion:
    """What an auditor found. `auditor` is its peer id, or "own"; `cost_wei` is what it was paid.

    `certain` is false for another provider's word: of two who differ, either may be wrong.
    """

    finding: Finding
    difference: Difference
    auditor: str
    cost_wei: int = 0
    certain: bool = True
    signed: SignedVerdict | None = None


class Auditor(Protocol):
    """Looks over transcripts."""

    async def audit(self, transcript: Transcript, avoid: Collection[str], spending: Spending) -> Opinion:
        """Look over a transcript, paid within `spending`; `avoid` names peers and operators that must not do it.

        Raises:
            NoAuditor: nobody can; AuditFailed: who should did not.
        """
