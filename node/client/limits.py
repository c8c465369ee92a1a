"""What a request may spend: several budgets at once, asked before every step and charged with every voucher."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.market.money.budget import (
    Budget,
    LimitReached,
    Period,
    PeriodBudget,
    least_left,
    reserved,
)
from hypercluster.node.home.policy import BadPolicy, WalletPolicy, load_policy, policy_file

if TYPE_CHECKING:
    from hypercluster.market.ledger import Ledger

log = logging.getLogger(__name__)


AUDITS = "+audits"
"""at the end of a request's id: what its audits spend"""


def utc_now() -> datetime:
    """The current moment in UTC."""
    return datetime.now(UTC)


class Spending:
    """What one request spends, over all of its sessions and audits. Amounts in wei.

    Args:
        request_id: under which its vouchers are written down.
        budgets: each of them has to hold all of it.
        part_of: the whole of which this is a part.
    """

    def __init__(
        self, request_id: str = "", budgets: Sequence[Budget] = (), part_of: Spending | None = None
    ) -> None:
        self._part_of = part_of
        self.request_id = request_id
        self.budgets = tuple(budgets)
        self.spent_wei = 0
        """for vouchers that were answered, those of its parts too"""
        self.risked_wei = 0
        """for vouchers that are out and were never answered; they count in every budget as well"""
        self.covered_wei = 0
        """for vouchers that earlier steps had risked; budgets that count them `once` counted them then"""
        self._granted = 0
        """set aside for the step under way, and no voucher signed for it yet"""

    def within(self, *budgets: Budget) -> Spending:
        """A part of the same request, which is counted by itself as well, and within further budgets."""
        return Spending(self.request_id, (*self.budgets, *budgets), self)

    def _counting(self) -> Iterator[Spending]:
        """This one, and all that it is a part of."""
        at: Spending | None = self
        while at is not None:
            yield at
            at = at._part_of

    def for_audits(self) -> Spending:
        """The same request's audits, which are written down apart: they go on when it has ended."""
        return Spending(self.request_id + AUDITS, self.budgets, self)

    @property
    def left_wei(self) -> int | None:
        """What can still be spent; None without a bound."""
        least = least_left(self.budgets)
        return None if least is None else least.left_wei

    def refusal(self, wei: int) -> LimitReached | None:
        """The limit that ``wei`` more would pass, or None."""
        return next((found for each in self.budgets if (found := each.refusal(wei))), None)

    @contextmanager
    def step(self, wei: int) -> Iterator[None]:
        """Set ``wei`` aside for a step over all hops, so that none is paid for in part only.

        What is not signed for within the block is given back at its end.

        Raises:
            LimitReached: a budget does not cover the whole step; nothing was signed.
        """
        with reserved(self.budgets, wei):
            self._granted += wei
        try:
            yield
        finally:
            rest = min(self._granted, wei)
            self._granted -= rest
            self._release(rest)

    def take(self, wei: int, covered: int = 0) -> None:
        """Set ``wei`` aside for one voucher, out of the step's if there is one. For ``covered`` of it nothing is signed
        anew, as what earlier steps had risked pays for it.

        Raises:
            LimitReached: it does not fit, and must not be signed.
        """
        granted = min(self._granted, wei)
        with reserved(self.budgets, wei - granted):
            self._granted -= granted
        self.cover(covered)

    def cover(self, wei: int) -> None:
        """Note that of what is set aside ``wei`` were signed, and counted, with others."""
        for each in self._counting():
            each.covered_wei += wei
        for budget in self.budgets:
            if budget.once:
                budget.cover(wei)

    def give_back(self, wei: int, covered: int = 0) -> None:
        """Undo `take` for a voucher that was not signed."""
        for each in self._counting():
            each.covered_wei -= covered
        for budget in self.budgets:
            if budget.once:
                budget.uncover(covered)
        self._release(wei)

    def book(self, wei: int, *, answered: bool) -> None:
        """Count a voucher's step as spent or risked: the provider has the voucher in any case."""
        for each in self._counting():
            if answered:
                each.spent_wei += wei
            else:
                each.risked_wei += wei
        for budget in self.budgets:
            budget.book(wei, wei)

    def _release(self, wei: int) -> None:
        for budget in self.budgets:
            budget.release(wei)


class WalletLimits:
    """What the wallet's policy leaves, over all requests of this process and of those before.

    Args:
        policy: in force until `use` gives another.
        spent_today, spent_ever: wei, before this process.
    """

    def __init__(
        self,
        policy: WalletPolicy,
        spent_today: int = 0,
        spent_ever: int = 0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.policy = policy
        self.day = PeriodBudget(
            "wallet's limit for a day", policy.per_day_wei, Period.DAY, spent_today, clock, once=True
        )
        self.total = Budget("wallet's limit for all time", policy.total_wei, spent_ever, once=True)

    def use(self, policy: WalletPolicy) -> None:
        """Take up another policy; requests that run keep their own limit."""
        self.policy = policy
        self.day.limit_wei, self.total.limit_wei = policy.per_day_wei, policy.total_wei

    def budgets(self) -> tuple[Budget, ...]:
        """Those that a request is bound by, whoever asks for it."""
        return Budget("wallet's limit for a request", self.policy.per_request_wei), self.day, self.total


class HomeLimits(WalletLimits):
    """The limits of a home's policy file, which is read again whenever it changes.

    Raises BadPolicy for a file that is wrong at the start; one that gets wrong later leaves things as they are.
    """

    def __init__(self, home: Path, ledger: Ledger, clock: Callable[[], datetime] = utc_now) -> None:
        self._home, self._seen = home, _stamp(home)
        spent = ledger.requests.spent_in
        super().__init__(load_policy(home), spent(None, Period.DAY.start(clock())), spent(None, None), clock)

    def budgets(self) -> tuple[Budget, ...]:
        """As the file says now."""
        stamp = _stamp(self._home)
        if stamp != self._seen:
            self._seen = stamp
            try:
                self.use(load_policy(self._home))
            except BadPolicy as error:
                log.warning("the wallet's policy stays as it was: %s", error)
        return super().budgets()


def _stamp(home: Path) -> tuple[int, int, int] | None:
    """Changes whenever the policy file does."""
    try:
        found = policy_file(home).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
