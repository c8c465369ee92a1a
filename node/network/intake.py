"""How adverts get into the order book, and a count of those that did not, for when somebody asks why."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import trio

from hypercluster.market.advert import Advert
from hypercluster.market.errors import MarketError
from hypercluster.node.errors import AdvertError, NodeError, Unfit
from hypercluster.node.network.budgets import BOUNDS, LOCAL, Budget, Source
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.network.rate import Rate
from hypercluster.node.wire.adverts import decode_advert
from hypercluster.node.wire.messages import SignedAdvert

log = logging.getLogger(__name__)

_MOST_PEERS = 1024
_REFRESHES = (0.5, 10)
"""of a provider that is in the book: per second, and at once"""
_COUNTED = (Unfit.EXPIRED, Unfit.POST_DATED, Unfit.NOT_STAKED, Unfit.OVER_STAKE, Unfit.NO_PLACE, Unfit.FORGED)


class Intake:
    """Offers adverts to `book`. Each provider counts once, with what became of its last advert."""

    def __init__(self, book: OrderBook) -> None:
        self._book = book
        self._refreshes = Rate(*_REFRESHES)
        self._strangers = Budget(BOUNDS["advert"])
        self._unfit: dict[str, Unfit] = {}
        self._unchecked: dict[str, str] = {}
        self.recalled = False
        """whether all adverts that were remembered still held"""

    @property
    def unfit(self) -> Mapping[Unfit, int]:
        """Providers whose last advert was not taken, by reason."""
        return Counter(self._unfit.values())

    @property
    def unchecked(self) -> int:
        """Providers whose last advert the chain did not answer for."""
        return len(self._unchecked)

    @property
    def chain_error(self) -> str:
        """What the chain said last instead of an answer."""
        return next(reversed(self._unchecked.values()), "")

    async def take(self, signed: SignedAdvert, peer: str) -> None:
        """Take in what `peer` sent as its own advert. Raises NodeError, MarketError."""
        try:
            advert = self._book.verify(signed)
        except AdvertError as error:
            self._refuse(peer, error)
            raise
        await self._enter(advert, signed)

    async def hear(self, signed: SignedAdvert) -> None:
        """Take in an advert that somebody passed on. Raises NodeError, MarketError.

        Those that are in the book have a pace of their own, whatever strangers send; and these, waiting for the chain,
        hold no more than half of the places in which gossip is checked.
        """
        try:
            advert = self._book.verify(signed)
        except AdvertError as error:
            # Only what is genuine says something about the provider that it names.
            if error.unfit in (Unfit.EXPIRED, Unfit.POST_DATED):
                self._refuse(decode_advert(signed.body).peer, error)
            raise
        if self._book.get(advert.peer) is not None:
            if not self._refreshes.allows(advert.peer):
                raise AdvertError("A peer refreshes its advert too often.")
            await self._enter(advert, signed)
            return
        with self._strangers.holding(Source(advert.peer, LOCAL)):
            with trio.move_on_after(self._strangers.bound.seconds):
                await self._enter(advert, signed)
                return
        raise AdvertError(f"The chain took too long to say whether {advert.peer} may serve.")

    async def recall(self, kept: Sequence[SignedAdvert]) -> None:
        """Take in remembered adverts, all at once: what still holds is known before anybody was asked.

        Where one no longer holds, its provider may have another by now, so the rest is not all there is.
        """
        refused = 0

        async def take(signed: SignedAdvert) -> None:
            nonlocal refused
            try:
                await self._enter(self._book.verify(signed), signed)
            except (NodeError, MarketError) as error:
                refused += 1
                log.debug("a remembered advert is not taken: %s", error)

        async with trio.open_nursery() as nursery:
            for signed in kept:
                nursery.start_soon(take, signed)
        self.recalled = bool(kept) and not refused

    async def _enter(self, advert: Advert, signed: SignedAdvert) -> None:
        try:
            await self._book.take(advert, signed)
        except AdvertError as error:
            self._unchecked.pop(advert.peer, None)
            self._refuse(advert.peer, error)
            raise
        except MarketError as error:
            if len(self._unchecked) < _MOST_PEERS:
                self._unchecked[advert.peer] = str(error)
            raise
        self._unfit.pop(advert.peer, None)
        self._unchecked.pop(advert.peer, None)

    def _refuse(self, peer: str, error: AdvertError) -> None:
        if error.unfit in _COUNTED and len(self._unfit) < _MOST_PEERS:
            self._unfit[peer] = error.unfit
