"""Limits of requests, keys and the wallet: never passed, by however many at once, and what came is kept and paid."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hypercluster.market.money.budget import Budget, LimitReached
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion, TooExpensive
from hypercluster.node.client.limits import Spending, WalletLimits
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.home.policy import WalletPolicy
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings
from tests.node.client.test_client import PROMPT, World, honest, world
from tests.node.helpers.providers import new_wallet

__all__ = ["honest", "world"]

PROMPT_COST = TOKEN_COST = 200
"""on both hops of the cheap path, where a token costs 100 and one of the prompt 25"""


def asked(tokens: int, *budgets: Budget, wishes: Wishes | None = None) -> Request:
    return Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=tokens), budgets=budgets, wishes=wishes)


async def run(client: Client, request: Request, into: list[Completion]) -> None:
    with trio.fail_after(300):
        async with client.complete(request) as completing:
            async for _ in completing:
                pass
        into.append(completing.completion)


async def test_a_budget_ends_the_completion_with_what_was_paid_for(world: World, tmp_path: Path) -> None:
    wallet = new_wallet(world.chain)
    budget = Budget("budget of key 'laptop'", PROMPT_COST + 3 * TOKEN_COST + TOKEN_COST - 1)
    ended: list[Completion] = []
    async with world.client(wallet, tmp_path) as client:
        await run(client, asked(20, budget), ended)
        (done,) = ended
        assert (done.finish, done.error) == ("cost", None)
        assert done.tokens == world.greedy[:4], "the prompt and three steps"
        assert done.limit is not None
        assert done.limit.name == "budget of key 'laptop'"
        assert done.spent_wei == budget.spent_wei == PROMPT_COST + 3 * TOKEN_COST
        assert budget.reserved_wei == done.risked_wei == 0
        assert world.best_vouchers(wallet) == done.spent_wei
        await run(client, asked(20, budget), ended)
    refused = ended[1]
    assert refused.finish == "failed"
    assert isinstance(refused.error, TooExpensive)
    assert "budget of key 'laptop'" in str(refused.error)
    assert refused.bill.hops == ()
    assert world.best_vouchers(wallet) == budget.spent_wei


async def test_two_at_once_on_one_budget_never_pass_it_together(world: World, tmp_path: Path) -> None:
    wallet = new_wallet(world.chain)
    budget = Budget("budget of a key", 2 * PROMPT_COST + 7 * TOKEN_COST + 1)
    # With the dear one left out both go over the same hops, though one request at a time tries newcomers.
    wishes = Wishes(only=frozenset({world.head.advert.peer, world.tail.advert.peer}))
    ended: list[Completion] = []
    async with world.client(wallet, tmp_path) as client, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(run, client, asked(20, budget, wishes=wishes), ended)
    assert [done.finish for done in ended] == ["cost", "cost"]
    assert sum(len(done.tokens) for done in ended) == 2 + 7, "no step was paid for in part"
    assert all(done.tokens == world.greedy[: len(done.tokens)] for done in ended)
    spent = sum(done.spent_wei for done in ended)
    assert spent == budget.spent_wei == world.best_vouchers(wallet) == 2 * PROMPT_COST + 7 * TOKEN_COST
    assert budget.reserved_wei == 0


async def test_what_others_spend_at_the_last_moment_ends_it_with_what_came(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was enough when it was looked at, and no longer when the step was to be paid."""
    monkeypatch.setattr(Spending, "refusal", lambda self, wei: None)
    budget = Budget("budget of a key", PROMPT_COST + 2 * TOKEN_COST)
    ended: list[Completion] = []
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        await run(client, asked(20, budget), ended)
        await run(client, asked(20, budget), ended)
    done, refused = ended
    assert (done.finish, done.error, len(done.tokens)) == ("cost", None, 3)
    assert done.limit is not None
    assert done.limit.name == "budget of a key"
    assert (refused.finish, refused.spent_wei) == ("failed", 0)
    assert "budget of a key" in str(refused.error)
    assert budget.spent_wei == done.spent_wei == PROMPT_COST + 2 * TOKEN_COST


