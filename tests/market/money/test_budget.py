"""Budgets are never passed, however reservations, bookings and periods follow each other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money import Budget, LimitReached, Period, PeriodBudget
from hypercluster.market.money.budget import least_left, reserved
from hypercluster.market.money.units import HCT

START = datetime(2026, 1, 31, 22, 30, tzinfo=UTC)
amounts = st.integers(0, 50)


class Spending(RuleBasedStateMachine):
    """Requests reserve, answer and give up in any order while the days go by."""

    held = Bundle("held")

    @initialize(limit=amounts | st.none(), spent=amounts, period=st.sampled_from(Period))
    def begin(self, limit: int | None, spent: int, period: Period) -> None:
        self.now = START
        self.budget = PeriodBudget("limit", limit, period, spent, clock=lambda: self.now)
        self.first = spent
        self.booked: list[tuple[datetime, int]] = [(self.now, spent)]
        self.out: list[int] = []

    @rule(target=held, wei=amounts)
    def reserve(self, wei: int) -> int:
        before = (self.budget.spent_wei, self.budget.reserved_wei)
        limit = self.budget.limit_wei
        if limit is None or wei <= max(0, limit - sum(before)):
            self.budget.reserve(wei)
            self.out.append(wei)
            return wei
        with pytest.raises(LimitReached) as refusal:
            self.budget.reserve(wei)
        said = refusal.value
        assert (said.limit_wei, said.spent_wei, said.needed_wei) == (limit, sum(before), wei)
        assert (self.budget.spent_wei, self.budget.reserved_wei) == before
        return -1

    @rule(wei=consumes(held), share=st.integers(0, 100))
    def book(self, wei: int, share: int) -> None:
        if wei < 0:
            return
        self.out.remove(wei)
        self.budget.book(wei, wei * share // 100)
        self.booked.append((self.now, wei * share // 100))

    @rule(wei=consumes(held))
    def release(self, wei: int) -> None:
        if wei < 0:
            return
        self.out.remove(wei)
        self.budget.release(wei)

    @rule(hours=st.integers(0, 24 * 40))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @invariant()
    def the_books_are_right(self) -> None:
        start = self.budget.period.start(self.now)
        spent = sum(wei for at, wei in self.booked if start is None or at >= start)
        assert self.budget.spent_wei == spent
        assert self.budget.reserved_wei == sum(self.out)
        if self.budget.limit_wei is None:
            assert self.budget.left_wei is None
        else:
            assert self.budget.left_wei == max(0, self.budget.limit_wei - spent - sum(self.out))
            assert spent <= max(self.budget.limit_wei, self.first)


TestSpending = Spending.TestCase


def test_periods_begin_at_midnight_on_mondays_and_on_the_first_in_utc() -> None:
    east = timezone(timedelta(hours=14))
    at = datetime(2026, 3, 1, 9, 0, tzinfo=east)  # still Saturday, 28 February, 19:00 in UTC
    assert Period.DAY.start(at) == datetime(2026, 2, 28, tzinfo=UTC)
    assert Period.WEEK.start(at) == datetime(2026, 2, 23, tzinfo=UTC)
    assert Period.MONTH.start(at) == datetime(2026, 2, 1, tzinfo=UTC)
    assert Period.TOTAL.start(at) is None


def test_a_step_under_way_at_midnight_counts_in_the_new_day_once() -> None:
    now = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    budget = PeriodBudget("limit of the day", 10, Period.DAY, 4, clock=lambda: now)
    budget.reserve(6)
    now += timedelta(seconds=1)
    assert (budget.spent_wei, budget.left_wei) == (0, 4)
    budget.book(6, 6)
    assert (budget.spent_wei, budget.left_wei) == (6, 4)
    now -= timedelta(days=1)
    assert budget.spent_wei == 6, "a clock that was set back"


def test_a_refusal_names_the_budget_and_the_amounts() -> None:
    budget = Budget("limit of this request", 2 * HCT, HCT)
    budget.reserve(HCT // 2)
    with pytest.raises(
        LimitReached,
        match=r"^The limit of this request is 2 HCT, of which 1\.5 HCT are spent or set aside: 1 HCT more ",
    ):
        budget.reserve(HCT)


@given(st.lists(st.tuples(amounts | st.none(), amounts), max_size=4), amounts)
def test_all_budgets_give_or_none_does(plans: list[tuple[int | None, int]], wei: int) -> None:
    budgets = [Budget(f"limit {n}", limit, spent) for n, (limit, spent) in enumerate(plans)]
    fits = all(budget.left_wei is None or wei <= budget.left_wei for budget in budgets)
    assert (least := least_left(budgets)) is None or least.left_wei == min(
        budget.left_wei for budget in budgets if budget.left_wei is not None
    )
    try:
        with reserved(budgets, wei):
            assert fits
            assert all(budget.reserved_wei == wei for budget in budgets)
            raise KeyError
    except KeyError:
        pass
    except LimitReached:
        assert not fits
    assert not any(budget.reserved_wei for budget in budgets)


def test_what_was_never_set_aside_cannot_be_booked() -> None:
    budget = Budget("limit", None)
    budget.reserve(5)
    with pytest.raises(InvalidAmount):
        budget.book(6, 6)
    with pytest.raises(InvalidAmount):
        budget.release(6)
    with pytest.raises(InvalidAmount):
        budget.reserve(-1)
    with pytest.raises(InvalidAmount):
        Budget("limit", -1)
