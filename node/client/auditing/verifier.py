"""An audit by a staked verifier."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from hypercluster.market.advert import Advert
from hypercluster.market.errors import InvalidSignature
from hypercluster.market.money.signing import address_bytes
from hypercluster.market.trust.audit import Difference
from hypercluster.market.trust.fingerprint import BadFingerprint, digest, distance, seed_of
from hypercluster.market.trust.receipt import DisputeDomain, Finding
from hypercluster.node.client.account import Recipient
from hypercluster.node.client.auditing.delivery import delivering, opening_for
from hypercluster.node.client.auditing.opinion import NoAuditor, Opinion, SignedVerdict, asking, funded
from hypercluster.node.client.exchanging import HopFailed, How, check_quote, exchange
from hypercluster.node.errors import ErrorCode
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.verdicts import verdict_on
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.connection import Connection
from hypercluster.node.replay.comparing import claimed_numbers
from hypercluster.node.wire.audit import AuditEnd, AuditOpen, AuditVerdict

if TYPE_CHECKING:
    from hypercluster.market.trust.standing import Standing
    from hypercluster.node.client.account import OutgoingAccount
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.payer import Payer
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.host import Host

VERDICT_SECONDS = 600.0
MOST_WAIT_SECONDS = 15.0
"""that a verifier without time is waited for"""
CONTRADICTION = 0.25
"""distance between claimed outputs and a passing verifier's own fingerprint that no honest pass explains"""


