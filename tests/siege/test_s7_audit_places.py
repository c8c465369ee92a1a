"""Audits that were opened over a channel of one wei, or over none, held all places of a verifier for half a minute
each, and honest clients heard FULL. Now the channel is looked at first and must hold what the audit costs, and a place
goes to whoever feeds it.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from hypercluster.market.money.units import HCT
from hypercluster.node.errors import ErrorCode
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.serving import lapses
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.verifier.places import GRACE_SECONDS
from hypercluster.node.wire.audit import AuditVerdict
from hypercluster.node.wire.messages import Accept, Error
from tests.siege.hostile.audits import audit, one_token
from tests.siege.judged import OFFERED, Bench, heard, running_bench
from tests.siege.paying import Purse

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.chain import Chain, Deployment
    from hypercluster.node.client.account import OutgoingAccount
    from hypercluster.node.network.connection import Connection

JOBS = 4


@pytest.fixture(scope="module")
def bench(
    chain: Chain,
    deployment: Deployment,
    stored_tiny: StoredModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("places")
    bounds = calibrate(stored_tiny, texts=1, tokens=40)
    with running_bench(chain, deployment, stored_tiny, bounds, folder, jobs=JOBS) as bench:
        yield bench


@asynccontextmanager
async def somebody(bench: Bench, deposit: int | None = HCT) -> AsyncIterator[tuple[Host, OutgoingAccount]]:
    """With a channel of `deposit` wei, or with one that is not on chain."""
    key = secrets.token_bytes(32)
    purse = await trio.to_thread.run_sync(Purse.filled, bench.target)
    account = purse.described(key)
    if deposit is not None:
        account = await trio.to_thread.run_sync(purse.opened, key, deposit)
    async with running_host(key) as host:
        yield host, account


Holder = tuple["Host", "Advert", "OutgoingAccount"]


async def fill(bench: Bench, stack: AsyncExitStack) -> list[tuple[Connection, Holder]]:
    """Take all places with audits of which no step comes."""
    held = []
    # Money first: once a place is there, its time runs.
    holders = [await stack.enter_async_context(somebody(bench)) for _ in range(JOBS)]
    advert = bench.advert
    for host, account in holders:
        connection, answer = await stack.enter_async_context(audit(host, advert, account, OFFERED))
        assert isinstance(answer, Accept)
        held.append((connection, (host, advert, account)))
    return held


async def ended(connection: Connection) -> ErrorCode:
    answer = await connection.receive(30)
    assert isinstance(answer, Error)
    assert answer.wait_ms > 0
    return answer.code


async def test_who_paid_before_has_the_place_of_who_pays_nothing(bench: Bench) -> None:
    await heard(bench)
    async with somebody(bench) as (host, account), AsyncExitStack() as stack:
        assert isinstance(await one_token(host, bench.advert, account, OFFERED), AuditVerdict)
        held = await fill(bench, stack)
        assert isinstance(await one_token(host, bench.advert, account, OFFERED), AuditVerdict)
        codes = []
        async with trio.open_nursery() as nursery:

            async def see(connection: Connection) -> None:
                codes.append(await ended(connection))
                nursery.cancel_scope.cancel()

            for connection, _ in held:
                nursery.start_soon(see, connection)
        assert codes[0] is ErrorCode.FULL


async def test_a_newcomer_waits_a_moment_for_the_place_of_who_sends_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The newcomer's verdict may take longer than a first wait, on a slow machine: it loads a shard.
    monkeypatch.setattr(lapses, "FIRST_WAIT", 300.0)
    await heard(bench)
    async with somebody(bench) as (host, account), AsyncExitStack() as stack:
        held = await fill(bench, stack)
        answer = await one_token(host, bench.advert, account, OFFERED)
        if isinstance(answer, Error):
            assert answer.code is ErrorCode.FULL
            assert 0 < answer.wait_ms <= 1000 * GRACE_SECONDS
            await trio.sleep(answer.wait_ms / 1000)
            answer = await one_token(host, bench.advert, account, OFFERED)
        assert isinstance(answer, AuditVerdict)
        # Whoever lost a place waits longer each time, though there may be room.
        gone, mine = held[0]
        assert await ended(gone) is ErrorCode.FULL
        async with audit(*mine, OFFERED) as (_, again):
            assert isinstance(again, Error)
            assert again.code is ErrorCode.FULL
            assert again.wait_ms > 0


async def test_channels_that_are_not_there_or_hold_too_little_take_no_place(bench: Bench) -> None:
    await heard(bench)
    free = bench.advert.free
    for deposit, code in ((None, ErrorCode.UNKNOWN_CHANNEL), (1, ErrorCode.OVER_DEPOSIT)):
        async with (
            somebody(bench, deposit) as (host, account),
            audit(host, bench.advert, account, OFFERED) as (_, answer),
        ):
            assert isinstance(answer, Error)
            assert answer.code is code
    assert bench.advert.free == free == JOBS
