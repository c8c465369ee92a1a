"""How providers and clients of a model find each other, and keep each other's adverts current.

A provider announces itself in the DHT under the model id and gossips its signed advert. Everybody looks the
model up now and then, asks each provider found for its current advert (a fast start), and hears of refreshes
by gossip. Whoever stops refreshing leaves the order book when its advert expires.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from hypercluster.node.errors import AdvertError, HostError, NodeError
from hypercluster.node.network.addresses import split_peer
from hypercluster.node.network.dht import Dht
from hypercluster.node.network.gossip import Gossip
from hypercluster.node.network.host import Host
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.network.rate import Rate
from hypercluster.node.network.stream import Stream
from hypercluster.node.wire.adverts import decode_advert
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.framing import Frames
from hypercluster.node.wire.messages import ADVERT_PROTOCOL, SignedAdvert

log = logging.getLogger(__name__)

TOPIC = "/hypercluster/adverts/3/{model_id}"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things happen, in seconds. What starts at `first` doubles until `steady`."""

    first: float = 0.25
    steady: float = 30.0
    ask: float = 5.0
    """how long a provider may take to answer with its advert"""
    silent: float = 30.0
    """how long a provider that did not answer is left alone"""


class Discovery:
    """Discovery for the model of `book`; `bootstrap` are multiaddrs with /p2p/ of nodes to join through."""

    def __init__(
        self,
        host: Host,
        book: OrderBook,
        *,
        bootstrap: Sequence[str] = (),
        mdns: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self.book = book
        self._host = host
        self._pace = pace or Pace()
        self._mdns = mdns
        self._bootstrap = [split_peer(address) for address in bootstrap]
        for address, (peer, addr) in zip(bootstrap, self._bootstrap, strict=True):
            if not (peer and addr):
                raise HostError(f"{address!r} does not say who is there: it must end in /p2p/ and a peer id.")
        self._dht = Dht(host)
        self._gossip = Gossip(host, TOPIC.format(model_id=book.model_id), self._hear)
        self._refreshes = Rate(0.5, 10)
        self._own: SignedAdvert | None = None
        self._published = trio.Event()
        self._silent_until: dict[str, float] = {}
        host.serve(ADVERT_PROTOCOL, self._tell)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Join the network and stay in it until the end of the block."""
        failure: Exception | None = None
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._dht.running())
            await stack.enter_async_context(self._gossip.running())
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(self._keep_joined)
            nursery.start_soon(self._keep_announced)
            nursery.start_soon(self._keep_looking)
            if self._mdns:
                from hypercluster.node.network.mdns import watch_network

                nursery.start_soon(watch_network, self._host, self._meet)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below, outside of the nurseries
                failure = error
            nursery.cancel_scope.cancel()
        if failure:
            raise failure

    async def publish(self, signed: SignedAdvert) -> None:
        """Make `signed` this host's current advert and tell everybody. Raises AdvertError if it is bad."""
        await self.book.offer(signed)
        self._own = signed
        self._published.set()
        await self._gossip.publish(encode(signed))

    async def lookup(self) -> int:
        """Ask the DHT who serves the model and them for their adverts; returns how many adverts are known.

        Peers whose advert is fresh are not asked again, silent ones not for a while.
        """
        found = await self._dht.providers(self.book.model_id)
        async with trio.open_nursery() as nursery:
            for peer, addrs in found.items():
                nursery.start_soon(self._meet, peer, addrs)
        return len(self.book)

    async def ask(self, peer: str, addrs: Sequence[str] = ()) -> None:
        """Put the current advert of `peer` into the book. Raises NodeError if there is no good one."""
        seconds = self._pace.ask
        stream = await self._host.open_stream(peer, ADVERT_PROTOCOL, addrs, seconds)
        try:
            message = decode(await Frames(stream, frame_seconds=seconds).receive(seconds))
        finally:
            await stream.close()
        if not isinstance(message, SignedAdvert) or decode_advert(message.body).peer != peer:
            raise AdvertError(f"{peer} answered with something else than its advert.")
        await self.book.offer(message)

    async def _meet(self, peer: str, addrs: Sequence[str]) -> None:
        """Ask a peer for its advert unless that is fresh; never raises for what peer or chain do."""
        now = trio.current_time()
        if peer == self._host.peer or self._silent_until.get(peer, 0) > now or self.book.is_fresh(peer):
            return
        try:
            await self.ask(peer, addrs)
            await self._dht.join(peer)
            self._silent_until.pop(peer, None)
        except Exception as error:  # noqa: BLE001 - whatever the peer sent or the chain raised
            level = logging.DEBUG if isinstance(error, NodeError) else logging.WARNING
            log.log(level, "no advert from %s: %s", peer, error)
            self._silent_until = {p: t for p, t in self._silent_until.items() if t > now}
            self._silent_until[peer] = now + self._pace.silent

    async def _tell(self, stream: Stream) -> None:
        if self._own is not None:
            await Frames(stream).send(encode(self._own), self._pace.ask)

    async def _hear(self, data: bytes) -> None:
        message = decode(data)
        if not isinstance(message, SignedAdvert):
            raise AdvertError("A gossiped message is no advert.")
        if not self._refreshes.allows(self.book.verify(message).peer):
            raise AdvertError("A peer refreshes its advert too often.")
        await self.book.offer(message)

    async def _keep_joined(self) -> None:
        delay = self._pace.first
        while self._bootstrap:
            joined = 0
            for peer, addr in self._bootstrap:
                try:
                    if peer != self._host.peer:
                        await self._host.connect(peer, [addr], self._pace.ask)
                        await self._dht.join(peer)
                    joined += 1
                except NodeError as error:
                    log.info("cannot join through %s: %s", addr, error)
            delay = self._pace.steady if joined else min(2 * delay, self._pace.steady)
            await trio.sleep(delay)

    async def _keep_announced(self) -> None:
        await self._published.wait()
        delay = self._pace.first
        while True:
            told = False
            with _survived("announcing"):
                told = await self._dht.provide(self.book.model_id)
            delay = 2 * self._pace.steady if told else min(2 * delay, self._pace.steady)
            await trio.sleep(delay)

    async def _keep_looking(self) -> None:
        delay = self._pace.first
        while True:
            await trio.sleep(delay)
            known = len(self.book)
            # Something new means that there may be more; nothing for long means that this is all.
            news = False
            with _survived("looking for providers"):
                news = await self.lookup() > known
            delay = self._pace.first if news else min(2 * delay, self._pace.steady)


@contextmanager
def _survived(what: str) -> Iterator[None]:
    """Log what py-libp2p raises: whatever it is, the node lives on and tries again."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        log.warning("%s failed and will be tried again: %r", what, error)
