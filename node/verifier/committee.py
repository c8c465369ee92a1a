"""A verifier's part in committees: it draws them, judges the evidence, commits, reveals and resolves, by itself.

Everything that a commitment rests on (vote, fingerprint, salt) is in the ledger before the commitment is sent, so a
verifier that is killed goes on where it stood. Every step is tried again until its deadline; others do some of them
as well, and whoever comes second is told so by the contract and goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.chain.disputes import Phase, Vote, commitment_of
from hypercluster.market.errors import ChainError, MarketError, NodeUnreachable, Reverted
from hypercluster.market.ledger import Duty, DutyPhase, Ledger
from hypercluster.market.money.signing import address_bytes
from hypercluster.market.trust.fingerprint import digest, fingerprint, seed_of
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.transcript_store import NoTranscript, TranscriptStore
from hypercluster.node.replay.replayer import Judgement
from hypercluster.node.serving.refusals import Refused
from hypercluster.node.threads import Threads
from hypercluster.node.verifier.docket import Docket

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

VOTES = {Finding.PASS: Vote.INNOCENT, Finding.GREY: Vote.GREY, Finding.FAIL: Vote.GUILTY}
FRESH_SECONDS = 1.0
"""how often evidence that nobody awaits makes us look at the chain"""
LAST_QUARTER = 0.75
"""share of the time to commit after which a verifier no longer waits for evidence"""


class Committee:
    """The seats of one verifier. `work` is called every few seconds.

    Args:
        node: our node key's address; `sender` sends for it.
        judge: runs a transcript again; called in a thread.
        evidence: where transcripts of cases are kept.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        sender: Sender,
        ledger: Ledger,
        judge: Callable[[Transcript], Judgement],
        evidence: TranscriptStore,
        model_id: str,
        computing: Threads,
    ) -> None:
        self._chain, self._disputes, self._sender = chain, chain.disputes, sender
        self._judge, self._evidence, self._computing = judge, evidence, computing
        # Left alone when the node ends: what is sent is in the ledger before, and is looked up at the next start.
        self._on_chain = Threads(2, abandon=True)
        self._in_thread = Threads(2)
        self._docket = Docket(
            chain=chain,
            node=sender.address,
            ledger=ledger,
            model_id=model_id,
            on_chain=self._on_chain,
            in_thread=self._in_thread,
        )

    @property
    def node(self) -> str:
        """Address of our node key."""
        return self._sender.address

    async def work(self, *, within: float = 0.0) -> None:
        """Look at the chain and do whatever is due; what fails in one case holds up no other. `within` as in Rpc.tip.

        Raises ChainError; the next call tries again.
        """
        await self._docket.look(tip_within=within)
        failed: list[ChainError] = []
        due = [(duty.case_id, partial(self._serve, duty)) for duty in await self._docket.duties()]
        undrawn = [(case_id, partial(self._draw, case_id)) for case_id in self._docket.undrawn]
        for case_id, act in [*due, *undrawn]:
            try:
                await act()
            except NodeUnreachable:
                raise
            except Reverted as error:
                # Too late, or somebody else did it first: the next look at the case tells which.
                log.info("case %d: %s", case_id, error)
            except ChainError as error:
                log.warning("case %d: %s", case_id, error)
                failed.append(error)
        if failed:
            raise failed[0]

    def accuser_of(self, case_id: int) -> str:
        """Address of who opened a case, empty if it is closed or was not heard of yet."""
        return self._docket.accusers.get(case_id, "")

    async def expect(self, case_id: int, stage_hash: bytes) -> None:
        """Say whether evidence about a stage is awaited in a case; before any of it is read.

        Raises:
            Refused: we do not sit on it, have judged already, or it is about another stage.
        """
        await self._awaiting(case_id, stage_hash)

    async def take_evidence(self, case_id: int, transcript: Transcript) -> None:
        """Keep the evidence of a case that we sit on, if it is whole and signed by the accused.

        Raises:
            Refused: see `expect`.
            BadReceipt, WireError, MarketError: the evidence does not hold.
        """
        duty = await self._awaiting(case_id, transcript.record.stage.struct_hash())
        receipts = await self._in_thread(transcript.receipts, self._disputes.domain)
        if receipts[-1][0].struct_hash() != duty.receipt_hash:
            raise Refused(ErrorCode.BAD_REQUEST, f"The evidence is not that of case {case_id}.")
        await self._in_thread(self._evidence.keep, transcript)

    async def _awaiting(self, case_id: int, stage_hash: bytes) -> Duty:
        for look in (False, True):
            if look:
                # We may have been drawn since the last look.
                await self._docket.look(within=FRESH_SECONDS)
            for duty in await self._docket.duties():
                if (duty.case_id, duty.stage_hash, duty.phase) == (case_id, stage_hash, DutyPhase.DRAWN):
                    return duty
        raise Refused(
            ErrorCode.UNKNOWN_SESSION,
            f"This verifier awaits no such evidence in case {case_id}.",
            wait=FRESH_SECONDS,
        )

    async def _draw(self, case_id: int) -> None:
        """Bring a case on that has no committee. A draw may take several calls."""
        case = await self._on_chain(self._disputes.cases.state, case_id)
        if case.phase is not Phase.DRAWING:
            self._docket.undrawn.pop(case_id, None)
        elif case.deadline < time.time():
            await self._send(self._disputes.cases.resolve, case_id, [])
        elif await self._on_chain(self._chain.block_number) >= case.draw_block:
            await self._send(self._disputes.cases.draw, case_id)

    async def _resolve(self, case_id: int, members: Sequence[str]) -> None:
        """Close a case; before it, one about the same stage that was opened earlier and keeps it from convicting."""
        try:
            await self._send(self._disputes.cases.resolve, case_id, members)
        except Reverted as error:
            if error.name != "EarlierCase":
                raise
            earlier = int(str(error.args_by_name["caseId"]))
            state = await self._on_chain(self._disputes.cases.state, earlier)
            if state.may_resolve(time.time()):
                log.warning("case %d waits for case %d, which is over", case_id, earlier)
                await self._send(self._disputes.cases.resolve, earlier, self._docket.benches.get(earlier, ()))

    async def _serve(self, duty: Duty) -> None:
        case = await self._on_chain(self._disputes.cases.state, duty.case_id)
        if case.phase is Phase.NONE:
            # A node that lags behind, or the block of its opening is gone: whichever it is, the next look tells.
            return
        if case.receipt_hash != duty.receipt_hash:
            # What we know of it, and may have voted, is about the work of somebody else.
            await self._docket.drop(duty, "a reorganisation gave its number to another receipt")
            return
        if case.phase is Phase.CLOSED:
            await self._docket.save(replace(duty, phase=DutyPhase.RESOLVED))
            return
        now = time.time()
        if duty.phase == DutyPhase.DRAWN:
            judged = await self._vote(duty, case.deadline, case.commit_seconds, now)
            if judged is None:
                return
            await self._docket.save(judged)
            duty = judged
        if duty.phase == DutyPhase.JUDGED and not case.may_reveal(now):
            await self._commit(duty)
        elif duty.phase in (DutyPhase.JUDGED, DutyPhase.COMMITTED) and case.may_reveal(now):
            # A commitment may be on chain though we never heard that it is: then it can be revealed.
            await self._reveal(duty)
        elif case.may_resolve(now):
            await self._resolve(duty.case_id, duty.members)

    async def _vote(self, duty: Duty, deadline: int, seconds: int, now: float) -> Duty | None:
        """The duty with our vote; None while we still wait for the evidence."""
        if self._docket.is_foreign(duty.case_id):
            log.warning("case %d is about a model that is not here", duty.case_id)
            return replace(duty, phase=DutyPhase.JUDGED, vote=int(Vote.GREY))
        transcript = await self._in_thread(self._whole_evidence, duty)
        if transcript is None:
            if now < deadline - (1 - LAST_QUARTER) * seconds:
                return None
            log.warning("no evidence arrived in case %d", duty.case_id)
            return replace(duty, phase=DutyPhase.JUDGED, vote=int(Vote.UNSERVED))
        try:
            judgement = await self._computing(self._judge, transcript)
        except NodeError as error:
            # Nobody is punished for what cannot be run again.
            log.warning("the evidence of case %d cannot be judged: %s", duty.case_id, error)
            return replace(duty, phase=DutyPhase.JUDGED, vote=int(Vote.GREY))
        seed = seed_of(address_bytes(self.node), duty.case_id.to_bytes(32, "big"))
        vote = VOTES[judgement.finding]
        log.warning("case %d: %s (%s)", duty.case_id, vote.name, judgement.difference)
        return replace(
            duty,
            phase=DutyPhase.JUDGED,
            vote=int(vote),
            fingerprint=digest(fingerprint(judgement.rows, seed)),
        )

    def _whole_evidence(self, duty: Duty) -> Transcript | None:
        """The evidence up to the receipt on trial, if it is here."""
        try:
            transcript = self._evidence.load(duty.stage_hash)
            receipts = transcript.receipts(self._disputes.domain, own=True)
        except (NoTranscript, MarketError):
            return None
        whole = receipts and receipts[-1][0].struct_hash() == duty.receipt_hash
        return transcript if whole else None

    async def _commit(self, duty: Duty) -> None:
        assert duty.vote is not None
        commitment = commitment_of(duty.case_id, self.node, duty.vote, duty.fingerprint, duty.salt)
        try:
            await self._send(self._disputes.cases.commit, duty.case_id, duty.seat, commitment)
        except Reverted as error:
            # A seat is taken by its commitment: ours was mined, and the answer was lost or we were killed.
            if error.name != "NotMember":
                raise
        await self._docket.save(replace(duty, phase=DutyPhase.COMMITTED))

    async def _reveal(self, duty: Duty) -> None:
        assert duty.vote is not None
        try:
            await self._send(
                self._disputes.cases.reveal, duty.case_id, duty.seat, duty.vote, duty.fingerprint, duty.salt
            )
        except Reverted as error:
            if error.name != "BadReveal":
                raise
            # Revealed before, unknown to us, or never committed: either way nothing is left to show.
            log.warning("nothing to reveal in case %d", duty.case_id)
        else:
            log.warning("revealed in case %d", duty.case_id)
        await self._docket.save(replace(duty, phase=DutyPhase.REVEALED))

    async def _send(
        self, function: Callable[Concatenate[Sender, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        return await self._on_chain(partial(function, self._sender, *arguments, **named))
