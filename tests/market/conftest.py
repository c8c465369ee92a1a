"""Databases for the ledger: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text


def _postgres_folder() -> Path | None:
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    return next(
        (folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server of our own on a Unix socket and yield the URL of its first database."""
    programs = _postgres_folder()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL server is installed: run scripts/setup.py --dev")
        pytest.skip("no PostgreSQL server is installed")
    with tempfile.TemporaryDirectory(prefix="hc-pg-") as folder:
        data = Path(folder) / "data"
        user = group = None  # as we are
        if os.getuid() == 0:  # the server refuses to run as root
            account = pwd.getpwnam("postgres" if _exists("postgres") else "nobody")
            os.chown(folder, account.pw_uid, account.pw_gid)
            user, group = account.pw_uid, account.pw_gid

        def call(program: str, *arguments: str | Path) -> None:
            subprocess.run(
                [programs / program, *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
                cwd=folder,
                user=user,
                group=group,
            )

        call("initdb", "-D", data, "-U", "hc", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        log = Path(folder) / "log"
        call("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://hc@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/ledger.db"
    server: str = request.getfixturevalue("postgres")
    name = "hc_" + os.urandom(6).hex()
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")
