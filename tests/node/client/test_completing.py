"""A completion as a stream of events: left at any of them, or failing, its bill and the books are right."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.ledger import Ledger
from hypercluster.market.money.units import HCT
from hypercluster.node.client import completing as completing_module
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.events import (
    ChannelsOpened,
    ChannelsPlanned,
    Event,
    Finished,
    HopReplaced,
    PathChosen,
    Prefilled,
    Token,
)
from hypercluster.node.client.model import Model
from hypercluster.node.client.needs import AllBusy, RequestTooLong
from hypercluster.node.client.payer import Payer
from hypercluster.node.client.request import Allowance, Request
from hypercluster.node.errors import ErrorCode
from hypercluster.node.wire.messages import Accept, Error, StepResult
from tests.node.client.test_client import PROMPT, World, hang_up, honest, instead, world
from tests.node.helpers.providers import Wallet, new_wallet

__all__ = ["honest", "world"]
TOKENS = 6


def request(tokens: int = TOKENS, **changes: Any) -> Request:
    allowance = Allowance(tokens=tokens, **changes.pop("limits", {}))
    return Request(prompt=tuple(PROMPT), allowance=allowance, **changes)


def reputations(home: Path) -> list[float]:
    from datetime import UTC, datetime

    with Ledger(f"sqlite:///{home / 'ledger.sqlite'}") as ledger:
        standings = ledger.trust.standings(datetime.now(UTC)).values()
        return [node.bad + node.failed for each in standings for node in each.nodes.values()]


async def events_of(client: Client, asked: Request) -> tuple[list[Event], Completion]:
    with trio.fail_after(300):
        async with client.complete(asked) as completing:
            return [event async for event in completing], completing.completion


async def test_the_events_tell_it_all_in_order(world: World, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        events, done = await events_of(client, request())
        assert [type(event) for event in events] == [
            *(PathChosen, ChannelsPlanned, ChannelsOpened, Prefilled),
            *[Token] * TOKENS,
            Finished,
        ]
        again, _ = await events_of(client, request())
        assert [type(event) for event in again[:2]] == [PathChosen, Prefilled]
    planned, opened = events[1], events[2]
    assert isinstance(planned, ChannelsPlanned)
    assert isinstance(opened, ChannelsOpened)
    assert planned.planned.deposits == opened.funding.deposits
    # O2: what was said before is about what it took, and stands in the bill.
    assert 0.5 < planned.planned.gas_wei / opened.funding.gas_wei < 2
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.bill.gas_wei == opened.funding.gas_wei > 0
    assert last.bill.deposited_wei == 2 * (HCT // 100)
    assert (last.reason, last.error) == ("length", None)
    tokens = [event for event in events if isinstance(event, Token)]
    assert [token.id for token in tokens] == done.tokens == world.greedy[:TOKENS]
    assert "".join(token.text for token in tokens) + last.rest == done.text
    assert {token.candidates for token in tokens} == {64}


async def test_k2_the_loop_goes_on_while_a_prompt_is_encoded(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2: a chat's template may take seconds."""
    encode, going = Model.encode, threading.Event()

    def slow(self: Model, prompt: Any) -> list[int]:
        assert going.wait(300), "the loop stands still"
        return encode(self, prompt)

    async def go_on() -> None:
        await trio.sleep(0.2)
        going.set()

    monkeypatch.setattr(Model, "encode", slow)
    async with world.client(new_wallet(world.chain), tmp_path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        _, done = await events_of(client, request())
    assert done.tokens == world.greedy[:TOKENS]


@pytest.mark.parametrize("kind", [PathChosen, ChannelsPlanned, ChannelsOpened, Prefilled, Token, Finished])
@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_e3_left_at_any_event_the_bill_and_the_books_agree(
    world: World, tmp_path: Path, kind: type[Event], how: str
) -> None:
    """E3: cancelled or closed, what came is paid to the wei, and the next completion goes on over the same channels."""
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path) as client:
        completing = client.complete(request())
        with trio.CancelScope() as scope:
            async with completing:
                async for event in completing:
                    if isinstance(event, kind):
                        if how == "close":
                            break
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
        done = completing.completion
        assert done.finish == ("length" if kind is Finished else "cancelled")
        assert world.best_vouchers(wallet) == done.spent_wei + done.risked_wei
        assert done.tokens == world.greedy[: len(done.tokens)]
        with trio.fail_after(300):
            after = await client.complete(request()).finished()
    assert after.tokens == world.greedy[:TOKENS]
    assert after.failures == []
    total = done.spent_wei + after.spent_wei
    assert world.best_vouchers(wallet) == total + done.risked_wei
    assert _written(tmp_path) == total
    if kind is ChannelsPlanned:
        assert done.bill.gas_wei == 0


