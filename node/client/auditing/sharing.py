"""What a client tells others of the faults that it found, and what it hears of theirs."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.market.trust import hearsay
from hypercluster.market.trust.receipt import Finding
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.rumour import contradiction, testified
from hypercluster.node.wire.records import StageRecord
from hypercluster.node.wire.rumours import Rumour, Testimony

if TYPE_CHECKING:
    from hypercluster.market.ledger import Ledger
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.client.auditing.opinion import Opinion
    from hypercluster.node.client.auditing.recall import Equivocation
    from hypercluster.node.client.auditing.verifier import VerifierAuditor
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.evidence.rumour import Claim
    from hypercluster.node.evidence.transcript import Transcript
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.rumours import Heard

log = logging.getLogger(__name__)


class Sharing(StrEnum):
    """What a client tells others: nothing, what proves itself, or failed audits as well."""

    NONE = "none"
    PROOFS = "proofs"
    ALL = "all"


class Sharer:
    """Tells everybody who follows the model of faults, as far as `what` goes. Never raises for what peers do."""

    def __init__(
        self, what: Sharing, discovery: Discovery, domain: DisputeDomain, verifiers: VerifierAuditor
    ) -> None:
        self.what = what
        self._discovery, self._domain, self._verifiers = discovery, domain, verifiers

    async def contradiction(self, record: StageRecord, operator: str, proof: Equivocation) -> None:
        """Show two receipts for one step."""
        if self.what is Sharing.NONE:
            return
        first, second = (proof.first, proof.first_signature), (proof.second, proof.second_signature)
        await self._spread(contradiction(record, operator, first, second))

    async def failure(
        self, transcript: Transcript, operator: str, opinion: Opinion, spending: Spending
    ) -> int:
        """Show that a verifier failed the first step of a stage, if it did; returns what that cost, in wei.

        Only a verdict over a single step is tied to what the provider signed (node/evidence/rumour.py), so the first
        of several is audited once more by the same verifier, paid within `spending`.
        """
        verifier = self._discovery.book.get(opinion.auditor)
        failed = opinion.finding is Finding.FAIL and opinion.signed is not None
        if self.what is not Sharing.ALL or not failed or verifier is None:
            return 0
        before = spending.spent_wei
        if len(transcript.steps) > 1:
            transcript = replace(transcript, steps=transcript.steps[:1])
            try:
                opinion = await self._verifiers.ask(verifier, transcript, spending)
            except (NodeError, MarketError) as error:
                log.info("the fault is not told to others: %s", error)
                return spending.spent_wei - before
        if opinion.finding is not Finding.FAIL or opinion.signed is None:
            return spending.spent_wei - before
        verdict = opinion.signed.verdict
        said = Testimony(
            witness=verifier.operator,
            verifier=verifier.peer,
            tail=verdict.tail,
            tolerance=verdict.tolerance,
            fingerprint=verdict.fingerprint,
            job=verdict.job,
            issued=verdict.issued,
            signature=opinion.signed.signature,
        )
        (receipt,) = transcript.receipts(self._domain)
        await self._spread(testified(transcript.record, operator, receipt, said))
        return spending.spent_wei - before

    async def _spread(self, rumour: Rumour) -> None:
        try:
            await self._discovery.spread(rumour)
        except (NodeError, MarketError) as error:
            log.info("the fault of %s is not told to others: %s", rumour.peer, error)


def into(ledger: Ledger) -> Heard:
    """Writes what is heard into the ledger: a proof as evidence of a lie, once, and anybody's word as hearsay."""

    async def heard(claim: Claim, share: float) -> None:
        now = datetime.now(UTC)
        rumour = hearsay.Rumour(claim.operator, claim.witness, share, now)
        trust = ledger.trust
        new = await trio.to_thread.run_sync(trust.hear, rumour, claim.peer)
        if claim.proven and new:
            note = "It signed one step twice, over different data, as others showed."
            await trio.to_thread.run_sync(trust.record, claim.peer, claim.operator, Evidence.LIE, now, note)

    return heard
