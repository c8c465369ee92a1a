"""One home, one process that serves or spends: locks that name who holds them and end with their process.

The kernel holds the lock, so a process that was killed leaves nothing behind that has to be cleared away. Commands
that only read need no lock.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from hypercluster.node.errors import NodeError

log = logging.getLogger(__name__)

LOCKS = "locks"
"""folder in a home"""
PATIENCE = 2.0
"""seconds; whoever only looks holds a lock for a moment, and a node that was told to stop needs one too"""


class Hold(StrEnum):
    """What a process does in a home that no second one may do there at the same time."""

    NODE = "node"
    """runs with the node key: a provider or a verifier, never both, as two nodes with one key can be slashed"""
    WALLET = "wallet"
    """spends from the wallet and signs vouchers with the session key"""
    WATCH = "watch"
    """finishes what others left on chain"""


_DOES = {
    Hold.NODE: "serves with the node key",
    Hold.WALLET: "spends from the wallet key",
    Hold.WATCH: "watches over the disputes and channels",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: its process id, what it was started as, in which home, and since when (ISO 8601, UTC)."""

    pid: int
    program: str
    home: str
    since: str


class HomeInUse(NodeError):
    """Another process holds the lock; `holder` is None where it left no name."""

    def __init__(self, sentence: str, holder: Holder | None) -> None:
        super().__init__(sentence)
        self.holder = holder


class HomeUnusable(NodeError):
    """The home cannot be written: read-only, full, or another user's."""


def lock_file(home: Path, hold: Hold) -> Path:
    """The file that is locked."""
    return home / LOCKS / f"{hold}.lock"


@contextmanager
def held(
    home: Path,
    hold: Hold,
    program: str,
    *,
    patience: float = PATIENCE,
    on_wait: Callable[[Holder | None], float] | None = None,
) -> Iterator[None]:
    """Hold a lock of `home` until the end of the block, which may be in another thread.

    Args:
        program: what others are told of this process, "hc-provider run".
        patience: seconds to wait for another process to let go.
        on_wait: told once who is waited for, if the lock is not free at once; says for how many seconds instead of
            `patience`, infinite to queue.

    Raises:
        HomeInUse: another process has it.
        HomeUnusable: the home cannot be written.
    """
    with _locked(lock_file(home, hold), home, program, patience, on_wait) as got:
        if got is not None:
            raise HomeInUse(
                f"{name_of(got.holder)} {_DOES[hold]} of {home} and holds {lock_file(home, hold)}: "
                "stop it first, or set HC_HOME to another folder.",
                got.holder,
            )
        yield


@contextmanager
def key_held(address: str, home: Path, program: str) -> Iterator[None]:
    """Hold the node key of an address on this machine: a copy of a home must not run beside it.

    Raises:
        HomeInUse: another home's process runs with the same key.
    """
    user = os.getuid() if sys.platform != "win32" else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"hypercluster-{user}"
    with ExitStack() as stack:
        try:
            path = folder / f"{address.lower()}.lock"
            got = stack.enter_context(_locked(path, home, program, PATIENCE, None))
        except HomeUnusable as error:
            # A precaution only: the home's own lock does not depend on it.
            log.warning("copies of this home cannot be looked for: %s", error)
            got = None
        if got is not None:
            where = f" in {got.holder.home}" if got.holder else ""
            raise HomeInUse(
                f"{name_of(got.holder)} runs with the same node key {address}{where}: two nodes with one key can be "
                "slashed. Stop it first, or make a key of its own for this home.",
                got.holder,
            )
        yield


def holder(home: Path, hold: Hold) -> Holder | None:
    """Who holds a lock of `home` now, or None. Changes nothing, and never raises for a home that is not ours."""
    path = lock_file(home, hold)
    if not path.is_file():
        return None
    try:
        with FileLock(path, timeout=0, fallback_to_soft=False, preserve_lock_file=True):
            return None
    except Timeout:
        return _read(path) or Holder(0, "another process", str(home), "")
    except OSError:
        # Another user's: as far as we can read, and unless its process is gone.
        noted = _read(path)
        return noted if noted and psutil.pid_exists(noted.pid) else None


@dataclass(frozen=True, slots=True)
class _Taken:
    holder: Holder | None


@contextmanager
def _locked(
    path: Path,
    home: Path,
    program: str,
    patience: float,
    on_wait: Callable[[Holder | None], float] | None,
) -> Iterator[_Taken | None]:
    """None while we hold it; who else has it otherwise."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    lock = FileLock(
        path,
        thread_local=False,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=lambda fd: _write(fd, Holder(os.getpid(), program, str(home.absolute()), since)),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait:
                patience = on_wait(_read(path))
            lock.acquire(timeout=-1 if patience == float("inf") else patience)
    except Timeout:
        yield _Taken(_read(path))
        return
    except OSError as error:
        reason = error.strerror or str(error)
        raise HomeUnusable(
            f"The folder {path.parent} cannot be written ({reason}): set HC_HOME to a folder of your own."
        ) from None
    try:
        yield None
    finally:
        lock.release()


def name_of(holder: Holder | None) -> str:
    """How a process is called that holds a lock, at the beginning of a sentence."""
    return f"{holder.program} (pid {holder.pid})" if holder else "Another process"


def _write(fd: int, who: Holder) -> None:
    try:
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, json.dumps(asdict(who)).encode())
    except OSError as error:
        # A full disk. The lock holds all the same, only without a name.
        log.debug("the lock is held without a name: %s", error)


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
