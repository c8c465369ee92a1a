"""The peers that a node goes to by itself: those to join through, and those it remembers from before.

They are greeted for their clocks and models, and asked to dial back; what comes of it goes into `Facts`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import trio

from hypercluster.market.advert import Advert
from hypercluster.node.errors import NodeError
from hypercluster.node.network.bootstrap import Bootstrap
from hypercluster.node.network.dialback import DialBack, try_to_ask
from hypercluster.node.network.hello import Hello, ServedModel, try_to_greet
from hypercluster.node.network.host import Host

log = logging.getLogger(__name__)

REDIALLED = 8
"""remembered peers that are dialled at once"""
ASKED = 3
"""peers that are asked to dial back"""
DIAL_BACK_SECONDS = 600.0


class Neighbours:
    """Keeps a host joined and learns from those it is joined to.

    Args:
        join: takes a connected peer into the DHT.
        adverts: the current adverts of all peers, by peer id.
        clock: what time it is, unix seconds.
        remembered: addresses of peers met before, by peer id.
        own: this host's current advert, None before there is one.
        served: the model that this host serves, as others shall hear of it; None for a client.
        first, steady, dial: see `Bootstrap`.
    """

    def __init__(
        self,
        host: Host,
        addresses: Sequence[str],
        join: Callable[[str], Awaitable[None]],
        *,
        adverts: Callable[[], Mapping[str, Advert]],
        clock: Callable[[], float],
        remembered: Callable[[], dict[str, tuple[str, ...]]],
        own: Callable[[], Advert | None],
        served: ServedModel | None,
        first: float,
        steady: float,
        dial: float,
    ) -> None:
        self._host = host
        self._adverts = adverts
        self._join = join
        self._remembered = remembered
        self._own = own
        self._first, self._steady, self._dial = first, steady, dial
        self.hello = Hello(host, lambda: served if own() else None, clock)
        self.dialback = DialBack(host, self._offered)
        self.bootstrap = Bootstrap(host, addresses, self._welcome, first=first, steady=steady, dial=dial)
        self.redialled = trio.Event()
        """set when each remembered peer was tried once"""

    async def run(self) -> None:
        """Go on until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.bootstrap.keep_joined)
            nursery.start_soon(self._keep_dialling)
            if self._host.addrs:
                nursery.start_soon(self._keep_asking)

    async def _welcome(self, peer: str, addrs: Sequence[str]) -> None:
        await self._join(peer)
        await try_to_greet(self.hello, peer, addrs)

    async def _keep_dialling(self) -> None:
        """Dial remembered peers at the start, and again whenever nobody is left."""
        delay = self._first
        while True:
            if not self._host.peers or not self.redialled.is_set():
                async with trio.open_nursery() as nursery:
                    for peer, addrs in list(self._remembered().items())[:REDIALLED]:
                        if peer != self._host.peer:
                            nursery.start_soon(self._redial, peer, addrs)
                self.redialled.set()
            delay = self._steady if self._host.peers else min(2 * delay, self._steady)
            await trio.sleep(delay)

    async def _redial(self, peer: str, addrs: Sequence[str]) -> None:
        try:
            await self._host.connect(peer, addrs, self._dial)
            await self._welcome(peer, addrs)
        except NodeError as error:
            log.debug("a remembered peer is not there: %s", error)

    async def _keep_asking(self) -> None:
        """Have some peers dial this host once it has told them where it is, and seldom from then on."""
        delay = self._first
        while True:
            await trio.sleep(delay)
            own = self._own()
            peers = [peer for peer in self._listening() if peer in self._host.peers]
            if own is None or not peers:
                delay = min(2 * delay, self._steady)
                continue
            async with trio.open_nursery() as nursery:
                for peer in peers[:ASKED]:
                    nursery.start_soon(try_to_ask, self.dialback, peer, own.addrs, self._host.direct)
            # A peer that has not seen the advert yet tries only the address that it sees.
            known = {each.address for each in self.dialback.reached()}
            missing = not known.issuperset(own.addrs)
            delay = (
                min(2 * max(delay, 1.0), self._steady)
                if missing and delay < self._steady
                else DIAL_BACK_SECONDS
            )

    def _listening(self) -> list[str]:
        """Peers that this node dialled or that have an advert: they can dial, as far as can be told."""
        contacts = [contact.address.rpartition("/p2p/")[2] for contact in self.bootstrap.contacts]
        return [*dict.fromkeys([*contacts, *self._adverts()])]

    def _offered(self, peer: str) -> Collection[str]:
        advert = self._adverts().get(peer)
        return (*advert.addrs, advert.direct) if advert else ()
