"""Who looks over a transcript for a client: its own shard, another provider of the same layers, or a verifier.

All of them run the stage's inputs again and say how far the outputs are from what was claimed. They differ in what
they cost and in whose word it is.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import trio

from hypercluster.market.advert import Advert
from hypercluster.market.errors import InvalidSignature, MarketError
from hypercluster.market.money.signing import address_bytes
from hypercluster.market.trust.audit import Bounds, Difference
from hypercluster.market.trust.fingerprint import BadFingerprint, digest, distance, seed_of
from hypercluster.market.trust.receipt import DisputeDomain, Finding, Verdict
from hypercluster.node.client.hop import Hop, HopFailed, check_quote, exchange
from hypercluster.node.client.payer import Payee
from hypercluster.node.client.pipeline import Pipeline
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.verdicts import verdict_on
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.replay.replayer import WIDER, Judgement, Replayer, claimed_numbers, judge_against
from hypercluster.node.rows import TopK, unpack_tokens
from hypercluster.node.wire.audit import AUDIT_PROTOCOL, AuditEnd, AuditOpen, AuditVerdict
from hypercluster.node.wire.messages import Accept, Open, frame_bound

if TYPE_CHECKING:
    from hypercluster.node.client.payer import Account, Payer
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.host import Host

OPEN_SECONDS = 15.0
VERDICT_SECONDS = 600.0
MOST_CANDIDATES = 1024
"""that a provider gives"""
CONTRADICTION = 0.25
"""distance between claimed outputs and a passing verifier's own fingerprint that no honest pass explains"""


class NoAuditor(NodeError):
    """Nobody is there who could audit this stage."""


class AuditFailed(NodeError):
    """An auditor did not do its work; this says nothing about the provider."""

    def __init__(self, auditor: str, reason: str) -> None:
        super().__init__(f"Auditor {auditor} failed: {reason}")
        self.auditor = auditor


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

    async def audit(self, transcript: Transcript, avoid: Collection[str] = ()) -> Opinion:
        """Look over a transcript; `avoid` names peers and operators that must not do it.

        Raises:
            NoAuditor: nobody can; AuditFailed: who should did not.
        """


class OwnAuditor:
    """The client's own shard: costs nothing but time, and needs nobody's word."""

    def __init__(self, replayer: Replayer) -> None:
        self._replayer = replayer
        self._threads = trio.CapacityLimiter(1)

    async def audit(self, transcript: Transcript, avoid: Collection[str] = ()) -> Opinion:
        """Run it here. Raises NoAuditor, AuditFailed."""
        record = transcript.record
        if not self._replayer.has(record.layer_start, record.layer_stop):
            raise NoAuditor(
                f"There is no shard of layers {record.layer_start}:{record.layer_stop} here to audit with."
            )
        try:
            judgement: Judgement = await trio.to_thread.run_sync(
                self._replayer.judge, transcript, limiter=self._threads
            )
        except (NodeError, MarketError) as error:
            raise AuditFailed("own", str(error)) from error
        return Opinion(judgement.finding, judgement.difference, "own")


