"""One host's part in the network, whatever models it follows: the DHT, gossip, and the peers that it goes to.

The models share it (discovery.py): a process has one host, and a host has one of each protocol.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import AdvertError, NodeError, Unfit
from hypercluster.node.network.addresses import split_peer, through
from hypercluster.node.network.dht import Dht
from hypercluster.node.network.diagnosis import notices
from hypercluster.node.network.gossip import RUMOURS, Gossip
from hypercluster.node.network.hello import ServedModel
from hypercluster.node.network.host import Host
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.neighbours import Neighbours
from hypercluster.node.network.stream import Stream
from hypercluster.node.wire.adverts import decode_advert
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.framing import Frames
from hypercluster.node.wire.messages import ADVERT_PROTOCOL, SignedAdvert

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.network.discovery import Discovery

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things happen, in seconds. What starts at `first` doubles until `steady`."""

    first: float = 0.25
    steady: float = 30.0
    ask: float = 5.0
    """how long a provider may take to answer with its advert"""
    silent: float = 30.0
    """how long a provider that did not answer is left alone"""


JOIN_SECONDS = 3.0
"""how long an address to join through may take to answer"""
SILENT_SECONDS = 600.0
"""a notice is logged again when it was not true for so long"""
LOOK_SECONDS, SETTLED_SECONDS = 1.0, 5.0
"""between looks at what the operator should know: the first ones, and when nothing has changed for a while"""
KEEP_SECONDS = 30.0
"""between writes of what is remembered"""