def _written(home: Path) -> int:
    with Ledger(f"sqlite:///{home / 'ledger.sqlite'}") as ledger:
        return sum(row.spent for row in ledger.payer.channels())


async def test_e3_cancelled_in_the_middle_of_a_step(world: World, tmp_path: Path) -> None:
    """E3: the step under way is risked, and stands in the bill."""
    wallet = new_wallet(world.chain)
    world.tail_lies.tell = instead(StepResult, None)
    async with world.client(wallet, tmp_path) as client:
        completing = client.complete(request())

        async def cancel_when_both_hold_a_voucher() -> None:
            while world.best_vouchers(wallet) < 200:
                await trio.sleep(0.02)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_both_hold_a_voucher)
            async with completing:
                async for _ in completing:
                    pass
        done = completing.completion
        assert done.finish == "cancelled"
        assert world.best_vouchers(wallet) == done.spent_wei + done.risked_wei
        assert done.risked_wei > 0
    assert max(reputations(tmp_path)) == 0


async def test_e1_with_nobody_left_the_text_so_far_the_bill_and_the_reason_come_out(
    world: World, tmp_path: Path
) -> None:
    """E1: the only provider of a range fails midway."""
    wallet = new_wallet(world.chain)
    world.tail_lies.tell = hang_up
    async with world.client(wallet, tmp_path) as client:
        avoided = client.wishes.__class__(
            market=client.wishes.market, avoid=frozenset({world.whole.advert.peer})
        )
        events, done = await events_of(client, request(wishes=avoided))
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.reason == "failed"
    assert world.tail.advert.peer in str(last.error)
    assert done.tokens == world.greedy[:2]
    assert done.text
    assert world.best_vouchers(wallet) <= last.bill.spent_wei + last.bill.risked_wei


