"""What of a home cannot be had again, in one file, and a home made of such a file.

That is keys, ledger, limits, the journal of vouchers under way, calibrations, and what was signed and can still be
asked for on chain: transcripts and the evidence of cases.

Key files stay encrypted with their password; the rest of the archive is not, so it is kept from others (mode 0600).
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from hypercluster.node.errors import NodeError
from hypercluster.node.home.keys import Key, key_file
from hypercluster.node.home.lock import Hold, held
from hypercluster.node.home.policy import POLICY
from hypercluster.node.home.settings import EVIDENCE, LEDGER, TRANSCRIPTS, VOUCHERS, Settings

FORMAT = 2
FORMATS = (1, 2)
"""that are read; the first knew keys, ledger and limits only"""
ABOUT = "backup.json"
RETIRED = "node.json.retired"
"""name of a node key that a restored verifier must not sign with again"""
MOST_BYTES = 64 * 2**30
MOST_FILES = 2_000_000
_KEYS = {f"keys/{key}.json": key for key in Key}
_BROKEN = (tarfile.TarError, zlib.error, EOFError)
_SMALL = 2**20
"""bytes that a file may have beside the ledger, the journal and transcripts"""
_FAST = 1
"""level of compression: activations hardly shrink, whatever it takes"""
_TRANSCRIPT = re.compile(rf"({TRANSCRIPTS}/(client|provider)|{EVIDENCE})/[0-9a-f]{{64}}\.transcript")
_BOUNDS = re.compile(r"models/[0-9a-f]{64}/bounds\.json")


class NoBackup(NodeError):
    """A backup cannot be made, read or restored."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What is in one: the names of its files without transcripts, how many of those and how many bytes all of it has,
    and when it was made (ISO 8601, UTC).
    """

    made: str
    files: tuple[str, ...]
    transcripts: int = 0
    bytes: int = 0
    retired: bool = False
    """restored without the node key, which signed passes that this ledger may lack"""


def back_up(settings: Settings, file: Path, *, transcripts: bool = True) -> Backup:
    """Write what cannot be had again of a home into a new file. Programs may run meanwhile.

    A ledger that is not the home's own SQLite file is left out, and so are `transcripts` where they are not wanted.
    Raises NoBackup, OSError, sqlite3.Error.
    """
    home = settings.home
    found = {name: home / name for name in (*_KEYS, POLICY) if (home / name).is_file()}
    found |= _found(home, "models/*/bounds.json", _BOUNDS)
    if not found.keys() & _KEYS.keys():
        raise NoBackup(
            f"There are no keys in {home}: nothing to back up. Set HC_HOME to the folder that has them."
        )
    with tempfile.TemporaryDirectory(dir=file.absolute().parent) as folder:
        # Before the ledger: what leaves the journal is in the ledger, and what is in both counts once.
        if (home / VOUCHERS).is_file():
            found[VOUCHERS] = Path(shutil.copy(home / VOUCHERS, folder))
        if settings.ledger_url is None and (home / LEDGER).is_file():
            found[LEDGER] = Path(folder) / LEDGER
            _copy_ledger(home / LEDGER, found[LEDGER])
        if transcripts:
            for pattern in (f"{TRANSCRIPTS}/*/*.transcript", f"{EVIDENCE}/*.transcript"):
                found |= _found(home, pattern, _TRANSCRIPT)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        packed: dict[str, int] = {}
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise NoBackup(f"{file} is there already: name a new file.") from None
        try:
            with (
                os.fdopen(handle, "wb") as raw,
                tarfile.open(fileobj=raw, mode="w:gz", compresslevel=_FAST) as archive,
            ):
                for name, path in sorted(found.items()):
                    with suppress(FileNotFoundError), path.open("rb") as source:  # the oldest go meanwhile
                        packed[name] = _add(archive, name, source)
                about = {"format": FORMAT, "made": made, "files": sorted(packed)}
                _add_text(archive, ABOUT, json.dumps(about))
                archive.close()
                raw.flush()
                os.fsync(raw.fileno())
        except BaseException:
            file.unlink(missing_ok=True)
            raise
    return _told(made, packed)


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
        for path in sorted(folder.rglob("*")):
            target = home / path.relative_to(folder)
            if path.is_dir():
                target.mkdir(mode=0o700, exist_ok=True)
            else:
                path.chmod(0o600)
                path.rename(target)
    return replace(backup, retired=retired)


def _copy_ledger(source: Path, target: Path) -> None:
    from hypercluster.market.ledger import Ledger
    from hypercluster.market.ledger.voucher_journal import SUFFIX

    # Before the tables: what leaves the journal is in them.
    journal = source.with_name(source.name + SUFFIX)
    waiting = journal.is_file() and journal.stat().st_size > 0
    if waiting:
        shutil.copy(journal, target.with_name(target.name + SUFFIX))
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
    if waiting:
        with Ledger(target) as ledger:
            ledger.payee.feed()


def _found(home: Path, pattern: str, name: re.Pattern[str]) -> dict[str, Path]:
    """The files of a home that a pattern finds and whose names are as they should be."""
    paths = {path.relative_to(home).as_posix(): path for path in home.glob(pattern) if path.is_file()}
    return {each: path for each, path in paths.items() if name.fullmatch(each)}


def _told(made: str, sizes: Mapping[str, int]) -> Backup:
    plain = tuple(sorted(name for name in sizes if not _TRANSCRIPT.fullmatch(name)))
    return Backup(made, plain, len(sizes) - len(plain), sum(sizes.values()))


def _add(archive: tarfile.TarFile, name: str, source: IO[bytes]) -> int:
    """Add an open file as long as it is now, though it may grow; returns how many bytes."""
    entry, status = tarfile.TarInfo(name), os.fstat(source.fileno())
    entry.size, entry.mode, entry.mtime = status.st_size, 0o600, int(status.st_mtime)
    archive.addfile(entry, source)
    return entry.size


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry, data = tarfile.TarInfo(name), text.encode()
    entry.size, entry.mode = len(data), 0o600
    archive.addfile(entry, io.BytesIO(data))


def _unpack(file: Path, folder: Path) -> Backup:
    """Write the files of a backup below a folder. Raises NoBackup."""
    sizes: dict[str, int] = {}
    now = int(time.time())
    try:
        with tarfile.open(file, "r:gz") as archive:
            for member in _members(archive, file):
                source, path = archive.extractfile(member), folder / member.name
                assert source is not None  # they are regular files
                path.parent.mkdir(parents=True, exist_ok=True)
                with source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                # Transcripts go when they are old enough.
                os.utime(path, (now, min(now, max(0, int(member.mtime)))))
                sizes[member.name] = member.size
        told = json.loads((folder / ABOUT).read_text())
        sizes.pop(ABOUT)
        whole = told["files"] == sorted(sizes)
        if told["format"] not in FORMATS or not whole or not isinstance(told["made"], str):
            raise NoBackup(f"{file} is no backup of format {FORMAT}, or files of it are missing.")
    except FileNotFoundError:
        raise NoBackup(f"{file} is no backup, or is not there.") from None
    except (*_BROKEN, ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        why = getattr(error, "strerror", None) or error
        raise NoBackup(f"{file} cannot be read as a backup: {why}.") from None
    (folder / ABOUT).unlink()
    return _told(told["made"], sizes)


def _members(archive: tarfile.TarFile, file: Path) -> Iterator[tarfile.TarInfo]:
    seen: set[str] = set()
    for member in archive:
        name = member.name
        transcript = _TRANSCRIPT.fullmatch(name) is not None
        known = name in (*_KEYS, POLICY, LEDGER, VOUCHERS, ABOUT) or transcript or _BOUNDS.fullmatch(name)
        # Of transcripts ABOUT names every one.
        most = MOST_BYTES if transcript or name in (LEDGER, VOUCHERS, ABOUT) else _SMALL
        if not known or name in seen or not member.isreg() or member.size > most or len(seen) > MOST_FILES:
            raise NoBackup(f"{file} holds what no backup does: it is not taken.")
        seen.add(member.name)
        yield member


def _has_passed(ledger: Path) -> bool:
    from hypercluster.market.ledger import Ledger

    with Ledger(ledger) as opened:
        return opened.passed.some()
