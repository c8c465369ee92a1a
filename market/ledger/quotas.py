"""How many rows the tables that grow with use may hold: beyond that the oldest go, and it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, delete, func, or_, select
from sqlalchemy.orm import Session

from hypercluster.market.ledger.front_tables import AdvertRow, RequestRow
from hypercluster.market.ledger.requests import Requests
from hypercluster.market.ledger.tables import (
    AuditRecord,
    Base,
    PriceRow,
    ReputationEvent,
    SessionRecord,
    SoldAudit,
)

LONGEST_PERIOD = timedelta(days=32)
"""longer than any that a limit is for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """At most ``rows`` of a table, the newest by ``at``; ``what`` is what a row is, for people.

    Of those beyond, rows go that may ``go`` at a moment: all of them where it is None.
    """

    what: str
    table: type[Base]
    at: Any
    rows: int
    go: Callable[[datetime], ColumnElement[bool]] | None = None


def _request_may_go(now: datetime) -> ColumnElement[bool]:
    """Limits for a day, a week or a month count on the requests in it that cost something."""
    row = RequestRow
    free = and_(row.cost == 0, row.risked == 0, row.audit_cost == 0)
    return and_(row.ended.is_not(None), or_(free, row.ended < now - LONGEST_PERIOD))


QUOTAS = (
    Quota(what="requests", table=RequestRow, at=RequestRow.started, rows=500_000, go=_request_may_go),
    Quota(
        what="sessions",
        table=SessionRecord,
        at=SessionRecord.started,
        rows=1_000_000,
        go=lambda now: SessionRecord.ended.is_not(None),
    ),
    Quota(what="adverts seen", table=AdvertRow, at=AdvertRow.seen, rows=200_000),
    Quota(what="price steps", table=PriceRow, at=PriceRow.taken, rows=200_000),
    Quota(what="audits", table=AuditRecord, at=AuditRecord.at, rows=200_000),
    Quota(what="audits sold", table=SoldAudit, at=SoldAudit.at, rows=200_000),
    Quota(what="pieces of evidence", table=ReputationEvent, at=ReputationEvent.at, rows=200_000),
)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that went because there were more than a quota: ``rows`` of ``what``, all from before ``before``."""

    what: str
    rows: int
    before: datetime
    quota: int

    @property
    def sentence(self) -> str:
        """For the log."""
        return (
            f"The ledger keeps {self.quota:,} {self.what} at most: {self.rows:,} older ones, from before "
            f"{self.before:%Y-%m-%d %H:%M} UTC, were dropped. Amounts, channels and vouchers stay."
        )


def crowded(
    engine: Engine, requests: Requests, now: datetime, quotas: Sequence[Quota] = QUOTAS
) -> list[Dropped]:
    """Delete what is beyond the quotas, the oldest first; what keys spent on dropped requests is kept.

    Raises LedgerError.
    """
    found = []
    for quota in quotas:
        with Session(engine) as session, session.begin():
            if (session.scalar(select(func.count()).select_from(quota.table)) or 0) <= quota.rows:
                continue
            edge = session.scalar(select(quota.at).order_by(quota.at.desc()).offset(quota.rows - 1).limit(1))
            assert edge is not None
            old = [quota.at < edge, *([quota.go(now)] if quota.go else [])]
            gone = (
                requests.drop(session, *old)
                if quota.table is RequestRow
                else session.execute(delete(quota.table).where(*old)).rowcount  # type: ignore[attr-defined]
            )
        if gone:
            found.append(Dropped(quota.what, gone, edge, quota.rows))
    return found
