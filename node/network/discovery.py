"""How providers and clients of a model find each other, and keep each other's adverts current.

A provider announces itself in the DHT under the model id and gossips its signed advert. Everybody looks the
model up now and then, asks each provider found for its current advert (a fast start), and hears of refreshes
by gossip. Whoever stops refreshing leaves the order book when its advert expires. What a home remembers from
before (memory.py) comes first: peers are dialled at once, and adverts that still hold need no asking.

What a host does whatever the model is in membership.py; models of one process share it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

from hypercluster.node.errors import AdvertError, Unfit
from hypercluster.node.network.diagnosis import Facts
from hypercluster.node.network.eligibility import KEEP_SECONDS
from hypercluster.node.network.gossip import RUMOURS
from hypercluster.node.network.intake import Intake
from hypercluster.node.network.membership import Membership, Pace
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.messages import SignedAdvert

if TYPE_CHECKING:
    from hypercluster.node.network.hello import ServedModel
    from hypercluster.node.network.host import Host
    from hypercluster.node.network.memory import Memory
    from hypercluster.node.network.rumours import Rumours
    from hypercluster.node.wire.rumours import Rumour

log = logging.getLogger(__name__)

QUIET_LOOKUPS = 4
"""lookups without news after which nothing more is to be expected soon"""
SETTLED_LOOKUPS = 8
"""steady pauses between two lookups while no peer comes that was not there before: gossip tells of newcomers"""
SETTLED_ANNOUNCEMENTS = 20
"""the same between two announcements; records live for days"""


class Discovery:
    """Discovery for the model of `book`; `alone` gives one that has its host for itself.

    `rumours` is what becomes of those that are heard about the model's operators; None neither hears nor passes on any.
    """

    def __init__(self, membership: Membership, book: OrderBook, rumours: Rumours | None = None) -> None:
        self.book = book
        self.rumours = rumours
        self._membership = membership
        self._host = membership.host
        self._pace = membership.pace
        self._published = trio.Event()
        self._intake = Intake(book)
        self._quiet = 0

    @classmethod
    def alone(
        cls,
        host: Host,
        book: OrderBook,
        *,
        bootstrap: Sequence[str] = (),
        mdns: bool = False,
        pace: Pace | None = None,
        served: ServedModel | None = None,
        memory: Memory | None = None,
        chain_time: Callable[[], Awaitable[float]] | None = None,
        rumours: Rumours | None = None,
    ) -> Discovery:
        """For a host that follows one model only; the arguments are those of a Membership. Raises HostError."""
        membership = Membership(
            host,
            bootstrap=bootstrap,
            mdns=mdns,
            pace=pace,
            served=served,
            memory=memory,
            chain_time=chain_time,
            clock=book.clock,
        )
        return cls(membership, book, rumours)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the operator should know, a sentence or two each."""
        return self._membership.notices

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Join the network and follow the model until the end of the block."""
        await self._membership.follow(self)
        async with self._membership.running(), self.following():
            yield

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Look for who serves the model until the end of the block; the membership runs already, or will."""
        failure: Exception | None = None
        memory = self._membership.memory
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._intake.recall, memory.adverts(self.book.model_id) if memory else [])
            nursery.start_soon(self._keep_announced)
            nursery.start_soon(self._keep_looking)
            nursery.start_soon(self._keep_checked)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below, outside of the nursery
                failure = error
            nursery.cancel_scope.cancel()
        if failure:
            raise failure

    def facts(self) -> Facts:
        """What is known of the network now, for a diagnosis."""
        neighbours, membership = self._membership.neighbours, self._membership
        hello = neighbours.hello
        direct = (self._host.direct,) if self._host.direct else ()
        return Facts(
            contacts=neighbours.bootstrap.contacts,
            mdns=membership.mdns,
            peers=len(self._host.peers),
            unfit=self._intake.unfit,
            unchecked=self._intake.unchecked,
            chain_error=self._intake.chain_error,
            clock_offset=hello.offset,
            clocks=hello.clocks,
            chain_ahead=membership.chain_ahead,
            others=tuple(model for model in hello.models if model.model_id != self.book.model_id),
            reached=neighbours.dialback.reached(),
            announced=(*self._host.announced, *direct),
        )

    def unreachable(self, address: str) -> bool:
        """Whether peers tried to dial an address of this host and none got through."""
        reached = self._membership.neighbours.dialback.reached()
        return any(each.nobody and each.address == address for each in reached)

    @property
    def hopeless(self) -> bool:
        """Whether waiting on is of no use: nobody answers, or all have been asked and had nothing new."""
        neighbours = self._membership.neighbours
        contacts = neighbours.bootstrap.contacts
        if self._membership.mdns or not neighbours.redialled.is_set():
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
        try:
            await self.book.offer(signed)
        except AdvertError as error:
            # Others have books of their own, and perhaps a place.
            if error.unfit is not Unfit.NO_PLACE:
                raise
        self._membership.own = signed
        self._published.set()
        await self._membership.gossip.publish(self.book.model_id, encode(signed))

    async def spread(self, rumour: Rumour) -> None:
        """Tell everybody who follows the model, and this host itself.

        Raises NodeError, MarketError: nobody would believe it.
        """
        data = encode(rumour)
        if self.rumours is not None:
            await self.rumours.take(data)
        await self._membership.gossip.publish(self.book.model_id, data, RUMOURS)

    async def lookup(self) -> int:
        """Ask the DHT who serves the model and them for their adverts; returns how many adverts are known.

        Peers whose advert is fresh are not asked again, silent ones not for a while.
        """
        found = await self._membership.dht.providers(self.book.model_id)
        async with trio.open_nursery() as nursery:
            for peer, addrs in found.items():
                nursery.start_soon(self._membership.meet, peer, addrs)
        return len(self.book)

    async def ask(self, peer: str, addrs: Sequence[str] = ()) -> None:
        """Put the current advert of `peer` into the book. Raises NodeError if there is no good one."""
        await self._membership.ask(peer, addrs)

    async def take(self, signed: SignedAdvert, peer: str) -> None:
        """Take in what `peer` gave as its own advert. Raises NodeError, MarketError."""
        await self._intake.take(signed, peer)

    async def hear(self, data: bytes) -> None:
        """Take in what was gossiped. Raises NodeError, MarketError."""
        message = decode(data)
        if not isinstance(message, SignedAdvert):
            raise AdvertError("A gossiped message is no advert.")
        await self._intake.hear(message)

    async def _keep_announced(self) -> None:
        await self._published.wait()
        delay = self._pace.first
        while True:
            told = False
            with _survived("announcing"):
                told = await self._membership.dht.provide(self.book.model_id)
            if told:
                await self._settled(2 * self._pace.steady, SETTLED_ANNOUNCEMENTS // 2)
                continue
            delay = min(2 * delay, self._pace.steady)
            await trio.sleep(delay)

    async def _settled(self, seconds: float, times: int) -> None:
        """Return after so many pauses of `seconds`, or after one in which a new peer came or the last offer went."""
        before = set(self._host.peers)
        for _ in range(times):
            await trio.sleep(seconds)
            if not len(self.book) or not before.issuperset(self._host.peers):
                return

    async def _keep_checked(self) -> None:
        while True:
            await trio.sleep(KEEP_SECONDS)
            with _survived("looking at stakes"):
                await self.book.recheck()

    async def _keep_looking(self) -> None:
        delay = self._pace.first
        while True:
            if delay < self._pace.steady:
                await trio.sleep(delay)
            else:
                await self._settled(delay, SETTLED_LOOKUPS)
            known = len(self.book)
            # Something new means that there may be more; nothing for long means that this is all.
            news = False
            with _survived("looking for providers"):
                news = await self.lookup() > known
            self._quiet = 0 if news or not self._host.peers else self._quiet + 1
            delay = self._pace.first if news else min(2 * delay, self._pace.steady)


@contextmanager
def _survived(what: str) -> Iterator[None]:
    """Log what py-libp2p raises: whatever it is, the node lives on and tries again."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        log.warning("%s failed and will be tried again: %r", what, error)
