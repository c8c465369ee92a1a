"""Column types that hold money, accounts and moments exactly, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, LargeBinary, Numeric, String
from sqlalchemy.types import TypeDecorator, TypeEngine

from hypercluster.market.money.units import check_wei

DIGITS = 29  # of 2**96 - 1

Address = String(42)
Hash = LargeBinary(32)
ModelId = String(64)


class Wei(TypeDecorator[int]):
    """A uint96 amount. SQLite's integers end at 2**63, so there it is text of 29 digits with leading zeros.

    Such text compares and orders as the numbers do. Sums are for Python: SQLite would add it up as floats.
    """

    impl = String(DIGITS)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose text for SQLite and NUMERIC(29, 0) elsewhere."""
        return dialect.type_descriptor(String(DIGITS) if dialect.name == "sqlite" else Numeric(DIGITS, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """Turn wei into what the database stores."""
        if value is None:
            return None
        return f"{check_wei(value):0{DIGITS}d}" if dialect.name == "sqlite" else check_wei(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """Turn what the database stores into wei."""
        return None if value is None else int(value)


class Moment(TypeDecorator[datetime]):
    """A moment in UTC; SQLite drops time zones, so it is written and read as UTC there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without a zone and turn others into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("The ledger keeps moments with a time zone only.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment with its zone, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