async def test_e1_a_full_disk_or_a_dead_chain_ends_it_with_what_came(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1's kind: what fails on the client's own side is a reason like any other."""

    async def full(self: Payer, *arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    async with world.client(new_wallet(world.chain), tmp_path) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Payer, "save", full)
            events, done = await events_of(client, request())
            assert done.finish == "length"
        with monkeypatch.context() as patch:
            patch.setattr(Payer, "fund", full)
            events, done = await events_of(client, request())
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.reason == "failed"
    assert "No space" in str(last.error)
    assert max(reputations(tmp_path)) == 0


async def test_b1_a_prompt_too_long_is_refused_with_the_numbers_and_nobody_is_blamed(
    world: World, tmp_path: Path
) -> None:
    """B1: 16 prompts that fill the sessions of 100 that all offer; then a good request works."""
    long = Request(prompt=(72,) * 100, allowance=Allowance(tokens=1))
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        for _ in range(16):
            events, done = await events_of(client, long)
            assert [type(event) for event in events] == [Finished]
            assert isinstance(done.error, RequestTooLong)
            for number in ("100", "99"):
                assert number in str(done.error)
        events, done = await events_of(client, request(tokens=4))
        assert done.tokens == world.greedy[:4]
    assert max(reputations(tmp_path)) == 0


async def test_tokens_are_an_upper_bound_and_never_too_many(world: World, tmp_path: Path) -> None:
    """Agents ask for 128,000: they get what the sessions of 100 hold, and channels of no more than usual."""
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        last = Request(prompt=(72,) * 99, allowance=Allowance(tokens=128_000))
        _, done = await events_of(client, last)
        assert (done.finish, len(done.tokens), done.allowed) == ("length", 1, 1)
        _, done = await events_of(client, request(tokens=128_000))
        assert (done.finish, len(done.tokens), done.allowed) == ("length", 96, 96)
        assert done.tokens[: len(world.greedy)] == world.greedy
        assert done.bill.deposited_wei <= 2 * HCT // 100
    assert max(reputations(tmp_path)) == 0


@pytest.mark.parametrize(
    "code", [ErrorCode.FULL, ErrorCode.UNKNOWN_CHANNEL, ErrorCode.TOO_LONG, ErrorCode.VOUCHER_TOO_LOW]
)
async def test_b1_who_refuses_is_gone_around_and_not_blamed(
    world: World, tmp_path: Path, code: ErrorCode
) -> None:
    """B1's kind: it stays in the book, too."""
    world.head_lies.tell = instead(Accept, Error(code, "Not now."))
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        events, done = await events_of(client, request())
        assert done.tokens == world.greedy[:TOKENS]
        replaced = [event for event in events if isinstance(event, HopReplaced)]
        assert replaced
        assert not any(event.blamed for event in replaced)
        assert world.head.advert.peer in {advert.peer for advert in client.adverts()}
    assert max(reputations(tmp_path)) == 0


async def test_b1_full_is_waited_out_where_there_is_no_way_around(world: World, tmp_path: Path) -> None:
    """B1's kind: FULL three times, then it has a free session."""
    refusals = [Error(ErrorCode.FULL, "Full.")] * 3

    def full(message: Any, _count: int) -> Any:
        return refusals.pop() if isinstance(message, Accept) and refusals else message

    world.head_lies.tell = full
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        avoided = client.wishes.__class__(
            market=client.wishes.market, avoid=frozenset({world.whole.advert.peer})
        )
        _, done = await events_of(client, request(wishes=avoided))
    assert done.tokens == world.greedy[:TOKENS]
    assert done.failures == []
    assert max(reputations(tmp_path)) == 0


async def test_b1_full_for_as_long_as_one_waits_is_called_that(world: World, tmp_path: Path) -> None:
    """B1's kind: a provider that stays full has not failed, and the reason says so."""

    def full(message: Any, _count: int) -> Any:
        return Error(ErrorCode.FULL, "Full.") if isinstance(message, Accept) else message

    world.head_lies.tell = full
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        avoided = client.wishes.__class__(
            market=client.wishes.market, avoid=frozenset({world.whole.advert.peer})
        )
        _, done = await events_of(client, request(wishes=avoided, limits={"patience": 2.0}))
    assert isinstance(done.error, AllBusy)
    assert done.failures == []
    assert max(reputations(tmp_path), default=0) == 0


async def test_b2_a_client_that_was_away_opens_again_and_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B2: idle for too long in mid-completion, so that the sessions are closed and the adverts forgotten."""
    monkeypatch.setattr(completing_module, "ABSENT_SECONDS", 0.5)
    wallet: Wallet = new_wallet(world.chain)
    dropped: list[int] = []

    def idle(message: Any, count: int) -> Any:
        if isinstance(message, StepResult) and count == 3 and not dropped:
            dropped.append(count)
            return Error(ErrorCode.TIMEOUT, "The peer sent nothing for 120 s.")
        return message

    world.tail_lies.tell = idle
    async with world.client(wallet, tmp_path) as client:
        with trio.fail_after(300):
            async with client.complete(request()) as completing:
                async for event in completing:
                    if isinstance(event, Token) and len(completing.completion.tokens) == 3:
                        await trio.sleep(0.6)
                        for advert in client.adverts():
                            client.network.discovery.book.remove(advert.peer)
        done = completing.completion
    assert dropped
    assert done.finish == "length"
    assert done.tokens == world.greedy[:TOKENS]
    assert done.failures == []
    # Whose adverts are heard of first is gone on with, two providers or one, and who was left is not to blame.
    assert [bill.peer for bill in done.bills[:2]] == [world.head.advert.peer, world.tail.advert.peer]
    assert len(done.bills) in (3, 4)
    assert max(reputations(tmp_path)) == 0
