"""What of a home cannot be had again, in one file: keys, ledger, limits; and a home made of such a file.

Key files stay encrypted with their password; the rest of the archive is not, so it is kept from others (mode 0600).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from hypercluster.node.errors import NodeError
from hypercluster.node.home.keys import Key, key_file
from hypercluster.node.home.lock import Hold, held
from hypercluster.node.home.policy import POLICY
from hypercluster.node.home.settings import Settings

FORMAT = 1
ABOUT = "backup.json"
LEDGER = "ledger.sqlite"
RETIRED = "node.json.retired"
"""name of a node key that a restored verifier must not sign with again"""
MOST_BYTES = 64 * 2**30
_KEYS = {f"keys/{key}.json": key for key in Key}
_BROKEN = (tarfile.TarError, zlib.error, EOFError)
_SMALL = 2**20
"""bytes that a file beside the ledger may have"""


class NoBackup(NodeError):
    """A backup cannot be made, read or restored."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What is in one: the names of its files, and when it was made (ISO 8601, UTC)."""

    made: str
    files: tuple[str, ...]
    retired: bool = False
    """restored without the node key, which signed passes that this ledger may lack"""


def back_up(settings: Settings, file: Path) -> Backup:
    """Write keys, ledger and limits of a home into a new file. Programs may run meanwhile.

    A ledger that is not the home's own SQLite file is left out. Raises NoBackup, OSError, sqlite3.Error.
    """
    home = settings.home
    found = {name: home / name for name in (*_KEYS, POLICY) if (home / name).is_file()}
    if not found.keys() & _KEYS.keys():
        raise NoBackup(
            f"There are no keys in {home}: nothing to back up. Set HC_HOME to the folder that has them."
        )
    with tempfile.TemporaryDirectory(dir=file.absolute().parent) as folder:
        if settings.ledger_url is None and (home / LEDGER).is_file():
            found[LEDGER] = Path(folder) / LEDGER
            _copy_ledger(home / LEDGER, found[LEDGER])
        made = datetime.now(UTC).isoformat(timespec="seconds")
        about = json.dumps({"format": FORMAT, "made": made, "files": sorted(found)}).encode()
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise NoBackup(f"{file} is there already: name a new file.") from None
        try:
            with os.fdopen(handle, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
                _add(archive, ABOUT, io.BytesIO(about), len(about))
                for name, path in sorted(found.items()):
                    with path.open("rb") as source:
                        _add(archive, name, source, path.stat().st_size)
                archive.close()
                raw.flush()
                os.fsync(raw.fileno())
        except BaseException:
            file.unlink(missing_ok=True)
            raise
    return Backup(made, tuple(sorted(found)))


def restore(settings: Settings, file: Path, *, exact: bool = False) -> Backup:
    """Fill a home that has neither keys nor a ledger from a backup.

    What a node or a client signed since the backup is not in its ledger. Clients ask providers for their best voucher,
    and receipts are for sessions that a node drew a fresh nonce for; but of a verifier's passes none may have a second
    one that differs, ever. So the node key of a ledger with passes is set aside, unless the backup is `exact`: nothing
    was signed since it was made.

    Raises NoBackup, HomeInUse, LedgerError, OSError.
    """
    home = settings.home
    if settings.ledger_url is not None:
        raise NoBackup(
            "HC_LEDGER_URL names a ledger elsewhere: unset it, a backup restores the one in the home."
        )
    there = [name for name in (*_KEYS, LEDGER) if (home / name).exists()]
    if there:
        raise NoBackup(f"{home / there[0]} is there already: set HC_HOME to a new folder.")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        for hold in Hold:
            stack.enter_context(held(home, hold, "restore"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=home)))
        backup = _unpack(file, folder)
        retired = LEDGER in backup.files and not exact and _has_passed(folder / LEDGER)
        node = key_file(folder, Key.NODE)
        if retired and node.is_file():
            node.rename(node.with_name(RETIRED))
        (home / "keys").mkdir(mode=0o700, exist_ok=True)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                path.chmod(0o600)
                path.rename(home / path.relative_to(folder))
    return Backup(backup.made, backup.files, retired)


def _copy_ledger(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def _add(archive: tarfile.TarFile, name: str, source: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    archive.addfile(entry, source)


def _unpack(file: Path, folder: Path) -> Backup:
    """Write the files of a backup below a folder. Raises NoBackup."""
    (folder / "keys").mkdir()
    try:
        with tarfile.open(file, "r:gz") as archive:
            members = list(_members(archive, file))
            for member in members:
                source = archive.extractfile(member)
                assert source is not None  # they are regular files
                with source, (folder / member.name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        told = json.loads((folder / ABOUT).read_text())
        names = tuple(sorted(member.name for member in members if member.name != ABOUT))
        if told["format"] != FORMAT or tuple(told["files"]) != names or not isinstance(told["made"], str):
            raise NoBackup(f"{file} is no backup of format {FORMAT}, or files of it are missing.")
    except FileNotFoundError:
        raise NoBackup(f"{file} is no backup, or is not there.") from None
    except (*_BROKEN, ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise NoBackup(f"{file} cannot be read as a backup: {error}.") from None
    (folder / ABOUT).unlink()
    return Backup(told["made"], names)


def _members(archive: tarfile.TarFile, file: Path) -> Iterator[tarfile.TarInfo]:
    seen = set()
    for member in archive:
        known = member.name in (*_KEYS, POLICY, LEDGER, ABOUT) and member.name not in seen
        most = MOST_BYTES if member.name == LEDGER else _SMALL
        if not known or not member.isreg() or member.size > most:
            raise NoBackup(f"{file} holds what no backup does: it is not taken.")
        seen.add(member.name)
        yield member


def _has_passed(ledger: Path) -> bool:
    from hypercluster.market.ledger import Ledger

    with Ledger(ledger) as opened:
        return opened.passed.some()
