"""Sums over requests: by hour or day, by key, by model, by app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, case, func, literal_column, select
from sqlalchemy.orm import Session

from hypercluster.market.ledger.columns import calendar_text, total_wei
from hypercluster.market.ledger.front_tables import Outcome, RequestRow

MOST_TOTALS = 2000
"""groups that one look gives at most: the latest hours or days, the dearest of the others"""


class By(StrEnum):
    """What requests are added up by."""

    HOUR = "hour"
    DAY = "day"
    KEY = "key"
    MODEL = "model"
    APP = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Sums over a group of requests, amounts in wei; see RequestRow.

    ``group`` is the beginning of the hour or day in UTC, such as "2026-01-31T23:00:00+00:00", or a key's id ("" for
    requests without one), a model's id, an app's name.
    """

    group: str
    requests: int
    failed: int
    """that failed or were interrupted"""
    doubtful: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost: int
    risked: int
    audit_cost: int
    gas: int
    deposited: int

    @property
    def spent(self) -> int:
        """What counts against budgets."""
        return self.cost + self.risked + self.audit_cost


_LENGTH = {By.HOUR: len("2026-01-31 23"), By.DAY: len("2026-01-31")}
_REST = {By.HOUR: ":00:00+00:00", By.DAY: "T00:00:00+00:00"}


def totals(
    session: Session, since: datetime, until: datetime, by: By, only: Sequence[ColumnElement[bool]] = ()
) -> list[Total]:
    """Add up the requests that started in [since, until) and meet `only`.

    Hours and days come in order, and only those with requests; the others come with the dearest first.
    """
    row = RequestRow
    groups: dict[By, ColumnElement[Any]] = {
        By.KEY: func.coalesce(row.key_id, ""),
        By.MODEL: row.model_id.expression,
        By.APP: row.app.expression,
    }
    length = _LENGTH.get(by)
    # The length stands in the text of the query: PostgreSQL would take two parameters for two expressions.
    group = groups[by] if length is None else calendar_text(row.started, literal_column(str(length)))
    lost = row.outcome.in_((Outcome.FAILED, Outcome.INTERRUPTED))
    sums = [
        *(func.coalesce(func.sum(case((condition, 1), else_=0)), 0) for condition in (lost, row.doubtful)),
        *(
            func.coalesce(func.sum(column), 0)
            for column in (row.tokens_in, row.tokens_cached, row.tokens_out)
        ),
        *(total_wei(column) for column in (row.cost, row.risked, row.audit_cost, row.gas, row.deposited)),
    ]
    query = (
        select(group, func.count(), *sums)
        .where(row.started >= since, row.started < until, *only)
        .group_by(group)
        .order_by(group.desc())
    )
    if length is not None:
        query = query.limit(MOST_TOTALS)
    found = [_total(by, each) for each in session.execute(query)]
    if length is not None:
        return found[::-1]
    return sorted(found, key=lambda each: (-each.spent, each.group))[:MOST_TOTALS]


def _total(by: By, values: Any) -> Total:
    group, requests, failed, doubtful, read, cached, written, cost, risked, audit, gas, deposited = values
    return Total(
        group=f"{group.replace(' ', 'T')}{_REST[by]}" if by in _REST else group,
        requests=requests,
        failed=int(failed),
        doubtful=int(doubtful),
        tokens_in=int(read),
        tokens_cached=int(cached),
        tokens_out=int(written),
        cost=cost,
        risked=risked,
        audit_cost=audit,
        gas=gas,
        deposited=deposited,
    )
