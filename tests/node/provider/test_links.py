"""Whoever comes to a link: strangers, bad rows, none, too many; the session pays for none of it and goes on."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import trio
from trio.testing import memory_stream_pair

from hypercluster.market.chain import Chain
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.network.budgets import BOUNDS, Budget, Source
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.provider import awaiting
from hypercluster.node.provider.links import MOST_LINKS, Inlet, Outlet
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.links import Discard, Expect, Link, LinkOpen, LinkTaken, NoRows, Rows
from hypercluster.node.wire.messages import Accept, Close, Error, LinkState, Step, StepResult
from tests.node.helpers.providers import FREE, PRICE, Served, Wallet, new_wallet, opening, running_provider

TICKET = b"t" * 16
WAIT = 30.0
GOOD = np.random.default_rng(1).standard_normal((1, 64), dtype=np.float32).tobytes()
NAN = np.full((1, 64), np.nan, np.float32).tobytes()


@pytest.fixture(scope="module")
def provider(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("provider")
    with running_provider(chain, stored_tiny, folder, (1, 3), sessions=3, session_tokens=60) as provider:
        yield provider


@pytest.fixture(autouse=True)
def hasty(provider: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits are short, and no session stays open."""
    monkeypatch.setattr(awaiting, "LEAST_SECONDS", 0.3)
    yield

    async def emptied() -> None:
        with trio.fail_after(WAIT):
            while provider.open_sessions:
                await trio.sleep(0.02)

    trio.run(emptied)


@dataclass(eq=False)
class Awaiting:
    """A session whose rows come from `before`, a host of ours."""

    provider: Served
    account: OutgoingAccount
    client: Connection
    before: Host
    seq: int = 0
    bound: int = field(default=frame_bound(64, 64))

    async def link(self, ticket: bytes = TICKET, host: Host | None = None) -> tuple[Connection, Message]:
        """A connection from the provider before, and what a LinkOpen over it is answered with."""
        connection = await dial_steps(host or self.before, self.provider.advert)
        connection.raise_bound(self.bound)
        await connection.send(LinkOpen(ticket))
        return connection, await connection.receive(WAIT)

    async def step(self, awaited: int = 0) -> Message:
        """The answer to the next step, whose rows are awaited under that number or come with it."""
        await self.send(awaited)
        return await self.answer()

    async def send(self, awaited: int = 0) -> None:
        cumulative, signature = self.account.authorise(PRICE, FREE)
        self.account.channel.release(PRICE)
        await self.client.send(
            Step(
                seq=self.seq,
                position=self.seq,
                rows=1,
                cumulative_wei=cumulative,
                signature=signature,
                input=b"" if awaited else GOOD,
                awaited=awaited,
            )
        )

    async def answer(self) -> Message:
        answer = await self.client.receive(WAIT)
        if isinstance(answer, StepResult):
            self.seq += 1
            self.account.channel.spent += PRICE
            assert answer.billed_wei == self.seq * PRICE
        if isinstance(answer, NoRows):
            assert (answer.seq, answer.billed_wei) == (self.seq, self.seq * PRICE)
        return answer

    async def goes_on(self) -> None:
        """A step with rows of the client's is answered."""
        assert isinstance(await self.step(), StepResult)


@asynccontextmanager
async def awaiting_session(provider: Served, wallet: Wallet, **changes: object) -> AsyncIterator[Awaiting]:
    account = wallet.channel(provider)
    async with running_host(wallet.session_key) as host, running_host(secrets.token_bytes(32)) as before:
        connection = await dial_steps(host, provider.advert)
        asked = {"ticket": TICKET, "previous": before.peer, "capacity": 60} | changes
        await connection.send(opening(provider.advert, account, **asked))
        accepted = await connection.receive(WAIT)
        assert isinstance(accepted, Accept)
        connection.raise_bound(frame_bound(accepted.max_step_tokens, accepted.width))
        with trio.fail_after(2 * WAIT):
            yield Awaiting(provider, account, connection, before)
        with trio.CancelScope(shield=True):
            await connection.close()


