"""How a verifier takes a transcript: the terms, then step after step, as fast as a place is worth."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from hypercluster.node.errors import ErrorCode
from hypercluster.node.serving.refusals import QUOTE_SECONDS, SEND_SECONDS, Refused
from hypercluster.node.verifier.places import SLOW_BYTES, Place
from hypercluster.node.verifier.service import AuditService
from hypercluster.node.wire.audit import AuditEnd
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Accept, Open
from hypercluster.node.wire.records import AuditStep

if TYPE_CHECKING:
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.serving.collector import IncomingAccount

MAX_STEP_TOKENS = 256
MAX_BYTES = 256 * 1024 * 1024
FIRST_SECONDS = 10.0
"""from the terms to the first step"""
NEXT_SECONDS = 30.0
"""between two steps"""
START_SECONDS = 60.0
"""after which whoever sends has to have kept a speed"""


async def accept(
    connection: Connection, service: AuditService, opening: Open, account: IncomingAccount | None
) -> None:
    """Tell the terms: the price with a signed quote, or none where nobody pays."""
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
    bound = frame_bound(MAX_STEP_TOKENS, manifest.width, opening.top_k)
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
            width=manifest.width,
            nonce=secrets.token_bytes(16),
            profile=service.replayer.profile,
        ),
        SEND_SECONDS,
    )


async def steps_of(
    connection: Connection,
    service: AuditService,
    opening: Open,
    place: Place,
    pay: Callable[[AuditStep], None],
) -> tuple[AuditStep, ...]:
    """Everything up to AuditEnd, within the tokens that were announced and the bytes that are allowed.

    Raises:
        Refused: what was sent is no transcript, is too long, or comes too slowly.
    """
    steps: list[AuditStep] = []
    tokens = 0
    context = service.replayer.stored.manifest.context
    while True:
        message: Message = await connection.receive(NEXT_SECONDS if steps else FIRST_SECONDS)
        if isinstance(message, AuditEnd):
            if not steps:
                raise Refused(ErrorCode.BAD_REQUEST, "There was no step to audit.")
            place.whole = True
            return tuple(steps)
        if not isinstance(message, AuditStep):
            raise Refused(ErrorCode.BAD_REQUEST, f"{type(message).__name__} is no message of an audit.")
        if message.seq != len(steps):
            raise Refused(ErrorCode.OUT_OF_ORDER, f"The step has number {message.seq}, not {len(steps)}.")
        if message.position + message.rows > context:
            raise Refused(ErrorCode.TOO_LONG, f"The model holds {context} tokens at most.")
        tokens += message.rows
        size = len(message.input) + len(message.output)
        if tokens > opening.capacity or place.taken + size > MAX_BYTES:
            raise Refused(ErrorCode.TOO_LONG, f"More than the {opening.capacity} tokens that were announced.")
        pay(message)
        place.taken += size
        steps.append(message)
        if trio.current_time() > place.begun + START_SECONDS and place.speed < SLOW_BYTES:
            raise Refused(
                ErrorCode.TIMEOUT, f"A transcript has to arrive at {SLOW_BYTES} bytes a second or more."
            )
