"""Vouchers that pay for several steps: every step is covered, and no wei is spent that a budget or a deposit lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import coincurve
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.market.errors import OverDeposit
from hypercluster.market.money.budget import Budget, LimitReached
from hypercluster.market.money.channel import PayeeChannel, PayerChannel
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.client.ahead import Ahead
from hypercluster.node.client.limits import Spending
from hypercluster.node.client.request import BadRequest, Wishes

DOMAIN = VoucherDomain("0x" + "11" * 20, 31337)
PRICE = 10
KEY = coincurve.PrivateKey()


class Paid:
    """A payer and its provider, over one channel."""

    def __init__(self, deposit: int) -> None:
        descriptor = ChannelDescriptor("0x" + "22" * 20, "0x" + "33" * 20, address_of(KEY), bytes(32))
        channel_id = DOMAIN.channel_id(descriptor)
        self.account = OutgoingAccount(descriptor, channel_id, PayerChannel(deposit), DOMAIN, KEY)
        self.payee = PayeeChannel(DOMAIN, descriptor, deposit)

    def step(self, ahead: Ahead, spending: Spending, cost: int) -> None:
        self.payee.admit(cost, *ahead.voucher(cost))
        self.account.acknowledge(cost, self.payee.billed, spending)


@given(
    st.integers(1, 9), st.lists(st.lists(st.sampled_from([PRICE, 3 * PRICE, 25]), max_size=12), max_size=3)
)
@settings(max_examples=60, deadline=None)
def test_every_step_is_covered_and_counted_once(tokens: int, sessions: Sequence[Sequence[int]]) -> None:
    both = Paid(10**9)
    budget, wallet = Budget("limit", None), Budget("limit of the wallet", None, once=True)
    spending = Spending("request", [budget, wallet])
    for costs in sessions:
        ahead = Ahead(both.account, spending, (tokens - 1) * PRICE)
        for cost in costs:
            both.step(ahead, spending, cost)
            assert 0 <= ahead.wei <= (tokens - 1) * PRICE
        ahead.end()
        ahead.end()
    total = sum(map(sum, sessions))
    assert both.payee.billed == spending.spent_wei == both.account.channel.spent == total
    assert both.payee.best == both.account.channel.signed
    assert total <= both.payee.best <= total + (tokens - 1) * PRICE
    assert budget.spent_wei == spending.spent_wei + spending.risked_wei >= both.payee.best
    # What one session left pays for the next: the wallet signed it once.
    assert wallet.spent_wei == budget.spent_wei - spending.covered_wei == both.payee.best
    assert wallet.reserved_wei == both.account.held == 0


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("pldna"), st.integers(0, 30)), max_size=40))
@settings(max_examples=100, deadline=None)
def test_the_wallets_books_are_what_was_signed(deeds: Sequence[tuple[int, str, int]]) -> None:
    """Two sessions at once on one channel, whose steps are answered, lost or dropped, and which end and begin anew."""
    both = Paid(10**9)
    wallet = Budget("limit of the wallet", None, once=True)
    spendings = [Spending(name, [Budget("limit", None), wallet]) for name in "ab"]
    sessions = [Ahead(both.account, spending, 2 * PRICE) for spending in spendings]
    for which, what, cost in deeds:
        ahead, spending = sessions[which], spendings[which]
        if what == "n":
            ahead.end()
            sessions[which] = Ahead(both.account, spending, 2 * PRICE)
            continue
        ahead.voucher(cost)
        if what == "l":
            both.account.release(cost, spending)
        elif what == "d":
            ahead.keep(cost)
            both.account.dropped(cost, both.account.channel.spent)
        else:
            both.account.acknowledge(cost, both.account.channel.spent + cost, spending)
    for ahead in sessions:
        ahead.end()
    assert (wallet.spent_wei, wallet.reserved_wei) == (both.account.channel.signed, 0)
    assert sum(each.spent_wei + each.risked_wei - each.covered_wei for each in spendings) == wallet.spent_wei


def test_what_was_not_signed_is_not_covered_either() -> None:
    both = Paid(3 * PRICE)
    wallet = Budget("limit of the wallet", None, once=True)
    spending = Spending("request", [wallet])
    both.account.authorise(PRICE, spending)
    both.account.release(PRICE, spending)
    with pytest.raises(OverDeposit):
        both.account.authorise(4 * PRICE, spending)
    assert (wallet.spent_wei, wallet.reserved_wei, spending.covered_wei) == (PRICE, 0, 0)
    both.account.authorise(2 * PRICE, spending)
    assert (wallet.spent_wei, wallet.reserved_wei, spending.covered_wei) == (PRICE, PRICE, PRICE)


@given(
    st.lists(st.tuples(st.sampled_from([PRICE, 3 * PRICE]), st.sampled_from([PRICE, 25])), max_size=12),
    st.integers(1, 9),
    st.integers(5 * PRICE, 60 * PRICE),
)
@settings(max_examples=60, deadline=None)
def test_what_is_signed_before_it_is_needed_changes_no_amount(
    steps: Sequence[tuple[int, int]], tokens: int, deposit: int
) -> None:
    """Not even where the next step costs something else than was thought."""
    plain, foreseeing = Paid(deposit), Paid(deposit)
    spent = []
    for both in (plain, foreseeing):
        spending = Spending("request", [Budget("limit", 40 * PRICE)])
        ahead = Ahead(both.account, spending, (tokens - 1) * PRICE)
        for cost, thought in steps:
            if both is foreseeing:
                ahead.foresee(thought)
            try:
                both.step(ahead, spending, cost)
            except (OverDeposit, LimitReached):
                break
        spent.append((spending.spent_wei, ahead.wei, both.payee.billed, both.payee.best))
    assert spent[0] == spent[1]


def test_a_voucher_that_was_foreseen_is_not_signed_again() -> None:
    class Counting(VoucherDomain):
        signed = 0

        def sign(self, *given: Any) -> bytes:
            Counting.signed += 1
            return super().sign(*given)

    both = Paid(10**9)
    both.account.domain = Counting(DOMAIN.contract, DOMAIN.chain_id)
    spending = Spending()
    ahead = Ahead(both.account, spending, 0)
    for _ in range(5):
        ahead.foresee(PRICE)
        before = Counting.signed
        both.step(ahead, spending, PRICE)
        assert Counting.signed == before
    assert Counting.signed == 5
    assert both.payee.billed == both.payee.best == 5 * PRICE


def test_a_voucher_is_signed_for_many_tokens_at_once() -> None:
    both, spending = Paid(10**9), Spending()
    ahead = Ahead(both.account, spending, 7 * PRICE)
    shown = []
    for _ in range(24):
        cumulative, signature = ahead.voucher(PRICE)
        both.payee.admit(PRICE, cumulative, signature)
        both.account.acknowledge(PRICE, both.payee.billed, spending)
        shown.append(cumulative)
    assert sorted(set(shown)) == [8 * PRICE, 16 * PRICE, 24 * PRICE]


@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40))
@settings(max_examples=60, deadline=None)
def test_sessions_of_one_channel_leave_each_other_what_they_paid_ahead(
    tokens: int, turns: Sequence[tuple[int, bool]]
) -> None:
    """As answers to one prompt, which run at the same time: what each risks is its own, and stays within its bound."""
    both, most = Paid(10**9), (tokens - 1) * PRICE
    spendings = [Spending(str(number), [Budget("limit", None)]) for number in range(3)]
    sessions = [Ahead(both.account, spending, most) for spending in spendings]
    signed = [0, 0, 0]
    for number, dropped in turns:
        best = both.account.channel.signed
        if dropped:
            sessions[number].voucher(PRICE)
            sessions[number].keep(PRICE)
            both.account.dropped(PRICE, both.payee.billed)
        else:
            both.step(sessions[number], spendings[number], PRICE)
        signed[number] += both.account.channel.signed > best
        assert all(each.wei <= most + PRICE for each in sessions)
        ahead = sum(each.wei for each in sessions)
        assert both.account.channel.signed == both.account.channel.spent + ahead
    for each in sessions:
        each.end()
    risked = sum(spending.risked_wei for spending in spendings)
    assert both.account.channel.signed == both.payee.billed + risked
    for number, times in enumerate(signed):
        steps = [dropped for which, dropped in turns if which == number]
        assert any(steps) or times == -(-len(steps) // tokens)


@pytest.mark.parametrize("hops", [1, 4])
def test_a_budget_is_used_up_to_its_last_wei(hops: int) -> None:
    both = [Paid(10**9) for _ in range(hops)]
    budget = Budget("limit", 800 * hops * PRICE)
    spending = Spending("request", [budget])
    ahead = [Ahead(each.account, spending, 7 * PRICE) for each in both]
    steps, most = 0, 0
    while spending.refusal(hops * PRICE) is None:
        with spending.step(hops * PRICE):
            for one, paid in zip(ahead, both, strict=True):
                paid.step(one, spending, PRICE)
        steps, most = steps + 1, max(most, *(one.wei for one in ahead))
    assert most == 7 * PRICE
    assert steps == 800
    assert spending.spent_wei == budget.limit_wei
    with pytest.raises(LimitReached):
        ahead[0].voucher(PRICE)


def test_a_deposit_is_used_up_to_its_last_wei() -> None:
    both, spending = Paid(20 * PRICE), Spending()
    ahead = Ahead(both.account, spending, 7 * PRICE)
    for _ in range(20):
        both.step(ahead, spending, PRICE)
    assert both.payee.billed == both.payee.best == 20 * PRICE
    with pytest.raises(OverDeposit):
        ahead.voucher(PRICE)
    assert spending.spent_wei == 20 * PRICE


@pytest.mark.parametrize("tokens", [0, -1, 65])
def test_nobody_pays_for_none_or_too_many(tokens: int) -> None:
    with pytest.raises(BadRequest, match="1 \\(each its own\\) to 64"):
        Wishes(pay_ahead=tokens)
