"""The ledger: everything about money that must survive the process, in one SQL database."""

from __future__ import annotations

from types import TracebackType

from market.ledger.database import open_engine
from market.ledger.history import History
from market.ledger.payee import PayeeLedger
from market.ledger.payer import PayerLedger
from market.ledger.tables import (
    AdvertSeen,
    IncomingChannel,
    OutgoingChannel,
    PriceStep,
    Role,
    SessionRecord,
)

__all__ = [
    "AdvertSeen",
    "IncomingChannel",
    "Ledger",
    "OutgoingChannel",
    "PriceStep",
    "Role",
    "SessionRecord",
]


class Ledger:
    """One database with three sides: ``payee``, ``payer`` and ``history``.

    Args:
        url: any SQLAlchemy URL; migrations are applied before this returns.

    Raises:
        LedgerError: the database cannot be opened or is newer than this program.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self.payee = PayeeLedger(self.engine)
        self.payer = PayerLedger(self.engine)
        self.history = History(self.engine)

    def close(self) -> None:
        """Close all connections; the ledger cannot be used afterwards."""
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
