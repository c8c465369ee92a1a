"""The order book of one model: the adverts that are genuine, current and backed by stake."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from hypercluster.market.advert import Advert, Role
from hypercluster.market.errors import MarketError
from hypercluster.node.errors import AdvertError, Unfit
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.adverts import check_fresh, verify_advert
from hypercluster.node.network.bookplaces import Place, least
from hypercluster.node.network.budgets import Negatives
from hypercluster.node.network.eligibility import KEEP_SECONDS, Backing, Eligible
from hypercluster.node.wire.messages import SignedAdvert

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    advert: Advert
    signed: SignedAdvert
    backing: Backing
    since: int

    @property
    def place(self) -> Place:
        """What it takes up."""
        of = self.advert
        return Place(
            of.peer, of.operator, of.role, of.layer_start, of.layer_stop, self.backing.wei, self.since
        )


class OrderBook:
    """The current advert of each peer that serves `model_id`, `limit` of them at most.

    Adverts leave when they expire, so a provider that died vanishes by itself. What is staked behind each is asked
    for again whenever a newer one comes, and by `recheck`. In a full book places go by stake, see `bookplaces`. Peers
    are expected to derive `sequence` from the time, so that a restart does not set it back.

    Args:
        eligible: what is behind a node key.
        layers: of the model; 0 where nobody knows.
    """

    def __init__(
        self,
        model_id: str,
        eligible: Eligible,
        *,
        name: str = "",
        layers: int = 0,
        limit: int = 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.model_id = model_id
        self.name = name
        """what people call the model"""
        self._eligible = eligible
        self._layers = layers
        self._limit = limit
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._arrivals = itertools.count()
        self._without = Negatives[tuple[str, int]](KEEP_SECONDS, 4 * limit)

    async def offer(self, signed: SignedAdvert) -> Advert | None:
        """Take in an advert: the advert if it is new and good, None if it is the one already known.

        Raises AdvertError or WireError if it must not be taken (nor passed on), also for an older one.
        """
        return await self.take(self.verify(signed), signed)

    async def take(self, advert: Advert, signed: SignedAdvert) -> Advert | None:
        """The same for an advert that `verify` gave, so that no signature is recovered twice."""
        if self._knows(advert, signed):
            return None
        found = await self._eligible(address_of_peer(advert.peer), advert.operator)
        # The chain took its time: look again.
        check_fresh(advert, self._clock())
        if self._knows(advert, signed):
            return None
        try:
            backing = _carried(advert, found)
        except AdvertError:
            # The last one of this peer is not carried either, or says no longer what it offers.
            self.remove(advert.peer)
            raise
        self._drop_expired()
        self._place(_Entry(advert, signed, backing, next(self._arrivals)))
        return advert

    async def recheck(self) -> None:
        """Ask again what is staked behind each advert, and drop those that it carries no longer.

        What the chain does not answer for stays. Raises nothing.
        """

        async def look(entry: _Entry) -> None:
            advert = entry.advert
            try:
                found = await self._eligible(address_of_peer(advert.peer), advert.operator)
            except MarketError:
                return
            if self._entries.get(advert.peer) is entry:
                try:
                    self._entries[advert.peer] = replace(entry, backing=_carried(advert, found))
                except AdvertError as error:
                    log.debug("an advert goes: %s", error)
                    self.remove(advert.peer)

        async with trio.open_nursery() as nursery:
            for entry in list(self._entries.values()):
                nursery.start_soon(look, entry)

    def verify(self, signed: SignedAdvert) -> Advert:
        """The advert, if it is genuine, current and for this model. Raises AdvertError or WireError."""
        advert = verify_advert(signed, self._clock())
        if advert.model_id != self.model_id:
            raise AdvertError(f"The advert of {advert.peer} is for another model.", Unfit.OTHER_MODEL)
        if self._layers and advert.layer_stop > self._layers:
            raise AdvertError(f"The advert of {advert.peer} names layers that the model does not have.")
        return advert

    def snapshot(self, role: Role = "provider") -> list[Advert]:
        """The current adverts of providers, or of verifiers, by first layer, then peer."""
        self._drop_expired()
        adverts = [entry.advert for entry in self._entries.values() if entry.advert.role == role]
        return sorted(adverts, key=lambda advert: (advert.layer_start, advert.layer_stop, advert.peer))

    def everybody(self) -> list[Advert]:
        """The current adverts of all roles, the latest ones last."""
        self._drop_expired()
        return [entry.advert for entry in self._entries.values()]

    def signed(self) -> list[SignedAdvert]:
        """The current adverts as they were signed."""
        self._drop_expired()
        return [entry.signed for entry in self._entries.values()]

    @property
    def clock(self) -> Callable[[], float]:
        """What time it is for this book, unix seconds."""
        return self._clock

    def __len__(self) -> int:
        self._drop_expired()
        return len(self._entries)

    def get(self, peer: str) -> Advert | None:
        """The current advert of one peer."""
        self._drop_expired()
        entry = self._entries.get(peer)
        return entry.advert if entry else None

    def backing_of(self, peer: str) -> Backing | None:
        """What is staked behind the advert of `peer`, as the chain said when it was taken."""
        self._drop_expired()
        entry = self._entries.get(peer)
        return entry.backing if entry else None

    def is_fresh(self, peer: str) -> bool:
        """Whether the advert of `peer` is in the first half of its life."""
        advert = self.get(peer)
        return advert is not None and 2 * self._clock() < advert.issued + advert.expires

    def remove(self, peer: str) -> None:
        """Forget a peer, say because it could not be reached; its next advert brings it back."""
        self._entries.pop(peer, None)

    def _knows(self, advert: Advert, signed: SignedAdvert) -> bool:
        known = self._entries.get(advert.peer)
        if known is None or advert.sequence > known.advert.sequence:
            return False
        if signed.body == known.signed.body:
            return True
        raise AdvertError(f"The advert of {advert.peer} is older than the one known.")

    def _place(self, entry: _Entry) -> None:
        """Put an entry in, in place of its peer's last or, in a full book, of the least of all."""
        known = self._entries.get(entry.advert.peer)
        if known and replace(known.place, wei=0, since=0) == replace(entry.place, wei=0, since=0):
            entry = replace(entry, since=known.since)
        elif known is None and len(self._entries) >= self._limit:
            asked = entry.advert.peer, entry.backing.wei
            if asked not in self._without:
                places = [each.place for each in self._entries.values()]
                leaving = least([*places, entry.place], layers=self._layers)
                if leaving.peer == entry.advert.peer:
                    # To compare all of them is work: with as much stake it is not looked at again for a while.
                    self._without.add(asked)
                self.remove(leaving.peer)
            if asked in self._without:
                raise AdvertError(
                    f"{entry.advert.peer} finds no place: all {self._limit} are taken by more stake, or for longer.",
                    Unfit.NO_PLACE,
                )
        self._entries[entry.advert.peer] = entry

    def _drop_expired(self) -> None:
        now = self._clock()
        self._entries = {p: e for p, e in self._entries.items() if e.advert.expires > now}


def _carried(advert: Advert, backing: Backing | None) -> Backing:
    """What is behind an advert. Raises AdvertError if it does not carry it."""
    if backing is None:
        raise AdvertError(
            f"{advert.peer} may not serve for {advert.operator}: no authorisation or no stake.",
            Unfit.NOT_STAKED,
        )
    if advert.capacity > backing.sessions:
        raise AdvertError(
            f"{advert.peer} offers {advert.capacity} sessions, and the stake behind it carries {backing.sessions}.",
            Unfit.OVER_STAKE,
        )
    return backing
