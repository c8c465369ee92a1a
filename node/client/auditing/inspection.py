"""After a completion: which of its stages are audited, by whom, and what follows from what is found."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.market.ledger import Ledger
from hypercluster.market.trust.audit import is_sampled
from hypercluster.market.trust.receipt import DisputeDomain, Finding
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.auditing.consulting import Confirmed, Consulting
from hypercluster.node.client.auditing.fetching import shown_again
from hypercluster.node.client.auditing.opinion import AuditFailed, Auditor, NoAuditor, Opinion
from hypercluster.node.client.auditing.policy import Policy, Report, Served
from hypercluster.node.client.auditing.recall import Equivocation, NotShown
from hypercluster.node.client.auditing.reports import Reports
from hypercluster.node.client.auditing.trial import TRAP, Answer, put_to_the_test
from hypercluster.node.client.auditing.verifier import VerifierAuditor
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Held, Transcript
from hypercluster.node.evidence.transcript_store import NoTranscript, TranscriptStore

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.client.auditing.accuser import Accuser
    from hypercluster.node.client.auditing.planting import Planter
    from hypercluster.node.client.auditing.reporter import Ruling
    from hypercluster.node.client.auditing.sharing import Sharer
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.host import Host

log = logging.getLogger(__name__)


class Inspector:
    """Audits the stages of one client's completions.

    Args:
        secret: 32 bytes that decide who is audited; never leave the process.
        auditor: who looks things over; `verifiers` as well, for second opinions and traps, if there are any, and
            `own` where a verifier's word alone is not enough.
        planter: has the faults of traps computed.
        accuser: takes faults to the chain; None where there is no wallet.
        sharer: tells others of them.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        secret: bytes,
        auditor: Auditor,
        verifiers: VerifierAuditor,
        planter: Planter,
        own: Callable[[], Auditor],
        accuser: Accuser | None,
        sharer: Sharer,
        transcripts: TranscriptStore,
        ledger: Ledger,
        host: Host,
        discovery: Discovery,
        domain: DisputeDomain,
        layers: int,
        width: int,
    ) -> None:
        self.policy = policy
        self._secret, self._auditor, self._verifiers, self.accuser = secret, auditor, verifiers, accuser
        self._consulting = Consulting(auditor, verifiers, own, self._note)
        self._sharer, self._planter = sharer, planter
        self._transcripts, self._ledger = transcripts, ledger
        self._reports = Reports(ledger, secret, layers=layers, width=width)
        self._host, self._discovery, self._domain = host, discovery, domain
        self._layers = layers

    def sampled(self, hops: Sequence[Hop]) -> list[Served]:
        """Those whose stages are to be audited, as the secret picks them among all but the trusted."""
        rate, trusted = self.policy.rate, self.policy.trusted
        return [
            Served(hop.record.stage.struct_hash(), hop.advert.operator, hop.advert)
            for hop in hops
            if hop.receipts.last is not None
            and hop.advert.operator.lower() not in trusted
            and is_sampled(self._secret, hop.receipts.previous, rate)
        ]

    async def inspect(
        self,
        stages: Sequence[Served],
        spending: Spending,
        on_stage: Callable[[Sequence[Report]], Awaitable[None]],
    ) -> None:
        """Audit stages, paid within `spending`, and act on what is found; each is told of as soon as it is done.

        Never raises for what peers do.
        """
        for stage in stages:
            reports: list[Report] = []
            try:
                held = await trio.to_thread.run_sync(self._transcripts.held, stage.stage_hash)
            except NoTranscript as error:
                log.warning("%s", error)
            else:
                reports = await self._look_into(held, stage, spending.within())
            await on_stage(reports)
        await trio.to_thread.run_sync(self._transcripts.prune)

    async def _look_into(self, held: Held, stage: Served, spending: Spending) -> list[Report]:
        operator = stage.operator
        transcript = await self._whole(held, stage)
        if isinstance(transcript, Report):
            return [transcript]
        reports: list[Report] = []
        before = 0
        try:
            tested = None if stage.advert is None else await self._tested(transcript, stage.advert, spending)
            if tested is not None:
                reports, before = [tested], spending.spent_wei
                if tested.fault:
                    return reports
            opinion = await self._consulting.opinion(
                transcript, operator, spending, tested.auditor if tested else ""
            )
            confirmed = await self._confirmed(transcript, operator, opinion, spending)
            cost = confirmed.cost_wei
            if confirmed.finding is Finding.FAIL:
                cost += await self._sharer.failure(transcript, operator, opinion, spending)
            opinion = replace(opinion, cost_wei=opinion.cost_wei + cost, finding=confirmed.finding)
            return [*reports, await self._act_on(transcript, operator, opinion, confirmed)]
        except (NoAuditor, AuditFailed) as error:
            # Also a verifier whose fingerprint contradicts its verdict ends here.
            fault = ""
            if isinstance(error, AuditFailed):
                fault = error.auditor
                await self._consulting.blame(error)
            cost = spending.spent_wei - before
            report = await self._reports.write(
                transcript, operator, "error", note=str(error), fault=fault, cost=cost
            )
            return [*reports, report]

    async def _whole(self, held: Held, stage: Served) -> Transcript | Report:
        """The transcript with all of its rows, once the provider has shown some of it again; or the report, where it
        shows something else, or what is not to be had elsewhere it does not.
        """
        operator, whole = stage.operator, held.whole()
        try:
            found = await shown_again(self._host, stage.advert, held, self._domain)
        except NotShown as error:
            log.info("%s", error)
            if stage.advert is not None:
                await self._note(held.record.peer, operator, error.evidence, str(error))
            return whole or await self._reports.write(held, operator, "error", note=str(error))
        if isinstance(found, Equivocation):
            return await self._contradicted(held, operator, found)
        if whole is None:
            # A case that is taken up after a restart needs it whole.
            await trio.to_thread.run_sync(self._transcripts.fill, found, held.missing)
        return found

    async def _contradicted(self, held: Held, operator: str, found: Equivocation) -> Report:
        note = f"It signed step {found.first.seq} twice, over different data."
        await self._note(held.record.peer, operator, Evidence.LIE, note)
        ruling = await self._dispute(partial(_equivocation, found))
        # The chain first: it rewards who shows it there first.
        await self._sharer.contradiction(held.record, operator, found)
        return await self._reports.write(
            held,
            operator,
            "fail",
            note=note,
            fault=held.record.peer,
            ruling=ruling,
            auditor="own",
        )

    async def _confirmed(
        self, transcript: Transcript, operator: str, opinion: Opinion, spending: Spending
    ) -> Confirmed:
        """What is left of a finding of a fault, before a bond is put on it."""
        one_word = opinion.finding is Finding.FAIL and opinion.signed is not None
        if not one_word or self.accuser is None or not self.policy.disputes:
            return Confirmed(opinion.finding)
        confirmed = await self._consulting.confirm(transcript, operator, opinion, spending)
        for auditor in confirmed.overruled:
            await self._note(auditor, "", Evidence.AUDIT_GREY, "It differed from two verifiers.")
        return confirmed

    async def _act_on(
        self, transcript: Transcript, operator: str, opinion: Opinion, confirmed: Confirmed
    ) -> Report:
        peer, finding = transcript.record.peer, opinion.finding
        if finding is Finding.FAIL and not opinion.certain:
            finding = Finding.GREY
        kind = {
            Finding.PASS: Evidence.AUDIT_PASSED,
            Finding.GREY: Evidence.AUDIT_GREY,
            Finding.FAIL: Evidence.LIE,
        }[finding]
        off = opinion.difference
        note = f"median error {off.median:.1e}, largest {off.maximum:.1e}, agreement {off.agreement:.2f}"
        if confirmed.note:
            note = f"{confirmed.note} {note}"
        await self._note(peer, operator, kind, note)
        if opinion.signed:
            await self._note(opinion.auditor, "", Evidence.SERVED, "It audited.")
        ruling = None
        if finding is Finding.FAIL and confirmed.sure:
            ruling = await self._dispute(lambda accuser: accuser.accuse(transcript))
        return await self._reports.write(
            transcript,
            operator,
            finding.name.lower(),
            note=note,
            auditor=opinion.auditor,
            cost=opinion.cost_wei,
            fault=peer if finding is Finding.FAIL else "",
            difference=off,
            ruling=ruling,
        )

    # --- traps ------------------------------------------------------------------------------------------------

    async def _tested(self, transcript: Transcript, provider: Advert, spending: Spending) -> Report | None:
        """In some of the audits by verifiers one is tested with a planted fault first; the report names it as the
        fault if it surely does not compute.
        """
        if (
            not isinstance(self._auditor, VerifierAuditor)
            or secrets.randbelow(2**32) >= self.policy.traps * 2**32
        ):
            return None
        verifier = self._verifiers.pick({provider.operator, provider.peer})
        if verifier is None:
            return None
        fault, cost = await self._planter.plant(transcript, provider, spending)
        if fault is None and not cost:
            return None
        if fault is None:
            note = f"{TRAP}no fault came of it"
            return await self._reports.write(transcript, provider.operator, "error", note=note, cost=cost)
        is_tail = transcript.record.layer_stop == self._layers
        trial = await put_to_the_test(self._verifiers, verifier, transcript, fault, spending, is_tail=is_tail)
        await self._note(verifier.peer, verifier.operator, trial.evidence, trial.note)
        ruling = None
        if (proof := trial.proof) is not None:
            rows = proof.row, proof.first_row, proof.second_row
            ruling = await self._dispute(
                lambda who: who.prove_contradiction(proof.first, proof.second, *rows)
            )
        missed = trial.answer is Answer.MISSED
        return await self._reports.write(
            trial.shown,
            provider.operator,
            "fail" if missed else "pass" if trial.answer is Answer.FOUND else "grey",
            note=trial.note,
            auditor=verifier.peer,
            cost=cost + trial.cost_wei,
            fault=verifier.peer if missed else "",
            ruling=ruling,
        )

    # --- what follows -----------------------------------------------------------------------------------------

    async def _dispute(self, act: Callable[[Accuser], Awaitable[Ruling]]) -> Ruling | None:
        """Take it to the chain, if that is wanted and possible."""
        if self.accuser is None or not self.policy.disputes:
            return None
        try:
            ruling = await act(self.accuser)
        except (NodeError, MarketError) as error:
            log.warning("the fault could not be taken to the chain: %s", error)
            return None
        log.warning("case %s: %s, %d wei slashed", ruling.case_id, ruling.outcome, ruling.slashed_wei)
        return ruling

    async def _note(self, peer: str, operator: str, kind: Evidence, note: str) -> None:
        advert = self._discovery.book.get(peer)
        whose = operator or (advert.operator if advert else "")
        await trio.to_thread.run_sync(
            partial(self._ledger.trust.record, peer, whose, kind, datetime.now(UTC), note)
        )


async def _equivocation(proof: Equivocation, accuser: Accuser) -> Ruling:
    return await accuser.prove_equivocation(proof)
