"""What a network serves: every model that is heard of there, how much of it, at what price and speed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hypercluster.market.economics.graph import NoPath, node_of
from hypercluster.market.economics.routing import best_path
from hypercluster.node.catalogue import Catalogue
from hypercluster.node.home.settings import PEERS, Settings
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility, anyone
from hypercluster.node.network.host import running_host
from hypercluster.node.network.membership import Membership
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.traffic.offers import CHEAPEST, coverage, sessions

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.chain import Chain
    from hypercluster.node.network.host import Host

MOST_MODELS = 64
"""that are looked for at once"""
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Served:
    """A model as a network serves it now.

    Attributes:
        layers: as its listing or, for one that is listed nowhere, as a peer says.
        coverage: share of the layers that somebody serves, 0 to 1.
        price_wei, prompt_price_wei: per token over the cheapest path; None where no path is free.
        ms: computing a token over that path takes, without the network's time.
        sessions: that are free over all layers.
    """

    model_id: str
    name: str
    layers: int
    coverage: float
    providers: int
    sessions: int
    price_wei: int | None
    prompt_price_wei: int | None
    ms: float | None


async def survey(settings: Settings, chain: Chain | None, listed: Catalogue, seconds: float) -> list[Served]:
    """The models of a catalogue and those that peers name, as they are served now; without those that nobody serves.

    Looks for `seconds` at most. Raises HostError.
    """
    failure: Exception | None = None
    found: list[Served] = []
    async with running_host(secrets.token_bytes(32)) as host:
        try:
            found = await _Survey(host, settings, chain, listed).run(seconds)
        except Exception as error:  # noqa: BLE001 - raised below, outside of the nurseries
            failure = error
    if failure is not None:
        raise failure
    return found


class _Survey:
    def __init__(self, host: Host, settings: Settings, chain: Chain | None, listed: Catalogue) -> None:
        self._eligible = anyone if chain is None else Eligibility(chain)
        self._membership = Membership(
            host,
            bootstrap=settings.bootstrap,
            mdns=settings.mdns,
            memory=Memory(settings.home / PEERS) if chain is not None else None,
        )
        self._listed = listed
        self._layers: dict[str, int] = {}
        self._followed: dict[str, Discovery] = {}

    async def run(self, seconds: float) -> list[Served]:
        async with self._membership.running(), trio.open_nursery() as nursery:
            for model in self._listed.models[:MOST_MODELS]:
                await self._follow(model.model_id, model.name, model.layers, nursery)
            with trio.move_on_after(seconds):
                while not self._over():
                    for heard in self._membership.neighbours.hello.models:
                        await self._follow(heard.model_id, heard.name, heard.layers, nursery)
                    await trio.sleep(LOOK_SECONDS)
            nursery.cancel_scope.cancel()
        served = [
            _served(each.book, self._layers[model_id])
            for model_id, each in self._followed.items()
            if len(each.book)
        ]
        return sorted(served, key=lambda each: (-each.coverage, each.name, each.model_id))

    async def _follow(self, model_id: str, name: str, layers: int, nursery: trio.Nursery) -> None:
        if model_id in self._followed or len(self._followed) >= MOST_MODELS:
            return
        known = self._listed.of(model_id)
        # Of a model that is listed nowhere, a peer may have said anything: its adverts are taken whatever they are.
        book = OrderBook(
            model_id, self._eligible, name=known.name if known else name, layers=known.layers if known else 0
        )
        self._layers[model_id] = layers
        discovery = self._followed[model_id] = Discovery(self._membership, book)
        await self._membership.follow(discovery)
        nursery.start_soon(self._keep, discovery)

    async def _keep(self, discovery: Discovery) -> None:
        async with discovery.following():
            await trio.sleep_forever()

    def _over(self) -> bool:
        """Whether nothing more is to be expected: each model was looked for, and the looks brought nothing."""
        followed = self._followed.values()
        return bool(followed) and all(each.looked or each.hopeless for each in followed)


def _served(book: OrderBook, layers: int) -> Served:
    adverts: list[Advert] = [advert for advert in book.snapshot() if advert.role == "provider"]
    layers = max(layers, *(each.layer_stop for each in adverts)) if adverts else layers
    free = {advert: advert.free for advert in adverts if advert.free}
    try:
        path = best_path([node_of(each) for each in free], layers=layers, market=CHEAPEST)
    except NoPath:
        path = None
    return Served(
        model_id=book.model_id,
        name=book.name,
        layers=layers,
        coverage=coverage(adverts, layers),
        providers=len(adverts),
        sessions=sessions(free, layers),
        price_wei=path.price_wei if path else None,
        prompt_price_wei=path.prompt_price_wei if path else None,
        ms=path.ms if path else None,
    )
