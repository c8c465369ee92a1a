"""What a process has seen of operators and their machines lately: one for all models and requests, gone with it.

What is to last stands in the ledger (market.ledger.trust); this is what happened a moment ago. An operator counts as
one, whatever number of node keys it has: who fails under one of its names rests under all of them.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hypercluster.node.client.pace import Pace

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.shares import Shares
    from hypercluster.market.trust.reputation import Evidence

MOST_OPERATORS = 4096
"""that are remembered; of more the ones longest unseen go"""
REST_SECONDS = 10.0
"""for which an operator is left alone after a failure, and for three times as long after each that follows it"""
MOST_REST_SECONDS = 600.0
LATEST_REQUESTS = 64
"""of which shares are counted"""


@dataclass(slots=True)
class _Seen:
    failures: int = 0
    """since it last served"""
    until: float = 0.0
    """when its rest ends, in trio's time"""
    served: int = 0
    trying: int = 0
    """paths over it whose first step was not answered yet"""


class Experience:
    """Shared by all clients of a process; see `node.client.joining.Station`."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self.pace = Pace()
        self._clock = clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._latest: deque[frozenset[str]] = deque(maxlen=LATEST_REQUESTS)

    # --- who fails ------------------------------------------------------------------------------------------------

    def failed(self, operator: str, peer: str, kind: Evidence | None, wait: float = 0.0) -> None:
        """Note that a session with `peer` of `operator` ended by its doing: the operator rests for a while.

        `wait` (s) is how long it asked to be left alone, 0 where it did not say.
        """
        seen = self._of(operator or peer)
        seen.failures += 1
        rest = min(MOST_REST_SECONDS, REST_SECONDS * 3.0 ** (seen.failures - 1))
        seen.until = max(seen.until, self._clock() + max(rest, wait))

    def served(self, operator: str) -> None:
        """Note that a session with it went well to its end."""
        seen = self._of(operator)
        seen.failures, seen.until, seen.served = 0, 0.0, seen.served + 1

    def left_out(self, now: float | None = None) -> frozenset[str]:
        """Operators that rest at `now`, in trio's time; they serve only where no path is without them."""
        at = self._clock() if now is None else now
        return frozenset(operator for operator, seen in self._seen.items() if seen.until > at)

    # --- who is new -----------------------------------------------------------------------------------------------

    def has_served(self, operator: str) -> bool:
        """Whether it served this process."""
        return operator in self._seen and self._seen[operator].served > 0

    def trying(self) -> frozenset[str]:
        """Operators that never served this process, and are being tried by some request now."""
        return frozenset(each for each, seen in self._seen.items() if seen.trying and not seen.served)

    def begun(self, operators: Collection[str]) -> None:
        """Note that sessions are about to be opened with them, for the first step of which `answered` is told."""
        for operator in operators:
            self._of(operator).trying += 1

    def answered(self, operators: Collection[str]) -> None:
        """Note that the first step went through, or that there will be none."""
        for operator in operators:
            seen = self._of(operator)
            seen.trying = max(0, seen.trying - 1)

    # --- how much each gets ---------------------------------------------------------------------------------------

    def requested(self, operators: Collection[str]) -> None:
        """Note over whom a request goes."""
        self._latest.append(frozenset(operators))

    def crowded(self, shares: Shares) -> frozenset[str]:
        """Operators that would have more than their share of the latest requests with one more."""
        counts = Counter(operator for request in self._latest for operator in request)
        most = shares.most_requests(len(self._latest) + 1)
        return frozenset(operator for operator, count in counts.items() if count >= most)

    # --- how long it may take -------------------------------------------------------------------------------------

    def seconds_for(self, advert: Advert, rows: int) -> float:
        """How long a step of `rows` tokens may take before somebody else is asked; see `Pace.seconds_for`."""
        return self.pace.seconds_for(advert, rows)

    def _of(self, operator: str) -> _Seen:
        seen = self._seen.get(operator)
        if seen is None:
            while len(self._seen) >= MOST_OPERATORS:
                self._seen.popitem(last=False)
            seen = self._seen[operator] = _Seen()
        self._seen.move_to_end(operator)
        return seen
