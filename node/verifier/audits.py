"""The verifier's side of one audit: take a transcript, be paid for it, run it again, and sign what was found.

A member of a committee takes the evidence of its case the same way (evidence.py); then nobody pays, and the verdict
goes to the chain instead of to the client.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from hypercluster.market.ledger import SoldAudit
from hypercluster.market.money.signing import address_bytes, address_of
from hypercluster.market.trust.fingerprint import digest, fingerprint, seed_of
from hypercluster.market.trust.receipt import Finding, Verdict
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.verdicts import verdict_on
from hypercluster.node.replay.replayer import Judgement
from hypercluster.node.serving.classes import Class
from hypercluster.node.serving.refusals import (
    OPEN_SECONDS,
    SEND_SECONDS,
    Refused,
    check_payer,
    refuse,
)
from hypercluster.node.verifier.evidence import serve_delivery
from hypercluster.node.verifier.places import GRACE_SECONDS, Place
from hypercluster.node.verifier.service import AuditService
from hypercluster.node.verifier.taking import accept, steps_of
from hypercluster.node.wire.audit import AuditOpen, AuditVerdict
from hypercluster.node.wire.messages import Open
from hypercluster.node.wire.records import AuditStep, StageRecord

if TYPE_CHECKING:
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.serving.collector import IncomingAccount

NO_SESSION = bytes(16)


async def serve_audit(connection: Connection, service: AuditService) -> None:
    """Serve one audit. Never raises for anything that a peer does: it is answered with a coded Error."""
    account: IncomingAccount | None = None
    try:
        opened = await connection.receive(OPEN_SECONDS)
        if not isinstance(opened, AuditOpen):
            raise Refused(ErrorCode.UNKNOWN_SESSION, "The first message of an audit is AuditOpen.")
        _check(opened, service)
        if opened.case_id:
            await serve_delivery(connection, service, opened)
        else:
            account = await _admitted(connection, service, opened.opening)
            rank = service.collector.class_of(connection.peer)
            async with service.jobs.place(rank) as place:
                try:
                    await _audit(connection, service, opened, account, place)
                finally:
                    _note(service, account, place)
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
    if not opened.case_id:
        if opening.max_price_wei < service.price_wei:
            raise Refused(ErrorCode.PRICE_TOO_LOW, f"An audited token costs {service.price_wei} wei.")
        if not service.offered(opening.layer_start, opening.layer_stop):
            raise Refused(
                ErrorCode.WRONG_RANGE,
                f"Nobody with a stake offers layers [{opening.layer_start}, {opening.layer_stop}) of this model; what "
                "nobody serves is not audited.",
            )
    if opened.stage and (
        (opened.stage.model_id, opened.stage.layer_start, opened.stage.layer_stop, opened.stage.wire_dtype)
        != (opening.model_id, opening.layer_start, opening.layer_stop, opening.wire_dtype)
    ):
        raise Refused(ErrorCode.BAD_REQUEST, "The stage and the opening name different work.")


async def _admitted(connection: Connection, service: AuditService, opening: Open) -> IncomingAccount:
    """The account that pays, which holds what the whole audit costs. Who never paid here has a budget for asking.

    Raises OverBudget, VoucherRefused.
    """
    check_payer(connection.peer, opening.channel)
    if wait := service.lapses.wait(opening.channel.payer):
        raise Refused(
            ErrorCode.FULL, "A place was kept for this payer lately and nothing was audited: wait.", wait=wait
        )
    known = service.collector.class_of(connection.peer) is Class.PAYER
    with nullcontext() if known else service.audit_budget.holding(connection.source):
        return await service.collector.admit_channel(
            opening.channel, connection.source, opening.capacity * service.price_wei
        )


def _note(service: AuditService, account: IncomingAccount, place: Place) -> None:
    """Take note of whether a place was worth keeping; one that ended at once was in nobody's way."""
    payer = account.channel.descriptor.payer
    if place.whole:
        service.lapses.paid(payer)
    elif trio.current_time() >= place.begun + GRACE_SECONDS:
        service.lapses.lapsed(payer)


async def _audit(
    connection: Connection,
    service: AuditService,
    opened: AuditOpen,
    account: IncomingAccount,
    place: Place,
) -> None:
    opening = opened.opening
    await accept(connection, service, opening, account)
    charged = 0

    def pay(step: AuditStep) -> None:
        nonlocal charged
        cost = service.price_wei * step.rows
        account.channel.admit(cost, step.cumulative_wei, step.voucher)
        charged += cost

    try:
        steps = await steps_of(connection, service, opening, place, pay)
        await service.collector.store(account)
        began = time.monotonic()
        transcript = Transcript(_anonymous(opened), steps)
        judgement = await service.computing(service.judge, transcript)
        own_fingerprint = fingerprint(
            judgement.rows, seed_of(address_bytes(address_of(service.node_key)), opened.job)
        )
        verdict = verdict_on(
            transcript,
            finding=judgement.finding,
            tolerance=judgement.tolerance,
            fingerprint_digest=digest(own_fingerprint),
            job=opened.job,
            issued=int(time.time()),
            layers=service.replayer.stored.manifest.layers,
        )
        verdict = await _as_ever(service, verdict, judgement.own_digest)
    except BaseException:
        account.channel.refund(charged)
        raise
    judgement = replace(judgement, finding=verdict.finding)
    tokens, seconds = sum(step.rows for step in steps), time.monotonic() - began
    await service.on_sale(_sale(opening, account.channel_id, judgement, tokens, charged, seconds))
    difference = judgement.difference
    await connection.send(
        AuditVerdict(
            finding=judgement.finding,
            median_error=difference.median,
            max_error=difference.maximum,
            agreement=difference.agreement,
            exact=difference.exact,
            tolerance=verdict.tolerance,
            fingerprint=own_fingerprint,
            issued=verdict.issued,
            signature=service.disputes.sign(service.node_key, verdict.struct_hash()),
            billed_wei=account.channel.billed,
        ),
        SEND_SECONDS,
    )


async def _as_ever(service: AuditService, verdict: Verdict, own_digest: bytes) -> Verdict:
    """The verdict, no longer a pass where our own computation is not what it was when the same was passed before.

    So all passes for one question are measured against one computation, also after an upgrade of the engine. Only
    verdicts on activations can contradict each other.
    """
    if verdict.finding is not Finding.PASS or verdict.tail:
        return verdict
    first = await service.first_passed(verdict.question, own_digest)
    return verdict if first == own_digest else replace(verdict, finding=Finding.GREY)


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