class VerifierAuditor:
    """A staked verifier, paid per token over a channel; its verdict is signed."""

    def __init__(
        self,
        host: Host,
        discovery: Discovery,
        payer: Payer,
        domain: DisputeDomain,
        *,
        layers: int,
        width: int,
        standings: Callable[[], Mapping[str, Standing]],
    ) -> None:
        self._standings = standings
        self._host, self._discovery, self._payer, self._domain = host, discovery, payer, domain
        self._layers, self._width = layers, width

    def verifiers(self, avoid: Collection[str] = ()) -> list[Advert]:
        """Those that are free, the cheapest first, without the peers and operators in `avoid`."""
        found = [
            advert
            for advert in self._discovery.book.snapshot("verifier")
            if advert.free > 0 and not {advert.peer, advert.operator} & set(avoid)
        ]
        return sorted(found, key=lambda advert: (advert.price_wei, advert.peer))

    def operator_of(self, peer: str) -> str:
        """The operator of a verifier that is known, else the peer itself."""
        advert = self._discovery.book.get(peer)
        return advert.operator if advert else peer

    def pick(self, avoid: Collection[str] = ()) -> Advert | None:
        """One drawn among the cheapest, without the peers and operators in `avoid`, nor whom we distrust.

        Who is likely not to answer is taken only where there is nobody else.
        """
        standings = self._standings()
        distrusted = {whose for whose, each in standings.items() if each.reputation.distrusted}
        found = self.verifiers({*avoid, *distrusted})
        answering = [
            a for a in found if a.operator not in standings or not standings[a.operator].of(a.peer).silent
        ]
        found = answering or found
        return secrets.choice([a for a in found if a.price_wei == found[0].price_wei]) if found else None

    async def audit(self, transcript: Transcript, avoid: Collection[str], spending: Spending) -> Opinion:
        """Have it run by a verifier drawn among the cheapest; another one is asked where it has no time, and the same
        again after the time that it names where there is no other. Raises NoAuditor, AuditFailed.
        """
        passed_over: set[str] = set()
        for last in (False, False, True):
            verifier = self.pick({*avoid, transcript.record.peer, *passed_over})
            if verifier is None:
                raise NoAuditor("No verifier offers to audit this model.")
            try:
                return await self.ask(verifier, transcript, spending)
            except NoAuditor as error:
                if last or not error.wait:
                    raise
                passed_over.add(verifier.peer)
                if self.pick({*avoid, transcript.record.peer, *passed_over}) is None:
                    passed_over.clear()
                    await trio.sleep(min(error.wait, MOST_WAIT_SECONDS))
        raise AssertionError("the last attempt returns or raises")

    async def ask(self, verifier: Advert, transcript: Transcript, spending: Spending) -> Opinion:
        """Have it run by this verifier. Raises NoAuditor, AuditFailed."""
        with asking(verifier.peer):
            return await self._ask(verifier, transcript, spending)

    async def _ask(self, verifier: Advert, transcript: Transcript, spending: Spending) -> Opinion:
        record = transcript.record
        payee = Recipient(verifier.operator, address_of_peer(verifier.peer))
        cost = transcript.tokens * verifier.price_wei
        account = await funded(self._payer, payee, cost, spending)
        job = secrets.token_bytes(32)
        opening = opening_for(transcript, job[:16], account.descriptor, verifier.price_wei)
        opened = AuditOpen(opening, job, record.profile)
        async with delivering(self._host, verifier, opened) as (connection, accepted):
            check_quote(accepted, opening, verifier, account)
            account.resume(accepted.billed_wei, accepted.paid_wei, accepted.paid_signature)
            # All of it is set aside at once: half an audit would be paid for nothing.
            with spending.step(cost):
                answer = await self._send(connection, verifier, account, transcript, spending)
        return self._opinion(verifier, transcript, job, answer, cost)

    async def _send(
        self,
        connection: Connection,
        verifier: Advert,
        account: OutgoingAccount,
        transcript: Transcript,
        spending: Spending,
    ) -> AuditVerdict:
        """Send everything with its vouchers, and return the verdict."""
        sent = 0
        try:
            for step in transcript.steps:
                cumulative, signature = account.authorise(step.rows * verifier.price_wei, spending)
                sent += step.rows * verifier.price_wei
                paid = replace(step, issued=0, receipt=b"", cumulative_wei=cumulative, voucher=signature)
                await connection.send(paid, VERDICT_SECONDS)
            answer = await exchange(connection, verifier.peer, AuditEnd(), VERDICT_SECONDS)
            if not isinstance(answer, AuditVerdict):
                raise HopFailed(verifier.peer, f"it answered with {type(answer).__name__}.")
        except BaseException as error:
            account.release(sent, spending)
            if isinstance(error, HopFailed):
                # It took the job, and was paid: a refusal comes too late.
                how = How.BROKE if error.how is How.REFUSED else error.how
                raise HopFailed(error.peer, error.reason, error.code, how) from error
            raise
        account.acknowledge(sent, answer.billed_wei, spending)
        return answer

    def _opinion(
        self, verifier: Advert, transcript: Transcript, job: bytes, answer: AuditVerdict, cost: int
    ) -> Opinion:
        """Check that the verdict is signed over what was sent, and does not contradict its own fingerprint."""
        node = address_of_peer(verifier.peer)
        verdict = verdict_on(
            transcript,
            finding=answer.finding,
            tolerance=answer.tolerance,
            fingerprint_digest=digest(answer.fingerprint),
            job=job,
            issued=answer.issued,
            layers=self._layers,
        )
        try:
            signer = self._domain.recover(verdict.struct_hash(), answer.signature)
        except InvalidSignature:
            signer = ""
        if signer != node or abs(answer.issued - time.time()) > VERDICT_SECONDS:
            raise HopFailed(
                verifier.peer,
                "its verdict is not signed by its node key over this audit.",
                ErrorCode.BAD_SIGNATURE,
            )
        claimed = claimed_numbers(transcript, self._width, transcript.record.layer_stop == self._layers)
        try:
            apart = distance(answer.fingerprint, claimed, seed_of(address_bytes(node), job))
        except BadFingerprint as error:
            raise HopFailed(verifier.peer, f"{error}") from None
        if answer.finding is Finding.PASS and apart > CONTRADICTION:
            raise HopFailed(
                verifier.peer,
                f"it passes outputs that are {apart:.0%} off those that it fingerprinted itself.",
                ErrorCode.BAD_SHAPE,
            )
        difference = Difference(
            answer.median_error, answer.max_error, answer.agreement, answer.exact, transcript.outputs
        )
        signed = SignedVerdict(verdict, answer.signature, answer.fingerprint)
        return Opinion(answer.finding, difference, verifier.peer, cost, signed=signed)
