"""The front door that stands open in a home: where it is and a key to it, for the commands of the same user."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from hypercluster.node.cli.console import fail

FILE = "up.json"
"""in a home while `hc up` runs there"""
KEY = "up.key"
"""in a home, with the text of the key that each run gives out again"""


PORT, NEXT_PORTS = 11535, 10


def port_for(wanted: int | None) -> int:
    """The port wanted, else PORT or the next one that is free. Raises Failed where none is."""
    if wanted is not None:
        if not _is_free(wanted):
            fail(
                f"port {wanted} of this machine cannot be used, it is taken: choose another, or leave out --port."
            )
        return wanted
    free = next(filter(_is_free, range(PORT, PORT + NEXT_PORTS)), None)
    if free is None:
        fail(
            f"ports {PORT} to {PORT + NEXT_PORTS - 1} of this machine are taken: choose another one with --port."
        )
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A gateway that runs: its address with /v1, a key, the names of its models, and its process."""

    base_url: str
    key: str
    models: tuple[str, ...]
    pid: int
    since: float
    """when the process started, unix seconds; a number alone may belong to another one by now"""


@contextmanager
def open_door(home: Path, base_url: str, key: str, models: tuple[str, ...]) -> Iterator[Door]:
    """Let others of this user in until the end of the block. Raises OSError."""
    here = psutil.Process()
    door = Door(base_url=base_url, key=key, models=models, pid=here.pid, since=here.create_time())
    write_privately(home / FILE, json.dumps(asdict(door)))
    try:
        yield door
    finally:
        (home / FILE).unlink(missing_ok=True)


def found_door(home: Path) -> Door | None:
    """The door that is open in a home now; what a killed process left counts for nothing."""
    try:
        told = json.loads((home / FILE).read_text())
        door = Door(**(told | {"models": tuple(told["models"])}))
        if abs(psutil.Process(door.pid).create_time() - door.since) > 0.01:
            return None
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, psutil.Error):
        return None
    return door


def kept_key(home: Path) -> str | None:
    """The text of the key of the last run, if there is one."""
    try:
        return (home / KEY).read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def write_privately(path: Path, text: str) -> None:
    """Write a file that only its user can read, in one move. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
