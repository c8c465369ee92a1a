"""How providers and clients of a model find each other, and keep each other's adverts current.

A provider announces itself in the DHT under the model id and gossips its signed advert. Everybody looks the
model up now and then, asks each provider found for its current advert (a fast start), and hears of refreshes
by gossip. Whoever stops refreshing leaves the order book when its advert expires. What a home remembers from
before (memory.py) comes first: peers are dialled at once, and adverts that still hold need no asking.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import AdvertError, NodeError
from hypercluster.node.network.addresses import split_peer, through
from hypercluster.node.network.dht import Dht
from hypercluster.node.network.diagnosis import Facts, notices
from hypercluster.node.network.gossip import Gossip
from hypercluster.node.network.hello import ServedModel
from hypercluster.node.network.host import Host
from hypercluster.node.network.intake import Intake
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.neighbours import Neighbours
from hypercluster.node.network.orderbook import OrderBook
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


JOIN_SECONDS = 3.0
"""how long an address to join through may take to answer"""
QUIET_LOOKUPS = 4
"""lookups without news after which nothing more is to be expected soon"""
SILENT_SECONDS = 600.0
"""a notice is logged again when it was not true for so long"""
KEEP_SECONDS = 30.0
"""between writes of what is remembered"""


class Discovery:
    """Discovery for the model of `book`.

    Args:
        bootstrap: multiaddrs with /p2p/, or /dnsaddr, of nodes to join through.
        served: the model that this host serves, as others shall hear of it; None for a client.
        memory: what the home remembers of the network, kept up to date.
        chain_time: the time of the chain's latest block (unix seconds), to compare the clock with.

    Raises:
        HostError: a bootstrap address is malformed.
    """

    def __init__(
        self,
        host: Host,
        book: OrderBook,
        *,
        bootstrap: Sequence[str] = (),
        mdns: bool = False,
        pace: Pace | None = None,
        served: ServedModel | None = None,
        memory: Memory | None = None,
        chain_time: Callable[[], Awaitable[float]] | None = None,
    ) -> None:
        self.book = book
        self.notices: tuple[str, ...] = ()
        """what the operator should know, a sentence or two each; looked at every second"""
        self._host = host
        self._pace = pace or Pace()
        self._mdns = mdns
        self._memory = memory
        self._chain_time = chain_time
        self._dht = Dht(host)
        self._gossip = Gossip(host, TOPIC.format(model_id=book.model_id), self._hear)
        self._own: SignedAdvert | None = None
        self._published = trio.Event()
        self._silent_until: dict[str, float] = {}
        self._intake = Intake(book)
        self._quiet = 0
        self._chain_ahead: float | None = None
        self._neighbours = Neighbours(
            host,
            book,
            through(bootstrap, ()),
            self._enter,
            remembered=lambda: memory.peers if memory else {},
            own=lambda: decode_advert(self._own.body) if self._own else None,
            served=served,
            first=self._pace.first,
            steady=self._pace.steady,
            dial=min(self._pace.ask, JOIN_SECONDS),
        )
        host.serve(ADVERT_PROTOCOL, self._tell)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Join the network and stay in it until the end of the block."""
        failure: Exception | None = None
        memory = self._memory
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._dht.running())
            await stack.enter_async_context(self._gossip.running())
            nursery = await stack.enter_async_context(trio.open_nursery())
            for task in (
                partial(self._intake.recall, memory.adverts(self.book.model_id) if memory else []),
                self._neighbours.run,
                self._keep_announced,
                self._keep_looking,
                self._keep_telling,
            ):
                nursery.start_soon(task)
            if self._mdns:
                from hypercluster.node.network.mdns import watch_network

                nursery.start_soon(watch_network, self._host, self._meet)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below, outside of the nurseries
                failure = error
            finally:
                self._remember()
            nursery.cancel_scope.cancel()
        if failure:
            raise failure

    def facts(self) -> Facts:
        """What is known of the network now, for a diagnosis."""
        hello = self._neighbours.hello
        direct = (self._host.direct,) if self._host.direct else ()
        return Facts(
            contacts=self._neighbours.bootstrap.contacts,
            mdns=self._mdns,
            peers=len(self._host.peers),
            unfit=self._intake.unfit,
            unchecked=self._intake.unchecked,
            chain_error=self._intake.chain_error,
            clock_offset=hello.offset,
            clocks=hello.clocks,
            chain_ahead=self._chain_ahead,
            others=tuple(model for model in hello.models if model.model_id != self.book.model_id),
            reached=self._neighbours.dialback.reached(),
            announced=(*self._host.announced, *direct),
        )

    def unreachable(self, address: str) -> bool:
        """Whether peers tried to dial an address of this host and none got through."""
        return any(each.nobody and each.address == address for each in self._neighbours.dialback.reached())

    @property
    def hopeless(self) -> bool:
        """Whether waiting on is of no use: nobody answers, or all have been asked and had nothing new."""
        contacts = self._neighbours.bootstrap.contacts
        if self._mdns or not self._neighbours.redialled.is_set():
            return False
        if any(contact.state == "joined" for contact in contacts) or self._host.peers:
            # Where others are served and this model by nobody, there is little to wait for.
            elsewhere = bool(self.facts().others) and not len(self.book)
            return self._quiet >= (QUIET_LOOKUPS // 2 if elsewhere else QUIET_LOOKUPS)
        return all(contact.dead or contact.state == "self" for contact in contacts)

    @property
    def complete(self) -> bool:
        """Whether the book likely holds all that is offered: a lookup brought nothing new, or it was remembered."""
        return self.looked or (len(self.book) > 0 and self._intake.recalled)

    @property
    def looked(self) -> bool:
        """Whether it does by a lookup of now: for decisions that are not made again in a moment."""
        return len(self.book) > 0 and self._quiet > 0

    async def settle(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Return as soon as `enough()` holds or nothing more is to be expected, after `seconds` at the latest."""
        with trio.move_on_after(seconds):
            while not (enough() or self.hopeless):
                await trio.sleep(0.05)

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
        await self._intake.take(message, peer)

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
            known = isinstance(error, (NodeError, MarketError))
            log.log(logging.DEBUG if known else logging.WARNING, "no advert from %s: %s", peer, error)
            self._silent_until = {p: t for p, t in self._silent_until.items() if t > now}
            self._silent_until[peer] = now + self._pace.silent

    async def _enter(self, peer: str) -> None:
        """Take a neighbour in, and its advert if it has one for this model: that needs no DHT."""
        await self._dht.join(peer)
        if not self.book.is_fresh(peer):
            try:
                await self.ask(peer)
            except (NodeError, MarketError) as error:
                log.debug("no advert from the neighbour %s: %s", peer, error)

    async def _tell(self, stream: Stream) -> None:
        if self._own is not None:
            await Frames(stream).send(encode(self._own), self._pace.ask)

    async def _hear(self, data: bytes) -> None:
        message = decode(data)
        if not isinstance(message, SignedAdvert):
            raise AdvertError("A gossiped message is no advert.")
        await self._intake.hear(message)

    def _remember(self) -> None:
        if self._memory is None:
            return
        peers = {
            advert.peer: advert.addrs for advert in self.book.everybody() if advert.peer != self._host.peer
        }
        for contact in self._neighbours.bootstrap.contacts:
            peer, addr = split_peer(contact.address)
            if contact.state == "joined" and peer and peer not in peers:
                peers[peer] = (addr,)
        self._memory.keep(self.book.model_id, self.book.signed(), peers)

    async def _keep_telling(self) -> None:
        """Log what the operator should know whenever that changes, and keep the memory current."""
        saved = trio.current_time() - KEEP_SECONDS
        told: dict[str, float] = {}
        while True:
            facts = self.facts()
            now = notices(facts)
            self.notices = now
            for notice in now:
                gist, at = _gist(notice), trio.current_time()
                if at > told.get(gist, -math.inf) + SILENT_SECONDS:
                    log.log(logging.WARNING if self._host.addrs else logging.INFO, "%s", notice)
                told[gist] = at
            await trio.sleep(min(1.0, self._pace.steady))
            if trio.current_time() > saved + KEEP_SECONDS:
                saved = trio.current_time()
                self._remember()
                await self._look_at_the_chain()

    async def _look_at_the_chain(self) -> None:
        if self._chain_time is not None:
            try:
                self._chain_ahead = await self._chain_time() - self.book.clock()
            except MarketError as error:
                log.debug("the chain's time is not known: %s", error)

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
            self._quiet = 0 if news or not self._host.peers else self._quiet + 1
            delay = self._pace.first if news else min(2 * delay, self._pace.steady)


def _gist(notice: str) -> str:
    """A notice without its numbers, which change from one look to the next."""
    return "".join(letter for letter in notice if not letter.isdigit())


@contextmanager
def _survived(what: str) -> Iterator[None]:
    """Log what py-libp2p raises: whatever it is, the node lives on and tries again."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        log.warning("%s failed and will be tried again: %r", what, error)
