"""The verifier's side of one audit: take a transcript, be paid for it, run it again, and sign what was found.

A member of a committee takes the evidence of its case the same way; then nobody pays, and the verdict goes to the
chain instead of to the client.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hypercluster.market.ledger import SoldAudit
from hypercluster.market.money.signing import address_bytes, address_of
from hypercluster.market.money.voucher import VoucherDomain
from hypercluster.market.trust.fingerprint import digest, fingerprint, seed_of
from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.verdicts import verdict_on
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.serving.refusals import (
    OPEN_SECONDS,
    QUOTE_SECONDS,
    SEND_SECONDS,
    Refused,
    check_payer,
    refuse,
)
from hypercluster.node.threads import Threads
from hypercluster.node.wire.audit import AuditEnd, AuditOpen, AuditVerdict
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Accept, Open
from hypercluster.node.wire.records import AuditStep, StageRecord

if TYPE_CHECKING:
    import coincurve

    from hypercluster.node.network.connection import Connection
    from hypercluster.node.serving.collector import Collector, IncomingAccount

NO_SESSION = bytes(16)
MAX_STEP_TOKENS = 256

Judge = Callable[[Transcript], Judgement]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditService:
    """What all audits of one verifier share.

    Attributes:
        price_wei: per audited token.
        expect_evidence: given a case and the hash of a stage; refuses what is not awaited.
        take_evidence: given a case and a transcript whose receipts are not yet checked; raises what is wrong with it.
        jobs: how many paid audits may be under way, the waiting ones included; `deliveries`: how many of evidence.
    """

    replayer: Replayer
    judge: Judge
    collector: Collector
    price_wei: int
    vouchers: VoucherDomain
    disputes: DisputeDomain
    node_key: coincurve.PrivateKey
    expect_evidence: Callable[[int, bytes], Awaitable[None]]
    take_evidence: Callable[[int, Transcript], Awaitable[None]]
    jobs: trio.CapacityLimiter
    deliveries: trio.CapacityLimiter
    computing: Threads
    on_sale: Callable[[SoldAudit], Awaitable[None]]
    """told of every audit that was paid for and run, before its verdict is sent"""
    idle_seconds: float = 30.0
    max_bytes: int = 256 * 1024 * 1024


async def serve_audit(connection: Connection, service: AuditService) -> None:
    """Serve one audit. Never raises for anything that a peer does: it is answered with a coded Error."""
    account: IncomingAccount | None = None
    try:
        opened = await connection.receive(OPEN_SECONDS)
        if not isinstance(opened, AuditOpen):
            raise Refused(ErrorCode.UNKNOWN_SESSION, "The first message of an audit is AuditOpen.")
        _check(opened, service)
        slots = service.deliveries if opened.case_id else service.jobs
        if slots.available_tokens <= 0:
            raise Refused(ErrorCode.FULL, "This verifier has as many audits as it takes; try again later.")
        async with slots:
            if opened.case_id:
                await _evidence(connection, service, opened)
            else:
                check_payer(connection.peer, opened.opening.channel)
                account = await service.collector.admit_channel(opened.opening.channel)
                await _audit(connection, service, opened, account)
    except ConnectionLost:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is, the peer gets its code and the node lives on
        await refuse(connection, error, account.channel.billed if account else 0)
    finally:
        await connection.close()


def _check(opened: AuditOpen, service: AuditService) -> None:
    opening = opened.opening
    manifest = service.replayer.stored.manifest
    if opening.model_id != manifest.model_id:
        raise Refused(ErrorCode.WRONG_MODEL, f"This verifier audits model {manifest.model_id[:16]}.")
    if not service.replayer.has(opening.layer_start, opening.layer_stop):
        raise Refused(
            ErrorCode.WRONG_RANGE,
            f"This verifier has no layers [{opening.layer_start}, {opening.layer_stop}) of the model.",
        )
    if not opened.case_id and opening.max_price_wei < service.price_wei:
        raise Refused(ErrorCode.PRICE_TOO_LOW, f"An audited token costs {service.price_wei} wei.")
    if opened.stage and (
        (opened.stage.model_id, opened.stage.layer_start, opened.stage.layer_stop, opened.stage.wire_dtype)
        != (opening.model_id, opening.layer_start, opening.layer_stop, opening.wire_dtype)
    ):
        raise Refused(ErrorCode.BAD_REQUEST, "The stage and the opening name different work.")


async def _accept(
    connection: Connection, service: AuditService, opening: Open, account: IncomingAccount | None
) -> None:
    manifest = service.replayer.stored.manifest
    expires = int(time.time()) + QUOTE_SECONDS
    price = service.price_wei if account else 0
    signature = bytes(64)
    if account:
        quote = opening.quote(
            account.channel_id,
            price_wei=price,
            prompt_price_wei=price,
            capacity=opening.capacity,
            expires=expires,
        )
        signature = service.vouchers.sign_quote(service.node_key, quote)
    bound = frame_bound(MAX_STEP_TOKENS, manifest.n_embd, opening.top_k)
    connection.raise_bound(2 * bound)
    await connection.send(
        Accept(
            price_wei=price,
            prompt_price_wei=price,
            capacity=opening.capacity,
            expires=expires,
            quote_signature=signature,
            paid_wei=account.channel.best if account else 0,
            paid_signature=account.channel.signature if account else b"",
            billed_wei=account.channel.billed if account else 0,
            max_step_tokens=MAX_STEP_TOKENS,
            n_embd=manifest.n_embd,
            nonce=secrets.token_bytes(16),
            profile=service.replayer.profile,
        ),
        SEND_SECONDS,
    )


async def _steps(
    connection: Connection,
    service: AuditService,
    opening: Open,
    pay: Callable[[AuditStep], None],
) -> tuple[AuditStep, ...]:
    """Everything up to AuditEnd, within the tokens that were announced and the bytes that are allowed."""
    steps: list[AuditStep] = []
    tokens = size = 0
    while True:
        message: Message = await connection.receive(service.idle_seconds)
        if isinstance(message, AuditEnd):
            if not steps:
                raise Refused(ErrorCode.BAD_REQUEST, "There was no step to audit.")
            return tuple(steps)
        if not isinstance(message, AuditStep):
            raise Refused(ErrorCode.BAD_REQUEST, f"{type(message).__name__} is no message of an audit.")
        if message.seq != len(steps):
            raise Refused(ErrorCode.OUT_OF_ORDER, f"The step has number {message.seq}, not {len(steps)}.")
        context = service.replayer.stored.manifest.context
        if message.position + message.rows > context:
            raise Refused(ErrorCode.TOO_LONG, f"The model holds {context} tokens at most.")
        tokens += message.rows
        size += len(message.input) + len(message.output)
        if tokens > opening.capacity or size > service.max_bytes:
            raise Refused(ErrorCode.TOO_LONG, f"More than the {opening.capacity} tokens that were announced.")
        pay(message)
        steps.append(message)


async def _audit(
    connection: Connection, service: AuditService, opened: AuditOpen, account: IncomingAccount
) -> None:
    opening = opened.opening
    await _accept(connection, service, opening, account)
    charged = 0

    def pay(step: AuditStep) -> None:
        nonlocal charged
        cost = service.price_wei * step.rows
        account.channel.admit(cost, step.cumulative_wei, step.voucher)
        charged += cost

    try:
        steps = await _steps(connection, service, opening, pay)
        await service.collector.store(account)
        began = time.monotonic()
        transcript = Transcript(_anonymous(opened), steps)
        judgement = await service.computing(service.judge, transcript)
    except BaseException:
        account.channel.refund(charged)
        raise
    tokens, seconds = sum(step.rows for step in steps), time.monotonic() - began
    await service.on_sale(_sale(opening, account.channel_id, judgement, tokens, charged, seconds))
    own_fingerprint = fingerprint(
        judgement.rows, seed_of(address_bytes(address_of(service.node_key)), opened.job)
    )
    verdict = verdict_on(
        transcript,
        finding=judgement.finding,
        fingerprint_digest=digest(own_fingerprint),
        job=opened.job,
        issued=int(time.time()),
        layers=service.replayer.stored.manifest.layers,
    )
    difference = judgement.difference
    await connection.send(
        AuditVerdict(
            finding=judgement.finding,
            median_error=difference.median,
            max_error=difference.maximum,
            agreement=difference.agreement,
            exact=difference.exact,
            fingerprint=own_fingerprint,
            issued=verdict.issued,
            signature=service.disputes.sign(service.node_key, verdict.struct_hash()),
            billed_wei=account.channel.billed,
        ),
        SEND_SECONDS,
    )


def _sale(
    opening: Open, channel_id: bytes, judgement: Judgement, tokens: int, paid: int, seconds: float
) -> SoldAudit:
    difference = judgement.difference
    median, maximum, agreement = (
        value if math.isfinite(value) else None
        for value in (difference.median, difference.maximum, difference.agreement)
    )
    return SoldAudit(
        model_id=opening.model_id,
        layer_start=opening.layer_start,
        layer_stop=opening.layer_stop,
        channel_id=channel_id,
        tokens=tokens,
        finding=judgement.finding.name.lower(),
        median_error=median,
        max_error=maximum,
        agreement=agreement,
        exact=difference.exact,
        paid=paid,
        seconds=seconds,
    )


async def _evidence(connection: Connection, service: AuditService, opened: AuditOpen) -> None:
    assert opened.stage is not None
    await service.expect_evidence(opened.case_id, opened.stage.stage.struct_hash())
    await _accept(connection, service, opened.opening, None)
    steps = await _steps(connection, service, opened.opening, lambda step: None)
    await service.take_evidence(opened.case_id, Transcript(opened.stage, steps))
    await connection.send(AuditEnd(), SEND_SECONDS)


def _anonymous(opened: AuditOpen) -> StageRecord:
    """A stage as far as a paid audit tells: neither whose session it was nor who served it."""
    opening = opened.opening
    return StageRecord(
        session=NO_SESSION,
        nonce=NO_SESSION,
        channel_id=bytes(32),
        model_id=opening.model_id,
        layer_start=opening.layer_start,
        layer_stop=opening.layer_stop,
        wire_dtype=opening.wire_dtype,
        profile=opened.profile,
        peer="-",
        client="-",
        top_k=opening.top_k,
    )
