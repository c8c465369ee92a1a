"""Who has a model: the providers whose adverts are seen, for a process that serves nothing itself."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hypercluster.node.home.settings import PEERS, Settings
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility, anyone
from hypercluster.node.network.host import running_host
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.pulling.asking import Whereabouts
from hypercluster.node.pulling.taking import Network
from hypercluster.node.shards.errors import FetchFailed

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain


@asynccontextmanager
async def providers_of(
    settings: Settings, chain: Chain | None, model_id: str, patience: float
) -> AsyncIterator[Network]:
    """The network of those who advertise a model, for as long as the block lasts; without a chain, of whomever.

    `patience` (s) is how long nobody may be there. Raises FetchFailed: the settings name no node to join through.
    """
    if not settings.bootstrap and not settings.mdns:
        raise FetchFailed(
            f"The model {model_id[:16]} is not on this machine, and there is no node to ask for it: give --bootstrap, "
            "set HC_PROFILE or HC_BOOTSTRAP, or HC_MDNS=1 on a local network."
        )
    eligible = anyone if chain is None else Eligibility(chain)
    memory = Memory(settings.home / PEERS) if chain is not None else None
    book = OrderBook(model_id, eligible)
    async with running_host(secrets.token_bytes(32)) as host:
        discovery = Discovery.alone(
            host, book, bootstrap=settings.bootstrap, mdns=settings.mdns, memory=memory
        )

        def peers() -> Mapping[str, Whereabouts]:
            adverts = [advert for advert in book.snapshot() if advert.role == "provider"]
            return {each.peer: Whereabouts(each.addrs, each.direct) for each in adverts}

        async with discovery.running():
            yield Network(host, peers, model_id, patience)