async def test_a_link_is_taken_once_from_whom_the_client_named_with_its_ticket(
    provider: Served, chain: Chain
) -> None:
    async with awaiting_session(provider, new_wallet(chain)) as session:
        async with running_host(secrets.token_bytes(32)) as stranger:
            for host, ticket in ((stranger, TICKET), (session.before, b"x" * 16)):
                connection, answer = await session.link(ticket, host)
                assert isinstance(answer, Error)
                assert (answer.code, answer.message) == (
                    ErrorCode.UNKNOWN_SESSION,
                    "No session here awaits this link.",
                )
                with pytest.raises(ConnectionLost):
                    await connection.receive(WAIT)
                await connection.close()
        link, answer = await session.link()
        assert isinstance(answer, LinkTaken)
        again, refused = await session.link()
        assert isinstance(refused, Error)
        await again.close()
        await link.send(Rows(1, 1, GOOD))
        assert isinstance(await session.step(awaited=1), StepResult)
        await link.close()
        await session.client.send(Close())


async def test_who_brings_rows_may_be_replaced_a_few_times(provider: Served, chain: Chain) -> None:
    """As where the provider before failed; whoever brought them before is not heard any more."""
    async with (
        awaiting_session(provider, new_wallet(chain)) as session,
        running_host(secrets.token_bytes(32)) as other,
    ):
        old, _ = await session.link()
        await old.send(Rows(1, 1, GOOD))
        await session.client.send(Expect(other.peer, b"u" * 16))
        await session.goes_on()
        late, refused = await session.link(b"u" * 16)
        assert isinstance(refused, Error)
        new, answer = await session.link(b"u" * 16, other)
        assert isinstance(answer, LinkTaken)
        assert isinstance(await session.step(awaited=1), NoRows)
        await new.send(Rows(2, 1, GOOD))
        assert isinstance(await session.step(awaited=2), StepResult)
        for connection in (old, late, new):
            await connection.close()
        for number in range(MOST_LINKS - 1):
            await session.client.send(Expect(other.peer, bytes([number]) * 16))
        refusal = await session.client.receive(WAIT)
        assert isinstance(refusal, Error)
        assert (refusal.code, refusal.message) == (
            ErrorCode.BAD_REQUEST,
            f"A session has {MOST_LINKS} links at most.",
        )


async def test_a_provider_is_sent_elsewhere_a_few_times(provider: Served, chain: Chain) -> None:
    async with awaiting_session(provider, new_wallet(chain)) as session:
        for number in range(MOST_LINKS + 1):
            await session.client.send(Link(session.before.peer, "/ip4/127.0.0.1/tcp/9", bytes([number]) * 16))
        refusal = await session.client.receive(WAIT)
        assert isinstance(refusal, Error)
        assert refusal.code is ErrorCode.BAD_REQUEST


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (Rows(1, 1, NAN), ErrorCode.NOT_FINITE),
        (Rows(1, 1, GOOD[:-4]), ErrorCode.BAD_SHAPE),
        (Rows(1, 2, 2 * GOOD), ErrorCode.BAD_SHAPE),
        (Rows(7, 1, GOOD), ErrorCode.TIMEOUT),
        (None, ErrorCode.TIMEOUT),
    ],
    ids=["nan", "cut", "two", "another number", "none"],
)
async def test_rows_that_are_none_cost_nothing_and_the_session_goes_on(
    provider: Served, chain: Chain, rows: Rows | None, code: ErrorCode
) -> None:
    async with awaiting_session(provider, new_wallet(chain)) as session:
        await session.goes_on()
        link, _ = await session.link()
        if rows is not None:
            await link.send(rows)
        answer = await session.step(awaited=1)
        assert isinstance(answer, NoRows)
        assert answer.code is code
        assert provider.row(session.account).billed == PRICE
        await session.goes_on()
        await link.close()
        # Who hung up is not waited for.
        answer = await session.step(awaited=9)
        assert isinstance(answer, NoRows)
        await session.goes_on()
        await session.client.send(Close())


async def test_rows_beyond_two_steps_are_not_taken_in(provider: Served, chain: Chain) -> None:
    async with awaiting_session(provider, new_wallet(chain)) as session:
        link, _ = await session.link()
        for number in range(1, 7):
            await link.send(Rows(number, 1, GOOD))
        for number in range(1, 7):
            assert isinstance(await session.step(awaited=number), StepResult)
        # What is late is dropped.
        await link.send(Rows(3, 1, NAN))
        await link.send(Rows(8, 1, GOOD))
        assert isinstance(await session.step(awaited=8), StepResult)
        await link.close()
        await session.client.send(Close())


async def test_a_client_may_give_up_a_wait_or_leave(
    provider: Served, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "LEAST_SECONDS", 300.0)
    async with awaiting_session(provider, new_wallet(chain)) as session:
        await session.goes_on()
        await session.send(awaited=1)
        await session.client.send(Discard(session.seq))
        assert isinstance(await session.answer(), NoRows)
        await session.client.send(Discard(session.seq))  # nothing waits: not a word
        await session.goes_on()
        await session.send(awaited=2)
        await session.client.send(Close())
        with pytest.raises(ConnectionLost):
            await session.client.receive(WAIT)
    assert provider.row(session.account).billed == 2 * PRICE


