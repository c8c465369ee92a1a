"""How long llama.cpp may take before it counts as hung: by what it took so far, and far beyond that."""

from __future__ import annotations

FIRST_SECONDS = 900.0
"""for a call of a kind that was not timed yet"""
LEAST_SECONDS = 60.0
TIMES = 30.0
"""as long as the slowest call of its kind; a machine under load, or one that swaps, is slow and not hung"""
LOOK_SECONDS = 1.0
"""between two looks at a call; one takes longer where this process was stopped too, and does not count for more"""


class Leash:
    """Seconds for a call with so many rows: those with one row are a kind of their own, since many share weights."""

    def __init__(self) -> None:
        self._slowest: dict[bool, float] = {}

    def limit(self, rows: int) -> float:
        """For a call with `rows` rows."""
        per_row = self._slowest.get(rows > 1)
        return FIRST_SECONDS if per_row is None else max(LEAST_SECONDS, TIMES * rows * per_row)

    def took(self, rows: int, seconds: float) -> None:
        """A call has come back after so long."""
        kind = rows > 1
        self._slowest[kind] = max(self._slowest.get(kind, 0.0), seconds / rows)
