"""What a running node says of itself in its home, for the short commands beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypercluster.node.home.lock import Hold, holder

RUNNING = "running.json"
"""in a home while its node runs"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """A node that runs now; `layers` are half-open and empty for a verifier, `since` is ISO 8601 in UTC."""

    role: str
    peer: str
    addresses: tuple[str, ...]
    """to join the network through, with /p2p/"""
    layers: tuple[int, ...] = ()
    session_tokens: int = 0
    """that one of its sessions may hold"""
    computes: Mapping[str, Any] = field(default_factory=dict)
    """what it computes with, by name: cache type, flash attention, cards and the layers on them"""
    notices: tuple[str, ...] = ()
    """what its operator should know of its network: addresses that do not answer, a wrong clock, nobody can dial it"""
    pid: int = 0
    since: str = ""

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {name: list(each) if isinstance(each, tuple) else each for name, each in asdict(self).items()}


class RunningFile:
    """The file of the node that runs in this process; written whole, and gone at the end."""

    def __init__(self, home: Path) -> None:
        self._path = home / RUNNING
        self._since = datetime.now(UTC).isoformat(timespec="seconds")

    def write(self, node: RunningNode) -> None:
        """Say what the node is now. Raises OSError."""
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({**node.document(), "pid": os.getpid(), "since": self._since}))
        part.replace(self._path)

    def remove(self) -> None:
        """The node runs no more."""
        self._path.unlink(missing_ok=True)


@contextmanager
def running_file(home: Path) -> Iterator[RunningFile]:
    """The file for a node that runs until the end of the block and holds the home meanwhile."""
    file = RunningFile(home)
    try:
        yield file
    finally:
        file.remove()


def running_node(home: Path) -> RunningNode | None:
    """The node that runs from `home` now, or None; what a killed one left behind counts for nothing."""
    now = holder(home, Hold.NODE)
    node = read_running(home) if now else None
    return node if node and now and node.pid == now.pid else None


def read_running(home: Path) -> RunningNode | None:
    """What the file in `home` says, true or not; None where it cannot be read."""
    try:
        told: dict[str, Any] = json.loads((home / RUNNING).read_text())
        lists = {name: tuple(told[name]) for name in ("addresses", "layers", "notices")}
        return RunningNode(**(told | lists | {"computes": dict(told["computes"])}))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
