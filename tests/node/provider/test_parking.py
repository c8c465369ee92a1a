"""A client that comes back goes on where it was, if nobody else needed the room: one stage, one chain of receipts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import Role, SessionRecord
from hypercluster.market.money.voucher import ChannelDescriptor
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.engine import reference
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.steps import UnknownSlot
from hypercluster.node.errors import ErrorCode
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.provider.parking import Parking
from hypercluster.node.provider.stages import Stage
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.messages import Error, Open
from hypercluster.node.wire.records import AuditStep, StageRecord
from tests.node.helpers.providers import (
    PRICE,
    PROMPT_PRICE,
    Served,
    Wallet,
    new_wallet,
    opening,
    running_provider,
)
from tests.node.helpers.visits import CACHED_PRICE, WAIT, Session, Turned, started

STAGE = StageRecord(
    session=b"s" * 16,
    nonce=b"n" * 16,
    channel_id=b"c" * 32,
    model_id="ab" * 32,
    layer_start=0,
    layer_stop=4,
    wire_dtype=WireDtype.F32,
    profile="{}",
    peer="us",
    client="them",
    top_k=8,
)
HOLDER = "0x" + "11" * 20
STEP = AuditStep(seq=0, position=0, rows=1, outputs=1, input=b"rows", output=b"rows")
PROMPT = [72, 101, 108, 108, 111, 32]


@pytest.fixture(scope="module")
def provider(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with running_provider(
        chain, stored_tiny, tmp_path_factory.mktemp("parking"), (0, 4), sessions=2, session_tokens=60
    ) as provider:
        yield provider


@pytest.fixture(scope="module")
def greedy(stored_tiny: StoredModel) -> list[int]:
    assert stored_tiny.source
    return [int(token) for token in reference.generate(stored_tiny.source, PROMPT, 12, threads=1).ids]


async def visit(
    host: Host,
    provider: Served,
    account: OutgoingAccount,
    earlier: Session | None = None,
    position: int = 0,
    **changes: Any,
) -> Session:
    """As soon as who left before is gone."""
    with trio.fail_after(WAIT):
        while True:
            connection = await dial_steps(host, provider.advert)
            try:
                return await started(provider, connection, account, earlier, position, **changes)
            except Turned as turned:
                await connection.close()
                if turned.error.code is not ErrorCode.FULL:
                    raise
                await trio.sleep(turned.error.wait_ms / 1000)


async def test_a_parked_session_goes_on_as_one_stage(
    chain: Chain, provider: Served, stored_tiny: StoredModel, greedy: list[int]
) -> None:
    assert provider.advert.parked_seconds == 600
    assert provider.advert.cached_price_wei == CACHED_PRICE
    wallet = new_wallet(chain)
    account = wallet.channel(provider)
    began = time.time()
    async with running_host(wallet.session_key) as host:
        first = await visit(host, provider, account)
        assert first.accepted.position == 0
        assert await first.step(0, PROMPT) == greedy[0]
        assert await first.step(6, greedy[:1]) == greedy[1]
        assert await first.park() == 600
        # What is parked is in nobody's way.
        assert provider.open_sessions == 0
        # At the end of what is held, and longer than before.
        second = await visit(host, provider, account, first, 7, capacity=60)
        assert (second.accepted.position, second.accepted.cached_price_wei) == (7, CACHED_PRICE)
        assert await second.step(7, greedy[1:2]) == greedy[2]
        assert await second.step(8, greedy[2:3]) == greedy[3]
        assert await second.park() == 600
        # Back to an earlier token.
        third = await visit(host, provider, account, second, 5)
        assert await third.step(5, [PROMPT[5], *greedy[:3]]) == greedy[3]
        assert await third.park() == 600
    steps = charge_of([6, 1, 1, 1, 4])
    assert third.cost == steps + CACHED_PRICE * (7 + 5)
    row = provider.row(account)
    assert row.billed == row.best == third.cost
    books = [
        each
        for each in provider.ledger.history.sessions(role=Role.PROVIDER)
        if each.session_id == first.record.session
    ]
    assert [(each.billed, each.prompt_tokens, each.tokens, each.outcome) for each in books] == [
        (third.cost, 10, 3, "closed")
    ]
    assert books[0].ended is not None
    assert books[0].ended.timestamp() >= began
    transcript = provider.provider.transcripts.load(first.record.stage.struct_hash())
    assert len(transcript.receipts(chain.disputes.domain)) == third.sent == 5
    replayer = Replayer(stored_tiny, calibrate(stored_tiny, texts=1, tokens=40), threads=1)
    assert replayer.judge(transcript).finding is Finding.PASS
    replayer.close()


async def left(session: Session, provider: Served) -> None:
    """It broke off, and its place is free again."""
    await session._connection.close()
    with trio.fail_after(WAIT):
        while provider.open_sessions:
            await trio.sleep(0.02)


def charge_of(rows: list[int]) -> int:
    return sum(PRICE if each == 1 else max(PRICE, PROMPT_PRICE * each) for each in rows)


async def parked(chain: Chain, provider: Served, host: Host, wallet: Wallet, tokens: int = 6) -> Session:
    account = wallet.channel(provider)
    session = await visit(host, provider, account)
    await session.step(0, (PROMPT * 10)[:tokens])
    assert await session.park() == 600
    return session


async def test_what_is_held_is_paid_for_before_it_is_used(chain: Chain, provider: Served) -> None:
    wallet = new_wallet(chain)
    async with running_host(wallet.session_key) as host:
        first = await parked(chain, provider, host, wallet)
        again = await visit(host, provider, first._account, first, 6)
        refused = await again.step(6, [1], short_of=1)
        assert isinstance(refused, Error)
        assert (refused.code, refused.billed_wei) == (ErrorCode.VOUCHER_TOO_LOW, first.cost)
        # It broke off, so that nothing is left of it.
        gone = await visit(host, provider, first._account, first, 6)
        assert gone.accepted.position == 0
        assert gone.accepted.nonce != first.record.nonce
        await left(gone, provider)
        cheap = opening(
            provider.advert,
            first._account,
            resume=first.record.session,
            position=6,
            max_cached_price_wei=CACHED_PRICE - 1,
        )
        connection = await dial_steps(host, provider.advert)
        await connection.send(cheap)
        refusal = await connection.receive(WAIT)
        assert isinstance(refusal, Error)
        assert refusal.code is ErrorCode.PRICE_TOO_LOW
        await connection.close()


async def test_only_its_own_client_goes_on_over_its_channel_in_its_form(
    chain: Chain, provider: Served
) -> None:
    """Whoever else knows a session's number gets a new one, and disturbs nothing."""
    wallet, stranger = new_wallet(chain), new_wallet(chain)
    async with running_host(wallet.session_key) as host, running_host(stranger.session_key) as other:
        first = await parked(chain, provider, host, wallet)
        theirs = stranger.channel(provider)
        for who, account, position, top_k in (
            (other, theirs, 6, 8),
            (host, wallet.channel(provider), 6, 8),
            (host, first._account, 6, 9),
            (host, first._account, 7, 8),
        ):
            session = await visit(who, provider, account, first, position, top_k=top_k)
            assert session.accepted.position == 0
            await left(session, provider)
        again = await visit(host, provider, first._account, first, 6)
        assert again.accepted.position == 6
        # Taken once, it is there for nobody else.
        twice = await visit(host, provider, first._account, first, 6)
        assert twice.accepted.position == 0
        assert not isinstance(await again.step(6, [1]), Error)
        await again._connection.close()
        await left(twice, provider)


