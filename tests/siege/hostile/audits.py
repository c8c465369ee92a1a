"""What strangers ask of verifiers: audits that nobody pays, ranges without end, evidence of no case."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import trio
from eth_account import Account as Accounts

from hypercluster.market.advert import Advert
from hypercluster.market.chain import Sender
from hypercluster.market.money.units import HCT
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host
from hypercluster.node.rows import TopK, WireDtype, pack_tokens, pack_topk
from hypercluster.node.wire.audit import AUDIT_PROTOCOL, AuditEnd, AuditOpen, AuditVerdict
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Accept
from hypercluster.node.wire.records import AuditStep, StageRecord
from tests.node.helpers.providers import FREE
from tests.siege.hostile.identities import STARTED, identities, on_and_on, said, strangers
from tests.siege.hostile.opens import ANSWER_SECONDS, asked
from tests.siege.nodes import SHAPE
from tests.siege.paying import Purse
from tests.siege.tally import Tally
from tests.siege.target import Target, advert_of

if TYPE_CHECKING:
    from trio_typing import TaskStatus

RANGES = [(start, stop) for start in range(SHAPE.layers) for stop in range(start + 1, SHAPE.layers + 1)]
"""every range of the tiny model"""
WHOLE = (0, SHAPE.layers)
"""the range that somebody serves"""


@asynccontextmanager
async def audit(
    host: Host,
    advert: Advert,
    account: OutgoingAccount,
    layers: tuple[int, int],
    *,
    case: StageRecord | None = None,
) -> AsyncIterator[tuple[Connection, Message]]:
    """A connection on which an AuditOpen was sent, and what came for an answer; with `case`, of evidence for one."""
    stream = await host.open_stream(advert.peer, AUDIT_PROTOCOL, advert.addrs, 20)
    connection = Connection(stream)
    last = layers[1] == SHAPE.layers
    opening = asked(
        advert, account, layer_start=layers[0], layer_stop=layers[1], capacity=8, top_k=8 if last else 0
    )
    case_id = 1 + secrets.randbits(40) if case else 0
    opened = AuditOpen(opening, secrets.token_bytes(32), "{}", case_id, case)
    try:
        await connection.send(opened, ANSWER_SECONDS)
        yield connection, await connection.receive(ANSWER_SECONDS)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.5):
            await connection.close()


async def one_token(host: Host, advert: Advert, account: OutgoingAccount, layers: tuple[int, int]) -> Message:
    """The verdict on one token through `layers` with made-up outputs, paid for; or the error. Raises NodeError."""
    async with audit(host, advert, account, layers) as (connection, answer):
        if not isinstance(answer, Accept):
            return answer
        account.resume(answer.billed_wei, answer.paid_wei, answer.paid_signature)
        cumulative, signature = account.authorise(advert.price_wei, FREE)
        connection.raise_bound(1 << 20)
        step = AuditStep(
            seq=0,
            position=0,
            rows=1,
            outputs=1,
            input=pack_tokens(np.array([5], np.int32)) if layers[0] == 0 else _row(),
            output=_candidates() if layers[1] == SHAPE.layers else _row(),
            cumulative_wei=cumulative,
            voucher=signature,
        )
        try:
            await connection.send(step, ANSWER_SECONDS)
            await connection.send(AuditEnd(), ANSWER_SECONDS)
            result = await connection.receive(ANSWER_SECONDS)
        finally:
            account.release(advert.price_wei, FREE)
        return result


def _row() -> bytes:
    return np.ones((1, SHAPE.n_embd), "<f4").tobytes()


def _candidates() -> bytes:
    ids = np.arange(8, dtype=np.int32)[None]
    return pack_topk(TopK(ids, -ids.astype(np.float32), np.array([5.0])))


async def audits_without_channel(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Audits on channels that do not exist: each asks for a place first."""
    penniless = Purse(target, Sender(target.chain, Accounts.create()), tally)
    async with strangers(identities(strength)) as hosts:
        advert = await advert_of(hosts[0], target)

        async def act(index: int) -> str:
            host = hosts[index % len(hosts)]
            async with audit(host, advert, penniless.described(host.key), WHOLE) as (_, answer):
                return said(answer)

        await on_and_on(strength, act, tally, task_status)


async def hold_audits(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Audits on channels of one wei of which no step ever comes."""
    purse = await trio.to_thread.run_sync(Purse.filled, target, tally)
    async with strangers(identities(strength)) as hosts:
        advert = await advert_of(hosts[0], target)
        accounts = [await trio.to_thread.run_sync(purse.opened, host.key, 1) for host in hosts]

        async def act(index: int) -> str:
            which = index % len(hosts)
            async with audit(hosts[which], advert, accounts[which], WHOLE) as (connection, answer):
                if not isinstance(answer, Accept):
                    return said(answer)
                tally.answered(said(answer))
                since = trio.current_time()
                ended = said(await connection.receive(400))
                return f"held {5 * round((trio.current_time() - since) / 5)} s, {ended}"

        await on_and_on(strength, act, tally, task_status)


async def many_ranges(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Audits of one token, paid for, each of another range of the layers."""
    purse = await trio.to_thread.run_sync(Purse.filled, target, tally)
    ranges = count()
    async with strangers(min(4, identities(strength))) as hosts:
        advert = await advert_of(hosts[0], target)
        accounts = [await trio.to_thread.run_sync(purse.opened, host.key, HCT) for host in hosts]

        async def act(index: int) -> str:
            result = await one_token(
                hosts[index], advert, accounts[index], RANGES[next(ranges) % len(RANGES)]
            )
            if isinstance(result, AuditVerdict):
                tally.spent_wei += advert.price_wei
            return said(result)

        # One at a time on each channel: what they pay is to count.
        await on_and_on(len(hosts), act, tally, task_status)


async def evidence_of_no_case(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Deliveries for cases that do not exist: each makes the verifier ask the chain."""
    penniless = Purse(target, Sender(target.chain, Accounts.create()), tally)
    async with strangers(identities(strength)) as hosts:
        advert = await advert_of(hosts[0], target)

        async def act(index: int) -> str:
            host = hosts[index % len(hosts)]
            stage = StageRecord(
                session=secrets.token_bytes(16),
                nonce=secrets.token_bytes(16),
                channel_id=bytes(32),
                model_id=advert.model_id,
                layer_start=WHOLE[0],
                layer_stop=WHOLE[1],
                wire_dtype=WireDtype.F32,
                profile="{}",
                peer=target.peer,
                client=host.peer,
                top_k=0,
            )
            account = penniless.described(host.key)
            async with audit(host, advert, account, WHOLE, case=stage) as (_, answer):
                return said(answer)

        await on_and_on(strength, act, tally, task_status)
