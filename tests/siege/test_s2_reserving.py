"""A session costs who holds it.

What a stranger did: a channel of one wei held four of four sessions for two minutes without a paid step, again and
again, and honest payers had none. Now the channel's deposit covers what a session reserves; who has not paid yet has
few sessions and gives them up to somebody better after a short grace; who lets them lapse waits twice as long each
time; and FULL says when to come back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.money.units import HCT
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.hop import Hop
from hypercluster.node.errors import ErrorCode
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.messages import Accept, Error
from tests.node.helpers.providers import FREE, Served, new_wallet, opening, running_provider

if TYPE_CHECKING:
    from hypercluster.node.wire.codec import Message

SESSIONS = 4
PROMPT = [72, 101, 108]
BOUND = 20.0
GRACE = 0.3
VOCABULARY = 320


@pytest.fixture(scope="module")
def served(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A provider with four sessions, whose grace is short."""
    folder = tmp_path_factory.mktemp("reserving")
    terms = {"sessions": SESSIONS, "session_tokens": 200, "watch_seconds": 0.3, "first_step_seconds": 60.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hypercluster.node.provider.seats.GRACE_SECONDS", GRACE)
        with running_provider(chain, stored_tiny, folder, (0, 4), **terms) as served:
            yield served


@pytest.fixture(autouse=True)
def emptied(served: Served) -> Iterator[None]:
    """No session is left open by a test."""
    yield

    async def wait() -> None:
        with trio.fail_after(BOUND):
            while served.open_sessions:
                await trio.sleep(0.02)

    trio.run(wait)


async def opened(host: Host, served: Served, account: OutgoingAccount) -> tuple[Connection, Message]:
    connection = await dial_steps(host, served.advert, 10)
    await connection.send(opening(served.advert, account), BOUND)
    return connection, await connection.receive(BOUND)


async def hop(host: Host, served: Served, account: OutgoingAccount) -> Hop:
    connection = await dial_steps(host, served.advert, 10)
    try:
        return await Hop.open(
            connection,
            served.advert,
            account,
            wire_dtype=WireDtype.F32,
            capacity=100,
            top_k=8,
            n_vocab=VOCABULARY,
            is_last=True,
            domain=served.chain.disputes.domain,
            spending=FREE,
        )
    except BaseException:
        with trio.CancelScope(shield=True):
            await connection.close()
        raise


async def patient_hop(host: Host, served: Served, account: OutgoingAccount) -> Hop:
    """A session as soon as there is one, by what FULL says of the time to wait."""
    with trio.fail_after(BOUND):
        while isinstance(found := await hop_or_refusal(host, served, account), HopFailed):
            assert found.code is ErrorCode.FULL
            assert found.wait > 0
            await trio.sleep(found.wait)
    return found


async def hop_or_refusal(host: Host, served: Served, account: OutgoingAccount) -> Hop | HopFailed:
    try:
        return await hop(host, served, account)
    except HopFailed as failure:
        return failure


@asynccontextmanager
async def payer(served: Served) -> AsyncIterator[tuple[Host, OutgoingAccount]]:
    """Somebody who has paid for a session before."""
    wallet = new_wallet(served.chain)
    account = wallet.channel(served)
    async with running_host(wallet.session_key) as host:
        first = await patient_hop(host, served, account)
        await first.step(PROMPT, len(PROMPT))
        await first.close()
        yield host, account


@asynccontextmanager
async def holding(served: Served, wallets: int) -> AsyncIterator[list[Connection]]:
    """All sessions taken by wallets that never pay, two for each at most."""
    held: list[Connection] = []
    async with trio.open_nursery() as nursery:

        async def hold(done: trio.Event) -> None:
            wallet = new_wallet(served.chain)
            account = wallet.channel(served)
            async with running_host(wallet.session_key) as host:
                for _ in range(2):
                    connection, answer = await opened(host, served, account)
                    if isinstance(answer, Accept):
                        held.append(connection)
                done.set()
                await trio.sleep_forever()

        for _ in range(wallets):
            done = trio.Event()
            nursery.start_soon(hold, done)
            await done.wait()
        yield held
        nursery.cancel_scope.cancel()


async def test_a_channel_of_one_wei_holds_no_session(served: Served) -> None:
    wallet = new_wallet(served.chain)
    poor = wallet.channel(served, 1)
    async with running_host(wallet.session_key) as host:
        connection, answer = await opened(host, served, poor)
        await connection.close()
        assert isinstance(answer, Error)
        assert answer.code is ErrorCode.OVER_DEPOSIT
        assert "reserves" in answer.message
        # With the deposit that the advert states it may, once.
        enough = wallet.channel(served, served.advert.reserve_wei)
        first, answer = await opened(host, served, enough)
        assert isinstance(answer, Accept)
        second, answer = await opened(host, served, enough)
        assert isinstance(answer, Error)
        assert answer.code is ErrorCode.OVER_DEPOSIT
        for each in (first, second):
            await each.close()


async def test_one_wallet_that_never_paid_holds_two_sessions_at_most(served: Served) -> None:
    wallet = new_wallet(served.chain)
    accounts = [wallet.channel(served) for _ in range(3)]
    async with running_host(wallet.session_key) as host:
        answers = [await opened(host, served, account) for account in accounts]
        assert [type(answer) for _, answer in answers] == [Accept, Accept, Error]
        refused = answers[2][1]
        assert isinstance(refused, Error)
        assert refused.code is ErrorCode.FULL
        assert refused.wait_ms > 0
        for connection, _ in answers:
            await connection.close()


async def test_who_pays_gets_the_place_of_who_does_not(served: Served) -> None:
    async with payer(served) as (host, account), holding(served, 2) as held:
        assert len(held) == SESSIONS
        session = await patient_hop(host, served, account)
        for _ in range(3):
            await session.step([5], 1)
        ended = 0
        for connection in held:
            with trio.move_on_after(0.2):
                answer = await connection.receive()
                assert isinstance(answer, Error)
                assert answer.code is ErrorCode.TIMEOUT
                ended += 1
        assert ended == 1
        await session.close()


async def test_the_advert_counts_as_free_what_gives_way(served: Served) -> None:
    async with payer(served), holding(served, 2):
        with trio.fail_after(BOUND):
            while served.presence.advert().free != SESSIONS:
                await trio.sleep(0.05)


async def test_one_gateway_uses_all_sessions_over_one_channel_and_none_of_them_is_taken_from_it(
    served: Served,
) -> None:
    async with payer(served) as (host, account), payer(served) as (other, other_account):
        sessions = [await hop(host, served, account) for _ in range(SESSIONS)]
        for session in sessions:
            await session.step(PROMPT, len(PROMPT))
        await trio.sleep(2 * GRACE)
        with pytest.raises(HopFailed) as full:
            await hop(other, served, other_account)
        assert full.value.code is ErrorCode.FULL
        assert full.value.wait > 0
        for session in sessions:
            await session.step([5], 1)
            await session.close()
        last = await patient_hop(other, served, other_account)
        await last.close()


async def test_who_lets_sessions_lapse_waits_twice_as_long_each_time(served: Served) -> None:
    wallet = new_wallet(served.chain)
    account = wallet.channel(served)
    waits: list[float] = []
    async with running_host(wallet.session_key) as host:
        for _ in range(2):
            session = await patient_hop(host, served, account)
            await trio.sleep(2 * GRACE)
            await session.close()
            with trio.fail_after(BOUND):
                while isinstance(found := await hop_or_refusal(host, served, account), Hop):
                    await found.close()  # that the one before has ended was not noticed yet
            assert found.code is ErrorCode.FULL
            waits.append(found.wait)
        assert 0 < waits[0] <= 2 < waits[1] <= 4
        # Another channel of the same wallet is no other name.
        with pytest.raises(HopFailed) as refused:
            await hop(host, served, wallet.channel(served, HCT))
        assert refused.value.code is ErrorCode.FULL
