"""Column types that hold money, accounts and moments exactly, on SQLite and on PostgreSQL, and sums over them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, LargeBinary, Numeric, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from hypercluster.market.money.units import check_wei

DIGITS = 29  # of 2**96 - 1

Address = String(42)
Hash = LargeBinary(32)
PeerId = String(128)
ModelId = String(64)


class Wei(TypeDecorator[int]):
    """A uint96 amount. SQLite's integers end at 2**63, so there it is text of 29 digits with leading zeros.

    Such text compares and orders as the numbers do. SQLite would add it up as floats: see ``total_wei``.
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


class _Sum(UserDefinedType[int]):
    """What ``total_wei`` yields: one exact number, or the sums of three columns of digits."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Put the digits together again."""

        def read(value: Any) -> int:
            if not isinstance(value, str):
                return int(value)
            high, middle, low = (int(part) for part in value.split())
            return (high * _PART + middle) * _PART + low

        return read


_PART = 10**9


class total_wei(FunctionElement[int]):
    """The exact sum of a column of wei, 0 where there are no rows; of 90 million rows at most on SQLite."""

    type = _Sum()
    inherit_cache = True


@compiles(total_wei)
def _add_numbers(element: total_wei, compiler: Any, **options: Any) -> str:
    return f"coalesce(sum({compiler.process(element.clauses, **options)}), 0)"


@compiles(total_wei, "sqlite")
def _add_digits(element: total_wei, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    parts = (
        f"coalesce(sum(CAST(substr({column}, {at}) AS INTEGER)), 0)" for at in ("1, 11", "12, 9", "21, 9")
    )
    return " || ' ' || ".join(parts)


class calendar_text(FunctionElement[str]):
    """The first ``length`` characters of a moment written in UTC as "2026-01-31 23:59"."""

    type = String()
    inherit_cache = True


@compiles(calendar_text)
def _write_moment(element: calendar_text, compiler: Any, **options: Any) -> str:
    column, length = (compiler.process(clause, **options) for clause in element.clauses)
    return f"substr(to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), 1, {length})"


@compiles(calendar_text, "sqlite")
def _cut_moment(element: calendar_text, compiler: Any, **options: Any) -> str:
    column, length = (compiler.process(clause, **options) for clause in element.clauses)
    return f"substr({column}, 1, {length})"
