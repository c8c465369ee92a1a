"""The ledger: everything about money and trust that must survive the process, in one SQL database."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from hypercluster.market.ledger.database import open_engine
from hypercluster.market.ledger.history import History
from hypercluster.market.ledger.payee import PayeeLedger
from hypercluster.market.ledger.payer import PayerLedger
from hypercluster.market.ledger.tables import (
    AuditRecord,
    Duty,
    DutyPhase,
    IncomingChannel,
    OutgoingChannel,
    PriceRow,
    ReputationEvent,
    Role,
    SessionRecord,
)
from hypercluster.market.ledger.trust import Standing, Trust

__all__ = [
    "AuditRecord",
    "Duty",
    "DutyPhase",
    "IncomingChannel",
    "Ledger",
    "OutgoingChannel",
    "PriceRow",
    "ReputationEvent",
    "Role",
    "SessionRecord",
    "Standing",
    "Trust",
]


class Ledger:
    """One database with four sides: ``payee``, ``payer``, ``history`` and ``trust``.

    Args:
        where: a file for SQLite, or any SQLAlchemy URL; migrations are applied before this returns.

    Raises:
        LedgerError: the database cannot be opened or is newer than this program.
    """

    def __init__(self, where: str | Path) -> None:
        self.engine = open_engine(where)
        self.payee = PayeeLedger(self.engine)
        self.payer = PayerLedger(self.engine)
        self.history = History(self.engine)
        self.trust = Trust(self.engine)

    def close(self) -> None:
        """Close all connections; the ledger cannot be used afterwards."""
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
