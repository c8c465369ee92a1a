"""Which stages there are to audit: those that somebody with a stake offers, or did a while ago."""

from __future__ import annotations

import time
from collections.abc import Callable

from hypercluster.node.network.orderbook import OrderBook

REMEMBERED_SECONDS = 3600.0
"""a stage is audited after its provider has gone, too"""

Range = tuple[int, int]


class Ranges:
    """The layer ranges [start, stop) that providers in the book advertise, for an hour after the last such advert.

    The book holds only adverts with stake behind them, so each new range costs somebody a stake.
    """

    def __init__(self, book: OrderBook, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._book, self._clock = book, clock
        self._seen: dict[Range, float] = {}

    def look(self) -> None:
        """Take note of what is advertised now."""
        now = self._clock()
        offered = {(advert.layer_start, advert.layer_stop): now for advert in self._book.snapshot()}
        kept = {each: then for each, then in self._seen.items() if then > now - REMEMBERED_SECONDS}
        self._seen = kept | offered

    def offered(self, start: int, stop: int) -> bool:
        """Whether anybody offers these layers, or did within the hour."""
        if (start, stop) not in self._seen:
            self.look()
        return (start, stop) in self._seen
