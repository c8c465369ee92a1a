"""Opening the ledger's database: durable SQLite settings, and Alembic migrations applied at start."""

from __future__ import annotations

import sqlite3
import stat
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from hypercluster.market.errors import LedgerError
from hypercluster.market.redaction import hide, redact

BUSY_MS = 10_000
YOUNG_SECONDS = 60.0
"""in which a ledger without a byte may be one that another process is just making"""
_REMEDIES = {
    sqlite3.SQLITE_CORRUPT: ": the file is damaged, so restore it from a backup",
    sqlite3.SQLITE_NOTADB: ": the file is damaged or something else, so restore it from a backup",
    sqlite3.SQLITE_CANTOPEN: ": see that it is a file and may be written, and its folder too",
    sqlite3.SQLITE_READONLY: ": see that it may be written, and its folder too",
    sqlite3.SQLITE_FULL: ": make room on the disk",
}
_MIGRATION_LOCK = 0x48436C6564676572  # any constant; PostgreSQL's advisory locks are numbers


def open_engine(where: str | Path) -> Engine:
    """Open a database and bring its tables up to date.

    SQLite runs in WAL mode with synchronous=FULL: a commit that returned survives a power cut.

    Args:
        where: a file for SQLite, whatever letters its path is made of, or any SQLAlchemy URL, such as
            ``sqlite:////home/me/ledger.db``; missing folders are made.

    Raises:
        LedgerError: no such database, no permission, or tables written by a newer version.
    """
    try:
        parsed = _url_of(where)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            file = Path(parsed.database)
            file.parent.mkdir(parents=True, exist_ok=True)
            _refuse_emptied(file)
        engine = create_engine(parsed)
        event.listen(engine, "handle_error", _say_why)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_for_writing)
        try:
            with engine.begin() as connection:
                if version_of(connection) != newest_version():
                    _migrate(connection)
        except BaseException:
            engine.dispose()
            raise
    except (SQLAlchemyError, OSError, ImportError) as error:
        raise LedgerError(f"The ledger cannot be opened: {_first_line(error)}.") from error
    return engine


def file_of(engine: Engine) -> Path | None:
    """The file of a SQLite database; None where it is another one, or in memory."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name.startswith((":", "file:")):
        return None
    return Path(name)


def _refuse_emptied(file: Path) -> None:
    """SQLite takes a file without a byte for a new database, and all that was paid would be forgotten in silence."""
    with suppress(FileNotFoundError):
        found = file.stat()
        # What a killed start leaves has its tables in the log beside it, or is young.
        logged = any(file.with_name(file.name + end).exists() for end in ("-wal", "-journal"))
        empty = not found.st_size and stat.S_ISREG(found.st_mode) and not logged
        if empty and time.time() - found.st_mtime > YOUNG_SECONDS:
            raise LedgerError(
                f"The ledger {file} is there and empty, as a broken copy or a full disk leaves it: restore it from a "
                "backup, or delete it to begin with an empty one."
            )


def _url_of(where: str | Path) -> URL:
    if isinstance(where, Path):
        return URL.create("sqlite", database=str(where.absolute()))
    hide(where)
    url = make_url(where)
    if url.get_backend_name() == "sqlite" and "?" in where and not url.query:
        raise LedgerError(
            "The ledger's URL has a ? in its path, where a URL ends its path: name another file, or set HC_HOME "
            "to that folder instead of HC_LEDGER_URL."
        )
    return url


def _say_why(context: ExceptionContext) -> None:
    reason = _first_line(context.original_exception)
    url = context.engine.url if context.engine else None
    file = f" {url.database}" if url and url.get_backend_name() == "sqlite" else ""
    code = getattr(context.original_exception, "sqlite_errorcode", None)
    remedy = _REMEDIES.get(code & 0xFF, "") if isinstance(code, int) else ""
    raise LedgerError(
        f"The ledger's database{file} gave up: {reason}{remedy}."
    ) from context.original_exception


def _first_line(error: BaseException) -> str:
    return redact((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, also around DDL
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _write_ahead(connection: Any) -> None:
    # Of several that make a database at once SQLite refuses all but one here, and waits for none of them.
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_for_writing(connection: Connection) -> None:
    # Taking the write lock at once lets busy_timeout wait; upgrading a read transaction would fail.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def version_of(connection: Connection) -> str | None:
    """The version of the tables in a database; None where there are none, or of several."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return str(found[0]) if len(found) == 1 else None


def newest_version() -> str:
    """The version that the migrations lead to; their files begin with the four digits of theirs."""
    versions = files("hypercluster.migrations").joinpath("versions")
    return max(each.name[:4] for each in versions.iterdir() if each.name[:4].isdigit())


def _migrate(connection: Connection) -> None:
    # Most commands find the tables up to date and can do without a tenth of a second for Alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    if connection.dialect.name == "postgresql":  # two processes may start at once
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(files("hypercluster.migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise LedgerError(
            f"The ledger was written by a newer version of this program (its tables are of version "
            f"{version_of(connection)}, and this one knows them up to {newest_version()}): use the newer program, or "
            "another home."
        ) from error
