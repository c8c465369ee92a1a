"""A node's presence on the network: its signed advert, which follows what the node offers, and what keeps it up."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import trio

from hypercluster.market.advert import Advert
from hypercluster.market.chain import Chain
from hypercluster.market.chain.rpc import TOGETHER_SECONDS
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.units import counted
from hypercluster.node.home.running import RunningNode
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.adverts import sign_advert
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.hello import ServedModel
from hypercluster.node.network.host import Host
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.network.rumours import Rumours
from hypercluster.node.serving.collector import Collector
from hypercluster.node.serving.jobs import Jobs, running_jobs
from hypercluster.node.serving.terms import NodeTerms, Wallets
from hypercluster.node.threads import Threads

log = logging.getLogger(__name__)

KEEP_DAYS = 30
FOLLOW_SECONDS = 2.0
LIVES = 3
"""refreshes that an advert outlives"""


@dataclass(frozen=True, slots=True)
class Issue:
    """What every advert says beside the offer itself: whose it is, its number, and how long it holds (unix s)."""

    peer: str
    addrs: tuple[str, ...]
    operator: str
    sequence: int
    issued: int
    expires: int


class Presence:
    """One node of a model on the network.

    Args:
        layers: of the model.
        served: the model as others shall hear of it, None if this node does not run its layers.
        offer: makes the advert of what the node offers now.
    """

    def __init__(
        self,
        host: Host,
        *,
        chain: Chain,
        terms: NodeTerms,
        wallets: Wallets,
        model_id: str,
        layers: int,
        served: ServedModel | None = None,
        offer: Callable[[Issue], Advert],
    ) -> None:
        self.host = host

        on_chain = Threads(1, abandon=True)

        async def chain_time() -> float:
            return await on_chain(chain.timestamp)

        self._eligible = Eligibility(chain)
        book = OrderBook(model_id, self._eligible, layers=layers)
        self.discovery = Discovery.alone(
            host,
            book,
            bootstrap=terms.bootstrap,
            mdns=terms.mdns,
            served=served,
            memory=Memory(terms.peers_file) if terms.peers_file else None,
            chain_time=chain_time,
            rumours=Rumours(book, self._eligible, chain.disputes.domain),
        )
        self._terms, self._wallets, self._offer = terms, wallets, offer
        # Above all that this node ever issued, as long as its clock does not run backwards.
        self._sequence = time.time_ns() // 1_000_000
        self._told: Advert | None = None
        self._thin: int | None = None
        self._followers: list[Callable[[RunningNode], None]] = []
        self._shown: RunningNode | None = None
        self.troubles: Callable[[], Iterable[str]] = lambda: ()
        """what else is wrong with the node, in sentences, as its notices tell"""
        self.computes: Mapping[str, Any] = {}
        """what the node computes with, by name, see node.engine.profile"""
        self.since = time.time()
        self.link = ""
        """to the node's pages, good once; empty where it has none"""

    @property
    def told(self) -> Advert:
        """The advert that the others have; known once `running` has begun."""
        assert self._told is not None
        return self._told

    @asynccontextmanager
    async def running(self, collector: Collector, ledger: Ledger) -> AsyncIterator[Jobs]:
        """Be found, paid and tidy until the end of the block; yields the jobs, for the node to add its own."""
        terms = self._terms
        async with self.discovery.running(), running_jobs() as jobs:
            await self.publish()
            jobs.every(terms.refresh_seconds, "advert refresh", self._refresh)
            watch = partial(collector.watch, within=TOGETHER_SECONDS)
            jobs.every(terms.watch_seconds, "watching the channels", watch)
            jobs.every(terms.claim_seconds, "claiming", collector.claim)
            jobs.every(3600, "pruning", lambda: _prune(ledger), first_after=60)
            jobs.every(FOLLOW_SECONDS, "saying how it stands", self._follow)
            yield jobs

    def advert(self) -> Advert:
        """What the node offers now, with the next sequence number; not yet told to anybody."""
        self._sequence += 1
        now = int(time.time())
        lives = max(3, int(LIVES * self._terms.refresh_seconds))
        advert = self._offer(
            Issue(self.host.peer, self.host.addrs, self._wallets.operator, self._sequence, now, now + lives)
        )
        # Clients would try it first and lose seconds; a stream gets there all the same.
        lost = advert.direct and self.discovery.unreachable(advert.direct)
        return replace(advert, direct="") if lost else advert

    async def publish(self) -> Advert:
        """Tell everybody what the node offers now, within what its stake carries. Raises AdvertError, ChainError."""
        advert = self.advert()
        backing = await self._eligible(address_of_peer(advert.peer), advert.operator)
        thin = backing is not None and 0 < backing.sessions < advert.capacity
        self._thin = backing.sessions if backing and thin else None
        if self._thin is not None:
            # There was enough at the start: a slash, or a stake that thaws, has left less.
            advert = replace(advert, capacity=self._thin, free=min(advert.free, self._thin))
        await self.discovery.publish(sign_advert(advert, self._wallets.node_key))
        self._told = advert
        return advert

    async def _refresh(self) -> None:
        """Tell it again, unless something that changed was told a moment ago."""
        if time.time() - self.told.issued >= self._terms.refresh_seconds / 2:
            await self.publish()

    def running_node(self) -> RunningNode:
        """How the node stands, as it is told to the short commands beside it."""
        advert = self.told
        return RunningNode(
            role=advert.role,
            peer=advert.peer,
            addresses=tuple(f"{address}/p2p/{advert.peer}" for address in advert.addrs),
            layers=(advert.layer_start, advert.layer_stop) if advert.role == "provider" else (),
            session_tokens=advert.session_tokens,
            computes=self.computes,
            notices=(*self.discovery.notices, *self._doubles(), *self._thinned(), *self.troubles()),
        )

    def _thinned(self) -> list[str]:
        """That there is less stake behind this node than its sessions need."""
        if self._thin is None:
            return []
        return [
            f"The stake behind this node carries {counted(self._thin, 'session')}, and no more are offered: "
            "hc-provider register adds what is missing."
        ]

    def _doubles(self) -> list[str]:
        """That the network has an advert of our key which is not ours; later ones have higher numbers."""
        seen = self.discovery.book.get(self.host.peer)
        if seen is None or seen.sequence <= self._sequence:
            return []
        return [
            "Another node announces itself with this node's key, or the clock was set back since the last run: "
            "two nodes with one key can be slashed. End one of them, or make a key of its own for it."
        ]

    def follow(self, tell: Callable[[RunningNode], None]) -> None:
        """Have `tell` called with how the node stands, now and whenever that changes."""
        self._followers.append(tell)
        tell(self.running_node())

    async def _follow(self) -> None:
        now = self.running_node()
        if self._doubles() and not (self._shown and set(self._doubles()) <= set(self._shown.notices)):
            log.error("%s", self._doubles()[0])
        if now != self._shown:
            self._shown = now
            for tell in self._followers:
                await trio.to_thread.run_sync(tell, now)

    def others(self) -> list[Advert]:
        """What everybody else offers for the model, as far as it is known."""
        return [advert for advert in self.discovery.book.snapshot() if advert.peer != self.host.peer]

    def stake_of(self, peer: str) -> int:
        """Wei behind what a peer offers, as far as is known."""
        backing = self.discovery.book.backing_of(peer)
        return backing.wei if backing else 0


OnReady = Callable[[Presence], None]


async def _prune(ledger: Ledger) -> None:
    await trio.to_thread.run_sync(ledger.prune, datetime.now(UTC) - timedelta(days=KEEP_DAYS))