async def test_whoever_comes_now_gets_the_room_of_who_parked_most(chain: Chain, provider: Served) -> None:
    one, other = new_wallet(chain), new_wallet(chain)
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(running_host(one.session_key))
        second = await stack.enter_async_context(running_host(other.session_key))
        oldest = await parked(chain, provider, host, one)
        newer = await parked(chain, provider, host, one)
        assert provider.presence.advert().free == 2
        # Both places hold what is parked: the newcomer has one of them, and parks there itself.
        theirs = await parked(chain, provider, second, other)
        for session, who, held in ((newer, host, 6), (theirs, second, 6), (oldest, host, 0)):
            again = await visit(who, provider, session._account, session, 6)
            assert again.accepted.position == held
            if held:
                await again.step(6, [1])
                await again.park()
            else:
                await left(again, provider)


async def test_a_session_without_a_step_is_not_parked(chain: Chain, provider: Served) -> None:
    wallet = new_wallet(chain)
    async with running_host(wallet.session_key) as host:
        session = await visit(host, provider, wallet.channel(provider))
        assert await session.park() == 0


def test_what_is_parked_goes_when_its_time_is_over_and_at_the_end(
    stored_tiny: StoredModel, tmp_path: Path, chain: Chain
) -> None:
    store = TranscriptStore(tmp_path, keep_seconds=60, max_bytes=2**20)
    now = 100.0
    with (
        Engine(
            stored_tiny.shard(0, 4), first=True, last=True, n_ctx_total=128, max_sessions=2, threads=1
        ) as engine,
        Parking(engine, seconds=10, clock=lambda: now) as parking,
    ):

        def parked(number: int) -> Stage:
            record = replace(STAGE, session=bytes([number]) * 16)
            receipts = ReceiptChain(record.stage, chain.disputes.domain)
            stage = Stage(
                record=record,
                receipts=receipts,
                transcript=store.begin(record),
                books=SessionRecord(
                    session_id=record.session,
                    peer=record.client,
                    layer_start=0,
                    layer_stop=4,
                    role=Role.PROVIDER,
                    model_id=record.model_id,
                    channel_id=record.channel_id,
                    price_wei=1,
                    prompt_price_wei=1,
                ),
                payer=f"wallet {number}",
                slot=parking.open(40),
            )
            receipts.follow(receipts.next(STEP))
            engine.submit(stage.slot, 0, np.array(PROMPT, np.int32)).result(WAIT)
            assert parking.keep(stage) == (10 if parking.seconds else 0)
            return stage

        first = parked(1)
        now += 6
        second = parked(2)
        now += 4
        parking.expire()
        assert len(parking) == 1
        assert engine.stats().sessions == 1
        with pytest.raises(UnknownSlot):
            engine.resize(first.slot, 40)
        assert engine.resize(second.slot, 40) == len(PROMPT)
        # A model that cannot go back goes on at the end of what it holds, and nowhere else.
        engine.rewinds = False
        asked = partial(
            Open,
            session=b"a" * 16,
            model_id=STAGE.model_id,
            layer_start=0,
            layer_stop=4,
            channel=ChannelDescriptor(HOLDER, HOLDER, HOLDER, bytes(32)),
            wire_dtype=WireDtype.F32,
            capacity=50,
            max_price_wei=1,
            max_prompt_price_wei=1,
            top_k=STAGE.top_k,
            resume=second.record.session,
        )
        assert parking.take(asked(position=5), STAGE.client, STAGE.channel_id) is None
        assert parking.take(asked(position=6), STAGE.client, STAGE.channel_id) is second
        assert parking.take(asked(position=6), STAGE.client, STAGE.channel_id) is None
        parking.end(second)
        # Who parks two under one name has one place.
        parked(4)
        parked(4)
        assert (len(parking), engine.stats().sessions) == (1, 1)
        parking.clear()
        parked(3)
        assert (len(parking), engine.stats().sessions) == (0, 0)
