"""What a check finds, and how a row of checks is run: one that fails is a finding like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from hypercluster.market.redaction import redact
from hypercluster.node.cli.ending import FAILED, ending_of


class Health(StrEnum):
    """How something is."""

    WELL = "well"
    ODD = "odd"
    """nothing is broken, and something would be better otherwise"""
    ILL = "ill"
    UNKNOWN = "unknown"
    """it could not be looked at, for a reason that is told"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, what was seen, and what to do."""

    what: str
    health: Health
    seen: str
    todo: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"seen": redact(self.seen), "todo": redact(self.todo)}


Check = Callable[[], Iterable[Finding]]


def well(what: str, seen: str) -> Finding:
    """Nothing to do."""
    return Finding(what, Health.WELL, seen)


def odd(what: str, seen: str, todo: str) -> Finding:
    """Something would be better otherwise."""
    return Finding(what, Health.ODD, seen, todo)


def ill(what: str, seen: str, todo: str) -> Finding:
    """Something is broken."""
    return Finding(what, Health.ILL, seen, todo)


def unknown(what: str, why: str, todo: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(what, Health.UNKNOWN, why, todo)


def examined(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    """Run checks in turn. What one of them raises says what is wrong and what to do, as all our errors do."""
    for what, check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 - what is no known ending is raised again
            yield failed(what, error)


def failed(what: str, error: Exception) -> Finding:
    """What a command would have ended with; also out of a group, as of what ran beside each other. Raises a bug."""
    ending = ending_of(error, what)
    if ending.code != FAILED:
        raise error
    return ill(what, ending.sentence, "")
