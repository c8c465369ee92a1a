"""What a provider did since its start: steps, refusals, and sessions that billed nothing, which no ledger keeps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hypercluster.node.errors import ErrorCode

MOST = 256
"""of the latest; whoever knocks for nothing shall not fill a disk"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A session that billed nothing: refused, or ended before its first step was paid.

    `code` says why, None for one that its client closed; `session` is empty where none was named. Times are unix s.
    """

    session: bytes
    peer: str
    started: float
    ended: float
    code: ErrorCode | None
    outcome: str


@dataclass(slots=True)
class Visits:
    """The latest visits for nothing, since the start; the others are told to whoever counts.

    `on_step` gets rows and ms of computing, `on_price` the price before and after an update in wei.
    """

    steps: int = 0
    tokens: int = 0
    """answered, prompts included"""
    latest: deque[Visit] = field(default_factory=lambda: deque(maxlen=MOST))
    on_step: Callable[[int, float], None] = lambda rows, compute_ms: None
    on_refusal: Callable[[ErrorCode], None] = lambda code: None
    on_price: Callable[[int, int], None] = lambda before, after: None

    def stepped(self, rows: int, compute_ms: float) -> None:
        """A step was answered."""
        self.steps += 1
        self.tokens += rows
        self.on_step(rows, compute_ms)

    def for_nothing(
        self, session: bytes, peer: str, started: float, code: ErrorCode | None, outcome: str
    ) -> None:
        """Keep one."""
        self.latest.append(
            Visit(
                session=session,
                peer=peer,
                started=started,
                ended=time.time(),
                code=code,
                outcome=outcome[:300],
            )
        )
