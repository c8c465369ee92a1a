"""Who holds how many streams and connections here, and who goes when all are taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from hypercluster.node.network.budgets import REFUSED

SETTLED_SECONDS = 1.0
"""how old a stream is that says something of its peer: libp2p hosts introduce themselves over short ones"""


@dataclass(eq=False, slots=True)
class _Place:
    peer: str
    scope: trio.CancelScope
    since: float


class NoPlace(Exception):
    """A peer has all the places that it may have, or nobody gives way to it."""


class Places:
    """Places for streams: `total` in all, `per_peer` for each.

    When all are taken, who stands lowest gives way to whom stands no lower: of these the peer that holds most, and
    its oldest place. `standing` says how a peer stands at the moment.
    """

    def __init__(self, total: int, per_peer: int, standing: Callable[[str], int]) -> None:
        self._total = total
        self._per_peer = per_peer
        self._standing = standing
        self._places: dict[_Place, None] = {}
        self._held: Counter[str] = Counter()

    def held(self, peer: str) -> int:
        """How many places a peer holds."""
        return self._held[peer]

    def settled(self) -> set[str]:
        """The peers that have held a place for a while."""
        before = trio.current_time() - SETTLED_SECONDS
        return {place.peer for place in self._places if place.since < before}

    @contextmanager
    def holding(self, peer: str) -> Iterator[None]:
        """A place for as long as the block lasts, which is cancelled if it has to give way. Raises NoPlace."""
        if self._held[peer] >= self._per_peer:
            REFUSED["stream", "peer"] += 1
            raise NoPlace
        if len(self._places) >= self._total:
            self._make_room(peer)
        with trio.CancelScope() as scope:
            place = _Place(peer, scope, trio.current_time())
            self._places[place] = None
            self._held[peer] += 1
            try:
                yield
            finally:
                self._give_back(place)

    def _make_room(self, peer: str) -> None:
        REFUSED["stream", "total"] += 1
        standings = {each: self._standing(each) for each in self._held}
        lowest = min(standings.values())
        if lowest > self._standing(peer):
            raise NoPlace
        loser = max((each for each in self._held if standings[each] == lowest), key=self._held.__getitem__)
        place = next(place for place in self._places if place.peer == loser)
        self._give_back(place)
        place.scope.cancel()

    def _give_back(self, place: _Place) -> None:
        if place not in self._places:
            return
        del self._places[place]
        self._held[place.peer] -= 1
        if not self._held[place.peer]:
            del self._held[place.peer]
