"""Handing a transcript to a verifier: for an audit that is paid for, or as the evidence of a case."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hypercluster.node.client.exchanging import HopFailed, exchange
from hypercluster.node.network.connection import Connection
from hypercluster.node.wire.audit import AUDIT_PROTOCOL, AuditOpen
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.messages import Accept, Open

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.money.voucher import ChannelDescriptor
    from hypercluster.node.evidence.transcript import Transcript
    from hypercluster.node.network.host import Host

OPEN_SECONDS = 15.0


def opening_for(
    transcript: Transcript, session: bytes, channel: ChannelDescriptor, price_wei: int = 0
) -> Open:
    """The Open under which a transcript is handed over; `session` is 16 bytes, the price is per token."""
    record = transcript.record
    return Open(
        session=session,
        model_id=record.model_id,
        layer_start=record.layer_start,
        layer_stop=record.layer_stop,
        channel=channel,
        wire_dtype=record.wire_dtype,
        capacity=transcript.tokens,
        max_price_wei=price_wei,
        max_prompt_price_wei=price_wei,
        top_k=record.top_k,
    )


@asynccontextmanager
async def delivering(
    host: Host, verifier: Advert, opened: AuditOpen, seconds: float = OPEN_SECONDS
) -> AsyncIterator[tuple[Connection, Accept]]:
    """A connection on which the verifier takes the steps of a transcript; closed at the end of the block.

    Raises:
        NodeError: it cannot be reached, or does not take them.
    """
    stream = await host.open_stream(verifier.peer, AUDIT_PROTOCOL, verifier.addrs, OPEN_SECONDS)
    connection = Connection(stream)
    try:
        accepted = await exchange(connection, verifier.peer, opened, seconds)
        if not isinstance(accepted, Accept):
            raise HopFailed(verifier.peer, f"it answered with {type(accepted).__name__}.")
        top_k = opened.opening.top_k
        connection.raise_bound(2 * frame_bound(accepted.max_step_tokens, verifier.width, top_k))
        yield connection, accepted
    finally:
        await connection.close()
