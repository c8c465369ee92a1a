"""The ledger: everything about money and trust that must survive the process, in one SQL database."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType

from hypercluster.market.ledger.adverts import AdvertsSeen
from hypercluster.market.ledger.api_keys import ApiKeys
from hypercluster.market.ledger.database import file_of, open_engine
from hypercluster.market.ledger.front_tables import AdvertRow, ApiKeyRow, Outcome, RequestRow
from hypercluster.market.ledger.history import History
from hypercluster.market.ledger.passed import Passed
from hypercluster.market.ledger.payee import PayeeLedger
from hypercluster.market.ledger.payer import PayerLedger
from hypercluster.market.ledger.quotas import crowded
from hypercluster.market.ledger.requests import RequestDetail, Requests, Which
from hypercluster.market.ledger.tables import (
    AuditRecord,
    Duty,
    DutyPhase,
    IncomingChannel,
    OutgoingChannel,
    PriceRow,
    ReputationEvent,
    Role,
    RumourRow,
    SessionRecord,
    SoldAudit,
    now,
)
from hypercluster.market.ledger.totals import By, Total
from hypercluster.market.ledger.trust import Trust
from hypercluster.market.ledger.voucher_journal import SUFFIX, VoucherJournal

__all__ = [
    "AdvertRow",
    "AdvertsSeen",
    "ApiKeyRow",
    "ApiKeys",
    "AuditRecord",
    "By",
    "Duty",
    "DutyPhase",
    "IncomingChannel",
    "Ledger",
    "Outcome",
    "OutgoingChannel",
    "Passed",
    "PriceRow",
    "ReputationEvent",
    "RequestDetail",
    "RequestRow",
    "Requests",
    "Role",
    "RumourRow",
    "SessionRecord",
    "SoldAudit",
    "Total",
    "Trust",
    "Which",
]

log = logging.getLogger(__name__)

REQUESTS_LONGER = timedelta(days=60)


class Ledger:
    """One database with eight sides: ``payee``, ``payer``, ``history``, ``trust``, ``passed``, ``requests``,
    ``api_keys`` and ``adverts``.

    Args:
        where: a file for SQLite, or any SQLAlchemy URL; migrations are applied before this returns.

    Raises:
        LedgerError: the database cannot be opened or is newer than this program.
    """

    def __init__(self, where: str | Path) -> None:
        self.engine = open_engine(where)
        file = file_of(self.engine)
        # A ledger elsewhere may outlive this machine: there vouchers go straight into the tables.
        journal = VoucherJournal(file.with_name(file.name + SUFFIX)) if file is not None else None
        self.payee = PayeeLedger(self.engine, journal)
        self.payer = PayerLedger(self.engine)
        self.history = History(self.engine)
        self.trust = Trust(self.engine)
        self.passed = Passed(self.engine)
        self.requests = Requests(self.engine)
        self.api_keys = ApiKeys(self.engine)
        self.adverts = AdvertsSeen(self.engine)

    def prune(self, before: datetime) -> int:
        """Delete what is over since before a moment, and what is beyond the quotas of the tables, which is logged;
        returns how many rows.

        Requests stay for `REQUESTS_LONGER`, as limits for a month count on them; what keys spent is never forgotten.
        """
        gone = self.requests.prune(before - REQUESTS_LONGER) + self.history.prune(before)
        for dropped in crowded(self.engine, self.requests, now()):
            log.warning("%s", dropped.sentence)
            gone += dropped.rows
        return gone

    def close(self) -> None:
        """Close all connections; the ledger cannot be used afterwards."""
        self.payee.close()
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