class Membership:
    """A host in the network.

    Args:
        bootstrap: multiaddrs with /p2p/, or /dnsaddr, of nodes to join through.
        served: the model that this host serves, as others shall hear of it; None for a client.
        memory: what the home remembers of the network, kept up to date.
        chain_time: the time of the chain's latest block (unix seconds), to compare the clock with.
        clock: what time it is here, unix seconds.

    Raises:
        HostError: a bootstrap address is malformed.
    """

    def __init__(
        self,
        host: Host,
        *,
        bootstrap: Sequence[str] = (),
        mdns: bool = False,
        pace: Pace | None = None,
        served: ServedModel | None = None,
        memory: Memory | None = None,
        chain_time: Callable[[], Awaitable[float]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self.pace = pace or Pace()
        self.mdns = mdns
        self.memory = memory
        self.dht = Dht(host)
        self.gossip = Gossip(host)
        self.own: SignedAdvert | None = None
        self.notices: tuple[str, ...] = ()
        """what the operator should know, a sentence or two each; looked at every few seconds"""
        self.chain_ahead: float | None = None
        self._chain_time = chain_time
        self._clock = clock
        self._followed: dict[str, Discovery] = {}
        self._silent_until: dict[str, float] = {}
        self.neighbours = Neighbours(
            host,
            through(bootstrap, ()),
            self._enter,
            adverts=self._adverts,
            clock=clock,
            remembered=lambda: memory.peers if memory else {},
            own=lambda: decode_advert(self.own.body) if self.own else None,
            served=served,
            first=self.pace.first,
            steady=self.pace.steady,
            dial=min(self.pace.ask, JOIN_SECONDS),
        )
        host.serve(ADVERT_PROTOCOL, self._tell, bound="advert request")
        host.is_familiar = self._has_stake

    async def follow(self, discovery: Discovery) -> None:
        """Hand what is heard of a model to its discovery from now on."""
        self._followed[discovery.book.model_id] = discovery
        # Who had nothing of interest may serve this model.
        self._silent_until.clear()
        await self.gossip.follow(discovery.book.model_id, discovery.hear)
        if discovery.rumours is not None:
            await self.gossip.follow(discovery.book.model_id, discovery.rumours.take, RUMOURS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Join the network and stay in it until the end of the block."""
        failure: Exception | None = None
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.dht.running())
            await stack.enter_async_context(self.gossip.running())
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(self.neighbours.run)
            nursery.start_soon(self._keep_telling)
            if self.mdns:
                from hypercluster.node.network.mdns import watch_network

                nursery.start_soon(watch_network, self.host, self.meet)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below, outside of the nurseries
                failure = error
            finally:
                self._remember()
            nursery.cancel_scope.cancel()
        if failure:
            raise failure

    async def ask(self, peer: str, addrs: Sequence[str] = ()) -> None:
        """Put the current advert of `peer` into the book of its model.

        Raises:
            NodeError, MarketError: there is no good one, or none of a model that is followed.
        """
        seconds = self.pace.ask
        stream = await self.host.open_stream(peer, ADVERT_PROTOCOL, addrs, seconds)
        try:
            message = decode(await Frames(stream, frame_seconds=seconds).receive(seconds))
        finally:
            await stream.close()
        if not isinstance(message, SignedAdvert) or (advert := decode_advert(message.body)).peer != peer:
            raise AdvertError(f"{peer} answered with something else than its advert.")
        discovery = self._followed.get(advert.model_id)
        if discovery is None:
            raise AdvertError(f"The advert of {peer} is for another model.", Unfit.OTHER_MODEL)
        await discovery.take(message, peer)

    async def meet(self, peer: str, addrs: Sequence[str]) -> None:
        """Ask a peer for its advert unless that is fresh; never raises for what peer or chain do."""
        now = trio.current_time()
        if peer == self.host.peer or self._silent_until.get(peer, 0) > now or self._is_fresh(peer):
            return
        try:
            await self.ask(peer, addrs)
            await self.dht.join(peer)
            self._silent_until.pop(peer, None)
        except Exception as error:  # noqa: BLE001 - whatever the peer sent or the chain raised
            known = isinstance(error, (NodeError, MarketError))
            log.log(logging.DEBUG if known else logging.WARNING, "no advert from %s: %s", peer, error)
            self._silent_until = {p: t for p, t in self._silent_until.items() if t > now}
            self._silent_until[peer] = now + self.pace.silent

    async def _enter(self, peer: str) -> None:
        """Take a neighbour in, and its advert if it has one for a model here: that needs no DHT."""
        await self.dht.join(peer)
        if not self._is_fresh(peer):
            try:
                await self.ask(peer)
            except (NodeError, MarketError) as error:
                log.debug("no advert from the neighbour %s: %s", peer, error)

    async def _tell(self, stream: Stream) -> None:
        if self.own is not None:
            await Frames(stream).send(encode(self.own), self.pace.ask)

    def _has_stake(self, peer: str) -> bool:
        return any(each.book.get(peer) is not None for each in self._followed.values())

    def _is_fresh(self, peer: str) -> bool:
        return any(each.book.is_fresh(peer) for each in self._followed.values())

    def _adverts(self) -> dict[str, Advert]:
        return {advert.peer: advert for each in self._followed.values() for advert in each.book.everybody()}

    def _remember(self) -> None:
        if self.memory is None:
            return
        peers = {peer: advert.addrs for peer, advert in self._adverts().items() if peer != self.host.peer}
        for contact in self.neighbours.bootstrap.contacts:
            peer, addr = split_peer(contact.address)
            if contact.state == "joined" and peer and peer not in peers:
                peers[peer] = (addr,)
        for model_id, each in self._followed.items():
            self.memory.keep(model_id, each.book.signed(), peers)

    async def _keep_telling(self) -> None:
        """Log what the operator should know whenever that changes, and keep the memory current."""
        saved = trio.current_time() - KEEP_SECONDS
        told: dict[str, float] = {}
        delay = LOOK_SECONDS
        while True:
            now = tuple(
                dict.fromkeys(notice for each in self._followed.values() for notice in notices(each.facts()))
            )
            same = list(map(_gist, now)) == list(map(_gist, self.notices))
            delay = min(1.2 * delay, SETTLED_SECONDS) if same else LOOK_SECONDS
            self.notices = now
            for notice in now:
                gist, at = _gist(notice), trio.current_time()
                if at > told.get(gist, -math.inf) + SILENT_SECONDS:
                    log.log(logging.WARNING if self.host.addrs else logging.INFO, "%s", notice)
                told[gist] = at
            await trio.sleep(min(delay, self.pace.steady))
            if trio.current_time() > saved + KEEP_SECONDS:
                saved = trio.current_time()
                self._remember()
                await self._look_at_the_chain()

    async def _look_at_the_chain(self) -> None:
        if self._chain_time is not None:
            try:
                self.chain_ahead = await self._chain_time() - self._clock()
            except MarketError as error:
                log.debug("the chain's time is not known: %s", error)


def _gist(notice: str) -> str:
    """A notice without its numbers, which change from one look to the next."""
    return "".join(letter for letter in notice if not letter.isdigit())
