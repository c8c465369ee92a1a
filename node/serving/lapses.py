"""Who has places kept and pays nothing: it waits twice as long each time, whatever it calls itself on its channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

FIRST_WAIT = 2.0
"""seconds that a payer waits after a place that it had for nothing; twice as long after each further one"""
LAST_WAIT = 600.0
MOST_CREDIT = 16
"""places for nothing that a payer may have had beside those that it paid for, before it waits"""
MOST_PAYERS = 8192
"""that are remembered; who has to wait longest is forgotten last"""


@dataclass(slots=True)
class _Conduct:
    credit: int = 0
    lapses: int = 0
    until: float = 0.0


class Lapses:
    """Counts places that ended unpaid, by the wallet behind the channel. For one thread."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._payers: dict[str, _Conduct] = {}

    def wait(self, payer: str) -> float:
        """Seconds until a payer gets a place again, 0 for at once."""
        found = self._payers.get(payer)
        return max(0.0, found.until - self._clock()) if found else 0.0

    def paid(self, payer: str) -> None:
        """A place was paid for: what was is forgotten, and one for nothing is free."""
        found = self._of(payer)
        found.credit = min(MOST_CREDIT, found.credit + 1)
        found.lapses, found.until = 0, 0.0

    def lapsed(self, payer: str) -> None:
        """A place was held for a while, and nothing paid for it."""
        found = self._of(payer)
        if found.credit:
            found.credit -= 1
            return
        found.until = self._clock() + min(LAST_WAIT, FIRST_WAIT * 2**found.lapses)
        found.lapses = min(found.lapses + 1, 16)

    def _of(self, payer: str) -> _Conduct:
        found = self._payers.pop(payer, None) or _Conduct()
        self._payers[payer] = found
        if len(self._payers) > MOST_PAYERS:
            # The wait of a crowd of wallets must not make room for the next crowd.
            del self._payers[min(self._payers, key=lambda each: self._payers[each].until)]
        return found
