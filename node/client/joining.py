"""A client on the network, put together from settings, keys and a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import coincurve
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.money.units import HCT
from hypercluster.node.client.auditing.assembly import Auditing, client_transcripts, inspector
from hypercluster.node.client.client import Client
from hypercluster.node.client.payer import Payer
from hypercluster.node.client.purse import Purse, empty_purse
from hypercluster.node.engine.tokenizer import Tokenizer
from hypercluster.node.errors import NodeError
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.host import running_host
from hypercluster.node.network.latency import Latencies
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel


class NoBootstrap(NodeError):
    """Nobody said through whom to join the network."""


@asynccontextmanager
async def joined(
    settings: Settings,
    chain: Chain,
    stored: StoredModel,
    purse: Purse,
    *,
    market: MarketParameters | None = None,
    wire_dtype: WireDtype = WireDtype.F32,
    deposit: int = HCT // 100,
    spread: bool = False,
    auditing: Auditing | None = None,
) -> AsyncIterator[Client]:
    """A client that has joined the network and finds providers of `stored` for as long as the block lasts.

    With `auditing` it keeps transcripts and has stages looked over.

    Raises:
        NoBootstrap: the settings name no node to join through.
        NodeError, MarketError: the vocabulary or the ledger cannot be opened.
    """
    if not settings.bootstrap and not settings.mdns:
        raise NoBootstrap(
            "No node to join the network through: give --bootstrap, set HC_BOOTSTRAP, or HC_MDNS=1 on a local network."
        )
    with open_ledger(settings) as ledger, Tokenizer(stored.vocabulary()) as tokenizer:
        payer = Payer(
            chain=chain,
            payer=purse.wallet,
            wallet=purse.unlock,
            session_key=coincurve.PrivateKey(purse.session_key),
            ledger=ledger,
        )
        book = OrderBook(stored.manifest.model_id, Eligibility(chain))
        async with running_host(purse.session_key) as host:
            discovery = Discovery(host, book, bootstrap=settings.bootstrap, mdns=settings.mdns)
            transcripts = looks = None
            if auditing is not None:
                transcripts = client_transcripts(settings, chain, auditing.max_bytes)
                looks = inspector(
                    auditing,
                    host,
                    discovery,
                    payer,
                    chain,
                    stored,
                    tokenizer.n_vocab,
                    transcripts,
                    ledger,
                    purse,
                )
            async with discovery.running():
                yield Client(
                    host=host,
                    discovery=discovery,
                    latencies=Latencies(host),
                    payer=payer,
                    tokenizer=tokenizer,
                    layers=stored.manifest.layers,
                    market=market or MarketParameters(),
                    wire_dtype=wire_dtype,
                    deposit=deposit,
                    spread=spread,
                    domain=chain.disputes.domain,
                    transcripts=transcripts,
                    trust=ledger.trust,
                    inspector=looks,
                )


async def look(settings: Settings, chain: Chain, stored: StoredModel, seconds: float) -> list[Node]:
    """The adverts for a model that are found within `seconds`, full providers included; none without a way in."""
    if not settings.bootstrap and not settings.mdns:
        return []
    async with joined(settings, chain, stored, empty_purse()) as client:
        await trio.sleep(seconds)
        return await client.nodes(full=True)
