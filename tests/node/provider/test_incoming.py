"""Steps that come before others are answered: in turn, dropped where the client says so, and never without bound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.money.voucher import charge
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.errors import ConnectionLost, ErrorCode, WireError
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.provider import incoming
from hypercluster.node.rows import pack_tokens
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.links import Discard, NoRows
from hypercluster.node.wire.messages import (
    FLYING_ROWS,
    MOST_IN_FLIGHT,
    Accept,
    Close,
    Error,
    Step,
    StepResult,
)
from tests.node.helpers.providers import (
    FREE,
    PRICE,
    PROMPT_PRICE,
    Served,
    new_wallet,
    opening,
    running_provider,
)

WAIT = 60.0
LONG = 40
"""rows of a step that takes its time"""


@pytest.fixture(scope="module")
def provider(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("provider")
    with running_provider(chain, stored_tiny, folder, (0, 4), sessions=3, session_tokens=100) as provider:
        yield provider


@dataclass(eq=False)
class Ahead:
    """A session whose client sends steps before others are answered."""

    provider: Served
    account: OutgoingAccount
    client: Connection
    out: list[Step] = field(default_factory=list)
    computed: int = 0
    billed: int = 0

    async def send(self, position: int, rows: int, epoch: int, seq: int | None = None) -> None:
        cost = charge(PRICE, PROMPT_PRICE, rows)
        cumulative, signature = self.account.authorise(cost, FREE)
        step = Step(
            seq=self.computed + len(self.out) if seq is None else seq,
            position=position,
            rows=rows,
            cumulative_wei=cumulative,
            signature=signature,
            input=pack_tokens(np.arange(position, position + rows, dtype=np.int32)),
            epoch=epoch,
        )
        self.out.append(step)
        await self.client.send(step)

    async def answer(self) -> Message:
        answer = await self.client.receive(WAIT)
        if isinstance(answer, StepResult | NoRows):
            step = self.out.pop(0)
            cost = charge(PRICE, PROMPT_PRICE, step.rows)
            assert answer.seq == step.seq
            if isinstance(answer, StepResult):
                self.computed += 1
                self.billed += cost
                self.account.channel.acknowledge(cost, answer.billed_wei)
            else:
                assert answer.code is ErrorCode.OUT_OF_ORDER
                self.account.channel.drop(cost, answer.billed_wei)
            assert answer.billed_wei == self.billed
        return answer

    async def answers(self) -> list[bool]:
        """Whether each of the steps that are out is computed."""
        return [isinstance(await self.answer(), StepResult) for _ in list(self.out)]


@asynccontextmanager
async def ahead(provider: Served, chain: Chain) -> AsyncIterator[Ahead]:
    wallet = new_wallet(chain)
    account = wallet.channel(provider)
    async with running_host(wallet.session_key) as host:
        connection = await dial_steps(host, provider.advert)
        await connection.send(opening(provider.advert, account, capacity=100))
        accepted = await connection.receive(WAIT)
        assert isinstance(accepted, Accept)
        connection.raise_bound(frame_bound(accepted.max_step_tokens, accepted.width, 8))
        with trio.fail_after(2 * WAIT):
            yield Ahead(provider, account, connection)
        with trio.CancelScope(shield=True):
            await connection.close()


async def heard_out(session: Ahead) -> None:
    while True:
        await session.answer()


async def refused(session: Ahead) -> Error:
    while not isinstance(answer := await session.answer(), Error):
        pass
    assert answer.billed_wei == session.billed == session.provider.row(session.account).billed
    return answer


async def test_steps_are_answered_in_turn_and_those_of_a_later_epoch_go_back(
    provider: Served, chain: Chain
) -> None:
    async with ahead(provider, chain) as session:
        await session.send(0, 4, epoch=1)
        for at in range(4, 10):
            await session.send(at, 1, epoch=1)
        assert await session.answers() == [True] * 7
        await session.client.send(Discard(0, 1))
        await session.send(6, 2, epoch=2)
        # Of an epoch that is over nothing begins any more.
        await session.send(8, 1, epoch=1)
        await session.send(8, 1, epoch=3)
        assert await session.answers() == [True, False, True]
        # Alone it goes on as ever, with the number of its receipt.
        await session.send(9, 1, epoch=0)
        assert await session.answers() == [True]
        await session.client.send(Close())
    assert session.computed == 10
    assert provider.row(session.account).billed == session.billed


async def test_what_has_not_begun_is_dropped_unbilled_and_what_runs_is_not(
    provider: Served, chain: Chain
) -> None:
    async with ahead(provider, chain) as session:
        await session.send(0, LONG, epoch=1)
        for at in range(LONG, LONG + 7):
            await session.send(at, 1, epoch=1)
        await session.client.send(Discard(0, 1))
        await session.send(LONG // 2, 1, epoch=2)
        answers = await session.answers()
        begun = sum(answers[:-1])
        assert answers == [True] * begun + [False] * (8 - begun) + [True]
        assert session.account.channel.in_flight == 0
        # What was signed for the others pays for what comes.
        assert session.account.channel.signed >= session.billed
        await session.client.send(Close())
    assert provider.row(session.account).billed == session.billed


async def test_nobody_has_more_out_than_that(provider: Served, chain: Chain) -> None:
    async with ahead(provider, chain) as session:
        with pytest.raises(WireError):
            await session.send(0, FLYING_ROWS + 1, epoch=1)
        await session.send(0, LONG, epoch=1)
        try:
            for _ in range(100):
                await session.send(LONG, 1, epoch=1, seq=len(session.out))
            error = await refused(session)
        except ConnectionLost:
            # It closed before it was told all.
            error = None
        assert len(session.out) > MOST_IN_FLIGHT
    assert error is None or error.message == f"More than {MOST_IN_FLIGHT} steps are unanswered."


async def test_a_step_that_is_to_be_alone_does_not_come_behind_others(provider: Served, chain: Chain) -> None:
    async with ahead(provider, chain) as session:
        await session.send(0, LONG, epoch=1)
        await session.send(LONG, 1, epoch=1)
        await session.send(LONG + 1, 1, epoch=0)
        assert (await refused(session)).code is ErrorCode.BAD_REQUEST


async def test_nobody_is_kept_busy_with_steps_that_are_dropped(provider: Served, chain: Chain) -> None:
    async with ahead(provider, chain) as session:
        await session.send(0, 4, epoch=1)
        assert await session.answers() == [True]
        await session.client.send(Discard(0, 9))
        for _ in range(incoming.MOST_DROPPED):
            await session.send(4, 1, epoch=9)
            assert await session.answers() == [False]
        await session.send(4, 1, epoch=9)
        assert (await refused(session)).code is ErrorCode.TIMEOUT


@pytest.mark.parametrize("seq", [1, 3 + MOST_IN_FLIGHT])
async def test_numbers_that_nothing_explains_are_refused(provider: Served, chain: Chain, seq: int) -> None:
    async with ahead(provider, chain) as session:
        await session.send(0, 4, epoch=1)
        await session.send(4, 1, epoch=1)
        assert await session.answers() == [True, True]
        await session.send(5, 1, epoch=1, seq=seq)
        assert (await refused(session)).code is ErrorCode.OUT_OF_ORDER


async def test_who_closes_or_leaves_pays_for_nothing_that_has_not_begun(
    provider: Served, chain: Chain
) -> None:
    for word in (Close(), None):
        async with ahead(provider, chain) as session:
            await session.send(0, LONG, epoch=1)
            for at in range(LONG, LONG + 7):
                await session.send(at, 1, epoch=1)
            if word is not None:
                await session.client.send(word)
                with pytest.raises(ConnectionLost):
                    await heard_out(session)
            await session.client.close()
        with trio.fail_after(WAIT):
            while provider.open_sessions:
                await trio.sleep(0.02)
        billed = provider.row(session.account).billed
        assert billed >= session.billed
        assert (billed - charge(PRICE, PROMPT_PRICE, LONG)) % PRICE == 0
        if word is not None:
            assert billed == session.billed