class ProviderAuditor:
    """Another provider of the same layers, which is paid for a prompt and does not know what it is for."""

    def __init__(
        self,
        host: Host,
        discovery: Discovery,
        payer: Payer,
        domain: DisputeDomain,
        bounds: Callable[[], Bounds],
        *,
        layers: int,
        n_vocab: int,
    ) -> None:
        self._host, self._discovery, self._payer, self._domain = host, discovery, payer, domain
        self._bounds, self._layers, self._n_vocab = bounds, layers, n_vocab

    async def audit(self, transcript: Transcript, avoid: Collection[str] = ()) -> Opinion:
        """Have it run by the cheapest other provider. Raises NoAuditor, AuditFailed."""
        record = transcript.record
        rivals = [
            advert
            for advert in self._discovery.book.snapshot()
            if (advert.layer_start, advert.layer_stop) == (record.layer_start, record.layer_stop)
            and advert.peer != record.peer
            and not {advert.peer, advert.operator} & set(avoid)
            and record.wire_dtype.name.lower() in advert.wire_dtypes
        ]
        if not rivals:
            raise NoAuditor(f"No other provider serves layers {record.layer_start}:{record.layer_stop}.")
        rival = min(rivals, key=lambda advert: advert.prompt_price_wei)
        try:
            return await self._ask(rival, transcript)
        except (NodeError, MarketError) as error:
            raise AuditFailed(rival.peer, str(error)) from error

    async def _ask(self, rival: Advert, transcript: Transcript) -> Opinion:
        record = transcript.record
        is_tail = record.layer_stop == self._layers
        payee = Payee(rival.operator, address_of_peer(rival.peer))
        need = sum(
            step.rows * max(rival.prompt_price_wei, rival.price_wei if step.rows == 1 else 0)
            for step in transcript.steps
        )
        accounts = await self._payer.fund({payee: need})
        connection = await dial_steps(self._host, rival)
        hop = await Hop.open(
            connection,
            rival,
            accounts[payee],
            wire_dtype=record.wire_dtype,
            capacity=transcript.tokens,
            top_k=min(self._n_vocab, MOST_CANDIDATES, WIDER * record.top_k),
            n_vocab=self._n_vocab,
            is_last=is_tail,
            domain=self._domain,
        )
        outputs: list[bytes | TopK] = []
        async with Pipeline([hop]) as pipeline:
            at = 0
            for rows in pipeline.chunks(transcript.tokens):
                payload = _rows(transcript, at, rows)
                outputs.append(await hop.step(payload, rows, all_outputs=is_tail))
                at += rows
        difference = judge_against(transcript, outputs, n_embd=rival.n_embd, is_tail=is_tail)
        finding = self._bounds().of("tail" if is_tail else "body", "foreign").judge(difference)
        return Opinion(finding, difference, rival.peer, hop.paid_wei, certain=finding is Finding.PASS)


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
        n_embd: int,
        distrusted: Callable[[], Collection[str]],
    ) -> None:
        self._distrusted = distrusted
        self._host, self._discovery, self._payer, self._domain = host, discovery, payer, domain
        self._layers, self._n_embd = layers, n_embd

    def verifiers(self, avoid: Collection[str] = ()) -> list[Advert]:
        """Those that are free, the cheapest first, without the peers and operators in `avoid`."""
        found = [
            advert
            for advert in self._discovery.book.snapshot("verifier")
            if advert.free > 0 and not {advert.peer, advert.operator} & set(avoid)
        ]
        return sorted(found, key=lambda advert: (advert.price_wei, advert.peer))

    def pick(self, avoid: Collection[str] = ()) -> Advert | None:
        """One drawn among the cheapest, without the peers and operators in `avoid`, nor whom we distrust."""
        found = self.verifiers({*avoid, *self._distrusted()})
        return secrets.choice([a for a in found if a.price_wei == found[0].price_wei]) if found else None

    async def audit(self, transcript: Transcript, avoid: Collection[str] = ()) -> Opinion:
        """Have it run by a verifier drawn among the cheapest. Raises NoAuditor, AuditFailed."""
        verifier = self.pick({*avoid, transcript.record.peer})
        if verifier is None:
            raise NoAuditor("No verifier offers to audit this model.")
        return await self.ask(verifier, transcript)

    async def ask(self, verifier: Advert, transcript: Transcript) -> Opinion:
        """Have it run by this verifier. Raises AuditFailed."""
        try:
            return await self._ask(verifier, transcript)
        except (NodeError, MarketError) as error:
            raise AuditFailed(verifier.peer, str(error)) from error

    async def _ask(self, verifier: Advert, transcript: Transcript) -> Opinion:
        record = transcript.record
        payee = Payee(verifier.operator, address_of_peer(verifier.peer))
        cost = transcript.tokens * verifier.price_wei
        account = (await self._payer.fund({payee: cost}))[payee]
        job = secrets.token_bytes(32)
        opening = Open(
            session=job[:16],
            model_id=record.model_id,
            layer_start=record.layer_start,
            layer_stop=record.layer_stop,
            channel=account.descriptor,
            wire_dtype=record.wire_dtype,
            capacity=transcript.tokens,
            max_price_wei=verifier.price_wei,
            max_prompt_price_wei=verifier.price_wei,
            top_k=record.top_k,
        )
        stream = await self._host.open_stream(verifier.peer, AUDIT_PROTOCOL, verifier.addrs, OPEN_SECONDS)
        connection = Connection(stream)
        try:
            accepted = await exchange(
                connection, verifier.peer, AuditOpen(opening, job, record.profile), OPEN_SECONDS
            )
            if not isinstance(accepted, Accept):
                raise HopFailed(verifier.peer, f"it answered with {type(accepted).__name__}.")
            check_quote(accepted, opening, verifier, account)
            account.resume(accepted.billed_wei, accepted.paid_wei, accepted.paid_signature)
            connection.raise_bound(2 * frame_bound(accepted.max_step_tokens, self._n_embd, record.top_k))
            answer = await self._send(connection, verifier, account, transcript)
        finally:
            await connection.close()
        return self._opinion(verifier, transcript, job, answer, cost)

    async def _send(
        self, connection: Connection, verifier: Advert, account: Account, transcript: Transcript
    ) -> AuditVerdict:
        """Send everything with its vouchers, and return the verdict."""
        sent = 0
        try:
            for step in transcript.steps:
                cumulative, signature = account.authorise(step.rows * verifier.price_wei)
                sent += step.rows * verifier.price_wei
                paid = replace(step, issued=0, receipt=b"", cumulative_wei=cumulative, voucher=signature)
                await connection.send(paid, VERDICT_SECONDS)
            answer = await exchange(connection, verifier.peer, AuditEnd(), VERDICT_SECONDS)
            if not isinstance(answer, AuditVerdict):
                raise HopFailed(verifier.peer, f"it answered with {type(answer).__name__}.")
        except BaseException:
            account.release(sent)
            raise
        account.acknowledge(sent, answer.billed_wei)
        return answer

    def _opinion(
        self, verifier: Advert, transcript: Transcript, job: bytes, answer: AuditVerdict, cost: int
    ) -> Opinion:
        """Check that the verdict is signed over what was sent, and does not contradict its own fingerprint."""
        node = address_of_peer(verifier.peer)
        verdict = verdict_on(
            transcript,
            finding=answer.finding,
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
        claimed = claimed_numbers(transcript, self._n_embd, transcript.record.layer_stop == self._layers)
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


def _rows(transcript: Transcript, at: int, rows: int) -> list[int] | bytes:
    """Input rows [at, at + rows) as a Hop takes them."""
    data = transcript.input
    width = len(data) // transcript.tokens
    part = data[at * width : (at + rows) * width]
    if transcript.record.layer_start == 0:
        return [int(token) for token in unpack_tokens(part, rows)]
    return part
