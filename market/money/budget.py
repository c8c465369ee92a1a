"""Limits on what may be spent, kept to the wei while several requests spend at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from hypercluster.market.errors import InvalidAmount, MarketError
from hypercluster.market.money.units import format_hct


class LimitReached(MarketError):
    """A budget does not cover what is about to be spent. Amounts in wei.

    ``name`` is that of the budget, ``spent_wei`` what it has spent or set aside, ``needed_wei`` what was asked for.
    """

    def __init__(self, name: str, limit_wei: int, spent_wei: int, needed_wei: int) -> None:
        super().__init__(
            f"The {name} is {format_hct(limit_wei)} HCT, of which {format_hct(spent_wei)} HCT are spent or set "
            f"aside: {format_hct(needed_wei)} HCT more do not fit."
        )
        self.name = name
        self.limit_wei = limit_wei
        self.spent_wei = spent_wei
        self.needed_wei = needed_wei


class Budget:
    """A bound on what is spent. For one thread.

    What a step costs is reserved before its voucher is signed; afterwards it is booked, or released where nothing
    was sent. So spent and reserved together never exceed the limit, however many spend at once.

    Args:
        name: what people call it, such as "limit of this request": it is put into sentences after "the".
        limit_wei: None for no bound.
        spent_wei: what was spent before.
        once: what was booked as risked, and pays for a later step, is not counted again.
    """

    def __init__(self, name: str, limit_wei: int | None, spent_wei: int = 0, *, once: bool = False) -> None:
        if spent_wei < 0 or (limit_wei is not None and limit_wei < 0):
            raise InvalidAmount(f"The {name} cannot be below zero.")
        self.name = name
        self.limit_wei = limit_wei
        self._spent = spent_wei
        self._reserved = 0
        self.once = once
        self._covered = 0
        """of what is to be booked or released: it is counted already"""

    @property
    def spent_wei(self) -> int:
        """What was booked, steps without a good answer included."""
        return self._spent

    @property
    def reserved_wei(self) -> int:
        """What is set aside for steps under way."""
        return self._reserved

    @property
    def left_wei(self) -> int | None:
        """What can still be reserved, 0 at least; None without a bound."""
        if self.limit_wei is None:
            return None
        return max(0, self.limit_wei - self.spent_wei - self._reserved)

    def refusal(self, wei: int) -> LimitReached | None:
        """Why ``wei`` cannot be reserved, or None if it can."""
        left = self.left_wei
        if left is None or self.limit_wei is None or wei <= left:
            return None
        return LimitReached(self.name, self.limit_wei, self.spent_wei + self._reserved, wei)

    def reserve(self, wei: int) -> None:
        """Set ``wei`` aside.

        Raises:
            LimitReached: it does not fit; nothing has changed.
        """
        if wei < 0:
            raise InvalidAmount(f"A step cannot cost {wei} wei.")
        if refusal := self.refusal(wei):
            raise refusal
        self._reserved += wei

    def book(self, reserved: int, spent: int) -> None:
        """Turn ``reserved`` wei that were set aside into ``spent`` wei that are gone, which may be more.

        A step that was sent and never answered well is spent: its voucher is with the provider.
        """
        covered = min(self._covered, reserved)
        self._take(reserved - covered)
        self._covered -= covered
        if spent < covered:
            raise InvalidAmount(f"A step cannot have cost {spent - covered} wei.")
        self._spent = self.spent_wei + spent - covered

    def cover(self, wei: int) -> None:
        """Note that ``wei`` of what was just set aside are counted already, as an earlier step had risked them."""
        self._take(wei)
        self._covered += wei

    def uncover(self, wei: int) -> None:
        """Undo `cover` for what was never sent."""
        self._covered -= wei
        self._reserved += wei

    def release(self, wei: int) -> None:
        """Give back ``wei`` that were set aside for what was never sent."""
        self._take(wei)

    def _take(self, wei: int) -> None:
        if not 0 <= wei <= self._reserved:
            raise InvalidAmount(f"{wei} wei of the {self.name} are not set aside: {self._reserved} are.")
        self._reserved -= wei


class Period(StrEnum):
    """For how long a budget is; calendar days, weeks (from Monday) and months in UTC."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"

    def start(self, at: datetime) -> datetime | None:
        """When the period that ``at`` lies in began, in UTC; None of TOTAL, which never did."""
        day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        match self:
            case Period.DAY:
                return day
            case Period.WEEK:
                return day - timedelta(days=day.weekday())
            case Period.MONTH:
                return day.replace(day=1)
            case Period.TOTAL:
                return None


def _utc() -> datetime:
    return datetime.now(UTC)


class PeriodBudget(Budget):
    """A budget that begins anew with each of its periods.

    What is booked counts in the period in which it is booked. A clock that is set back reopens no period.

    Args:
        period: for how long ``limit_wei`` is.
        spent_wei: what was spent in the current period.
        clock: the current moment, with a time zone.
    """

    def __init__(
        self,
        name: str,
        limit_wei: int | None,
        period: Period,
        spent_wei: int = 0,
        clock: Callable[[], datetime] = _utc,
        *,
        once: bool = False,
    ) -> None:
        super().__init__(name, limit_wei, spent_wei, once=once)
        self.period = period
        self._clock = clock
        self._since = period.start(clock())

    @property
    def since(self) -> datetime | None:
        """When the current period began; None of one that never did."""
        self._roll()
        return self._since

    @property
    def spent_wei(self) -> int:
        """What was booked in the current period."""
        self._roll()
        return self._spent

    def _roll(self) -> None:
        start = self.period.start(self._clock())
        if start is not None and self._since is not None and start > self._since:
            self._since, self._spent = start, 0


@contextmanager
def reserved(budgets: Sequence[Budget], wei: int) -> Iterator[None]:
    """Set ``wei`` aside in all budgets, or in none of them; what raises within the block gives it back.

    Raises:
        LimitReached: one of them does not cover it.
    """
    held: list[Budget] = []
    try:
        for budget in budgets:
            budget.reserve(wei)
            held.append(budget)
        yield
    except BaseException:
        for budget in held:
            budget.release(wei)
        raise


def least_left(budgets: Sequence[Budget]) -> Budget | None:
    """The budget with the least left; None where none has a bound."""
    bounded = [(budget.left_wei, budget) for budget in budgets]
    return min(
        ((left, budget) for left, budget in bounded if left is not None),
        key=lambda each: each[0],
        default=(0, None),
    )[1]
