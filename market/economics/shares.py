"""How much of a client's work may go to one operator, and to those whom it has not tried yet."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypercluster.market.economics.parameters import BadParameters


@dataclass(frozen=True, slots=True)
class Shares:
    """The most of a client's work that one operator gets, as long as there is a path without more of it.

    Attributes:
        hops: of the hops of a path, above 0 up to 1; one hop is always allowed.
        requests: of the latest requests, above 0 up to 1.
        trials: of requests, 0 to 1, that may go over an operator who never served this client; the others do so
            only where no path is left without.
    """

    hops: float = 0.5
    requests: float = 0.75
    trials: float = 0.1

    def __post_init__(self) -> None:
        for name, share in (("hops", self.hops), ("requests", self.requests)):
            if not 0 < share <= 1:
                raise BadParameters(
                    f"The share of {name} for one operator is {share}: above 0 up to 1 can be, and 1 is no bound."
                )
        if not 0 <= self.trials <= 1:
            raise BadParameters(f"The share of requests for trials is {self.trials}: 0 to 1 can be.")

    def most_hops(self, hops: int) -> int:
        """Hops that one operator may serve on a path of so many."""
        return max(1, math.floor(self.hops * hops + 1e-9))

    def most_requests(self, requests: int) -> int:
        """Of so many requests, one more included, how many one operator may be asked for."""
        return max(FEW_REQUESTS, math.ceil(self.requests * requests - 1e-9))


FEW_REQUESTS = 8
"""of which nobody counts shares"""