@pytest.mark.parametrize("limit", ["per_request_wei", "per_day_wei", "total_wei"])
async def test_the_wallets_limits_bind_who_brings_no_budget(world: World, tmp_path: Path, limit: str) -> None:
    wallet = new_wallet(world.chain)
    ended: list[Completion] = []
    async with world.client(wallet, tmp_path) as client:
        client.payer.limits = WalletLimits(WalletPolicy(**{limit: PROMPT_COST + 2 * TOKEN_COST}))  # type: ignore[arg-type]
        await run(client, asked(20), ended)
        await run(client, asked(20), ended)
    first, second = ended
    assert (first.finish, len(first.tokens)) == ("cost", 3)
    if limit == "per_request_wei":
        assert (second.finish, len(second.tokens)) == ("cost", 3)
    else:
        assert isinstance(second.error, TooExpensive)
        assert "wallet's limit" in str(second.error)
    assert world.best_vouchers(wallet) == sum(done.spent_wei for done in ended)


async def test_what_one_request_left_and_the_next_is_paid_with_counts_once_for_the_wallet(
    world: World, tmp_path: Path
) -> None:
    """Its books are what was signed, and are the same when they are read again; what each request cost it cost."""
    wallet = new_wallet(world.chain)
    wishes = Wishes(only=frozenset({world.head.advert.peer, world.tail.advert.peer}), pay_ahead=8)
    ended: list[Completion] = []
    async with world.client(wallet, tmp_path) as client:
        limits = client.payer.limits
        for _ in range(2):
            await run(client, asked(4, wishes=wishes), ended)
    first, second = ended
    assert first.risked_wei == second.covered_wei > first.covered_wei == 0
    assert first.spent_wei == second.spent_wei
    counted = sum(done.spent_wei + done.risked_wei - done.covered_wei for done in ended)
    with open_ledger(Settings(home=tmp_path)) as ledger:
        signed = sum(channel.signed for channel in ledger.payer.channels())
        assert ledger.requests.spent_in(None, None) == signed == counted == world.best_vouchers(wallet)
    assert limits.day.spent_wei == limits.total.spent_wei == signed
    assert limits.day.reserved_wei == 0


async def test_a_raised_limit_counts_from_the_next_request_on(world: World, tmp_path: Path) -> None:
    ended: list[Completion] = []
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        client.payer.limits = WalletLimits(WalletPolicy(per_day_wei=0))
        await run(client, asked(3), ended)
        client.payer.limits.use(WalletPolicy())
        await run(client, asked(3), ended)
    assert [done.finish for done in ended] == ["failed", "length"]


def test_a_step_that_breaks_off_gives_back_what_nobody_was_paid() -> None:
    budget = Budget("limit", 100)
    spending = Spending("r", [budget])
    with spending.step(60):
        spending.take(20)
        with pytest.raises(LimitReached):
            spending.take(90)
        spending.book(20, answered=True)
    assert (budget.spent_wei, budget.reserved_wei, spending.spent_wei) == (20, 0, 20)


def test_what_a_part_spends_counts_in_the_whole_and_not_in_other_parts() -> None:
    whole = Spending("r")
    one, other = whole.within(), whole.for_audits()
    one.book(3, answered=True)
    other.within().book(40, answered=True)
    other.within().book(500, answered=False)
    assert [(each.spent_wei, each.risked_wei) for each in (one, other, whole)] == [
        (3, 0),
        (40, 500),
        (43, 500),
    ]


def test_two_steps_at_once_do_not_use_each_others_share() -> None:
    budget = Budget("limit", 100)
    one, two = Spending("a", [budget]), Spending("b", [budget])
    with one.step(60), two.step(40):
        with pytest.raises(LimitReached):
            two.take(41)
        one.take(60)
        two.take(40)
        one.book(60, answered=True)
        two.book(40, answered=True)
    assert (budget.spent_wei, budget.left_wei) == (100, 0)
