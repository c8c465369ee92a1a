"""Looking at a network without paying: what is offered of a model, and the path that a client would take.

It takes neither keys nor the model's file, and where the chain does not answer, adverts are taken without it: then
nobody knows whether a stake is behind them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.node.client.choosing import Chooser
from hypercluster.node.client.joining import NoBootstrap, Unseen
from hypercluster.node.client.needs import Needs
from hypercluster.node.client.patiently import patiently
from hypercluster.node.client.request import Wishes
from hypercluster.node.client.vacancies import Vacancies
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import PEERS, Settings
from hypercluster.node.network.diagnosis import Wanted, why_nobody
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility, anyone
from hypercluster.node.network.host import running_host
from hypercluster.node.network.latency import Latencies
from hypercluster.node.network.membership import Membership
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.orderbook import OrderBook

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.chain import Chain
    from hypercluster.market.economics.graph import Floats, Node
    from hypercluster.market.economics.routing import Path


@dataclass(frozen=True, slots=True)
class Sought:
    """A model that is looked for: its id (64 hex digits), its layers, and what people call it."""

    model_id: str
    layers: int
    name: str


class Onlooker:
    """Sees what is offered of one model; see `looking_on`."""

    def __init__(self, discovery: Discovery, chooser: Chooser, wishes: Wishes) -> None:
        self.discovery = discovery
        self._chooser, self._wishes = chooser, wishes

    def adverts(self) -> list[Advert]:
        """What is offered now."""
        return self.discovery.book.snapshot()

    async def nodes(self, *, full: bool = False) -> list[Node]:
        """The adverts with the latency measured to each; those with no free session only if `full`."""
        return await self._chooser.nodes(self._wishes, full=full)

    def delays(self, nodes: Sequence[Node]) -> Floats | None:
        """One-way ms between nodes as their weight has them; None where the client relays every hop."""
        return self._chooser.delays(self._wishes, nodes)

    async def route(self) -> Path:
        """The path that a small request would take now. Raises NoRoute, AllBusy."""
        return await self._chooser.route(self._wishes, Needs())

    async def wait_for_path(self, seconds: float) -> Path:
        """The same as soon as there is one. Raises NoRoute or AllBusy when there is none in time."""
        return await patiently(self.route, self.discovery, seconds)


@asynccontextmanager
async def looking_on(
    settings: Settings, sought: Sought, chain: Chain | None, wishes: Wishes | None = None
) -> AsyncIterator[Onlooker]:
    """See what is offered of a model for as long as the block lasts; without a chain, by whomever.

    Raises:
        NoBootstrap: the settings name no node to join through.
        NodeError, MarketError: the ledger, with what was learned of providers, cannot be opened.
    """
    if not settings.bootstrap and not settings.mdns:
        raise NoBootstrap(
            "No node to join the network through: give --profile or --bootstrap, set HC_PROFILE or HC_BOOTSTRAP, or "
            "HC_MDNS=1 on a local network."
        )
    eligible = anyone if chain is None else Eligibility(chain)
    # What is remembered for later was checked: adverts that were not stay out of it.
    memory = Memory(settings.home / PEERS) if chain is not None else None
    with open_ledger(settings) as ledger:
        async with running_host(secrets.token_bytes(32)) as host:
            membership = Membership(host, bootstrap=settings.bootstrap, mdns=settings.mdns, memory=memory)
            discovery = Discovery(
                membership, OrderBook(sought.model_id, eligible, name=sought.name, layers=sought.layers)
            )
            async with membership.running():
                await membership.follow(discovery)
                async with discovery.following():
                    chooser = Chooser(discovery, Latencies(host), Vacancies(), sought.layers, ledger.trust)
                    yield Onlooker(discovery, chooser, wishes or Wishes(shares=settings.shares))


async def look(
    settings: Settings, sought: Sought, chain: Chain | None, seconds: float
) -> tuple[list[Node], str]:
    """The adverts for a model that are found within `seconds`, full providers included, and why there are none.

    Without a way in there is nobody. Raises Unseen if nobody could be looked for.
    """
    if not settings.bootstrap and not settings.mdns:
        return [], "Nobody was looked for: no --bootstrap, so this would be the first node of a network."
    async with looking_on(settings, sought, chain) as onlooker:
        discovery = onlooker.discovery
        await discovery.settle(seconds, lambda: discovery.looked)
        nodes = await onlooker.nodes(full=True)
        if nodes:
            return nodes, ""
        facts = discovery.facts()
        why = why_nobody(facts, Wanted(sought.model_id, sought.name, sought.layers))
        if facts.unchecked or not (facts.peers or settings.mdns):
            raise Unseen(why)
        return [], why
