"""How long a provider may take for what it is asked: by its own measured times, else by those that it advertises.

These limits are soft: who is over one is left only where somebody else could go on (patience.py). They are wide, since
an honest machine may be loaded, cold, or have others' work in front; and they grow for who was cut off by one. A
session cannot raise its own limits: what it took counts for the next one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert

OPEN_SECONDS = 8.0
"""to be reached and to take a session: a provider may have to ask the chain, and to make room"""
SLACK_SECONDS = 10.0
"""for the steps of a session together, beside what they are expected to take: cold memory, others' prompts, load"""
LEAST_SLACK_SECONDS = 2.0
"""that every step has, however much was used up before"""
FACTOR = 6.0
"""a step may take so many times what is expected"""
MOST_SECONDS = 300.0
"""for anything, whatever is advertised"""
MOST_GROWTH = 4.0
MOST_SHARED = 8
"""sessions that a provider is expected to serve one after the other, at most"""
MOST_PEERS = 4096
_SHARE = 0.3
"""of a new measurement in a mean"""


@dataclass(slots=True)
class _Measured:
    token_ms: float | None = None
    """of a step of one token"""
    row_ms: float | None = None
    """of a row among many"""
    growth: float = 1.0
    """of its limits"""


class Pace:
    """What the machines of a network took, as this process saw it."""

    def __init__(self) -> None:
        self._measured: OrderedDict[str, _Measured] = OrderedDict()

    def expected_seconds(self, advert: Advert, rows: int) -> float:
        """What a step of `rows` tokens is expected to take there."""
        known = self._measured.get(advert.peer, _UNKNOWN)
        if rows <= 1:
            measured, advertised = known.token_ms, advert.cost_ms
        else:
            measured, advertised = known.row_ms, advert.prompt_ms or advert.cost_ms
        if measured is None:
            measured = advertised * min(MOST_SHARED, 1 + max(0, advert.capacity - advert.free))
        return max(1, rows) * measured / 1000

    def seconds_for(
        self, advert: Advert, rows: int, slack: float = SLACK_SECONDS, own: float = math.inf
    ) -> float:
        """How long a step of `rows` tokens may take, s; `slack` (s) is what the session has left of it, and `own` (s)
        what it took for such steps itself, where that is known and less than what is expected.
        """
        seconds = FACTOR * min(own, self.expected_seconds(advert, rows)) + max(LEAST_SLACK_SECONDS, slack)
        return min(MOST_SECONDS, seconds * self._measured.get(advert.peer, _UNKNOWN).growth)

    def seconds_to_open(self, peer: str) -> float:
        """How long it may take to open a session, s."""
        return OPEN_SECONDS * self._measured.get(peer, _UNKNOWN).growth

    def served(self, peer: str, token_ms: float | None, row_ms: float | None) -> None:
        """Note what a session that went well took for a step of one token, and for a row among many; None: had none."""
        known = self._of(peer)
        known.growth = 1.0
        if token_ms is not None:
            known.token_ms = _mean(known.token_ms, token_ms)
        if row_ms is not None:
            known.row_ms = _mean(known.row_ms, row_ms)

    def cut_off(self, peer: str) -> None:
        """Note that it was over a limit: in case that it is only slow, its next ones are longer until it serves."""
        known = self._of(peer)
        known.growth = min(MOST_GROWTH, 2 * known.growth)

    def _of(self, peer: str) -> _Measured:
        known = self._measured.get(peer)
        if known is None:
            while len(self._measured) >= MOST_PEERS:
                self._measured.popitem(last=False)
            known = self._measured[peer] = _Measured()
        self._measured.move_to_end(peer)
        return known


_UNKNOWN = _Measured()


def _mean(before: float | None, new: float) -> float:
    return new if before is None else before + _SHARE * (new - before)