@pytest.mark.parametrize("rows_first", [True, False])
async def test_rows_and_a_word_of_the_client_may_come_at_once(
    provider: Served, chain: Chain, rows_first: bool
) -> None:
    async with awaiting_session(provider, new_wallet(chain)) as session:
        link, _ = await session.link()
        for number in range(1, 25, 2):
            await session.send(awaited=number)
            rows, word = link.send(Rows(number, 1, GOOD)), session.client.send(Discard(session.seq))
            for sending in (rows, word) if rows_first else (word, rows):
                await sending
            assert isinstance(await session.answer(), StepResult | NoRows)
            # Else there would be too many waits for nothing in a row.
            await link.send(Rows(number + 1, 1, GOOD))
            assert isinstance(await session.step(awaited=number + 1), StepResult)
        await session.client.send(Close())
    assert provider.row(session.account).billed == session.seq * PRICE


class Pipe:
    """One end of a link in memory."""

    peer, ip = "", ""

    def __init__(self, stream: trio.StapledStream) -> None:
        self._stream = stream

    async def read(self) -> bytes:
        return bytes(await self._stream.receive_some(65536))

    async def write(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self) -> None:
        await self._stream.aclose()

    reset = close


async def test_rows_are_used_at_once_and_count_more_than_a_word_of_that_moment() -> None:
    near, far = (Connection(Pipe(each)) for each in memory_stream_pair())
    inlet, spoken, used = Inlet("", frame_bound(1, 64)), trio.Event(), list[Rows]()

    def use(rows: Rows) -> None:
        used.append(rows)
        spoken.set()

    async def said() -> Message:
        await spoken.wait()
        return Discard(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inlet.read, near)
        assert isinstance(await far.receive(WAIT), LinkTaken)
        await far.send(Rows(1, 1, NAN))
        await far.send(Rows(2, 1, GOOD))
        assert await inlet.rows_of(2, said, WAIT, use) == (Rows(2, 1, GOOD), Discard(0))
        assert used == [Rows(2, 1, GOOD)]
        assert await inlet.rows_of(3, said, WAIT, use) == (None, Discard(0))
        assert await inlet.rows_of(3, None, 0.01, use) == (None, None)
        nursery.cancel_scope.cancel()


async def test_a_place_is_not_held_with_rows_that_never_come(provider: Served, chain: Chain) -> None:
    async with awaiting_session(provider, new_wallet(chain)) as session:
        for number in range(1, 1 + awaiting.MOST_MISSED):
            assert isinstance(await session.step(awaited=number), NoRows)
        answer = await session.step(awaited=99)
        assert isinstance(answer, Error)
        assert (answer.code, answer.billed_wei) == (ErrorCode.TIMEOUT, 0)


async def test_no_rows_are_awaited_where_nobody_was_named(provider: Served, chain: Chain) -> None:
    async with awaiting_session(provider, new_wallet(chain), ticket=b"", previous="") as session:
        answer = await session.step(awaited=1)
        assert isinstance(answer, Error)
        assert (answer.code, answer.billed_wei) == (ErrorCode.BAD_REQUEST, 0)


@pytest.mark.parametrize(
    ("ip", "direct"),
    [
        ("8.8.8.8", "/ip4/127.0.0.1/tcp/1"),
        ("8.8.8.8", "/ip4/10.0.0.1/tcp/1"),
        ("8.8.8.8", "/ip4/169.254.1.1/tcp/80"),
        ("192.168.1.7", "/ip4/127.0.0.1/tcp/1"),
        ("8.8.8.8", "/ip6/::ffff:127.0.0.1/tcp/1"),
        ("", "/ip4/9.9.9.9/tcp/1"),
        ("8.8.8.8", "no address"),
    ],
)
async def test_a_client_sends_nobody_to_machines_that_it_does_not_reach(
    ip: str, direct: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running_host(secrets.token_bytes(32)) as host:
        outlet = Outlet(1000)
        link = Link(host.peer, direct, TICKET)
        await outlet.make(host, link, Source("client", "8.8.8.0/24"), ip, Budget(BOUNDS["link dial"]))
    assert outlet.state is LinkState.BROKEN
    assert "is not at" not in caplog.text, "it was dialled"
