"""What is offered of a model now: its price, how long a request may be, how many more it takes, and its holes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hypercluster.market.economics.graph import NoPath, node_of
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import best_path
from hypercluster.node.client.between import NOTHING
from hypercluster.node.client.lengths import longest
from hypercluster.node.traffic.entries import ModelEntry

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.client import Client
    from hypercluster.node.traffic.entries import NamedModel

CHEAPEST = MarketParameters(alpha=1.0, risk_weight=0.0)


def entry_of(named: NamedModel, client: Client) -> ModelEntry:
    """The model with what its order book says of it."""
    manifest, own = named.stored.manifest, client.own_layers
    between = client.chooser.between
    adverts = between.within(client.adverts())
    left = {advert: left for advert in adverts if (left := client.vacancies.free(advert))}
    path: Path | None = NOTHING
    if between.layers:
        try:
            path = best_path([node_of(each) for each in left], layers=between.layers, market=CHEAPEST)
        except NoPath:
            path = None
    asked = between.layers / between.whole
    longest_here = manifest.context if own is None else own.tokens
    return ModelEntry(
        name=named.name,
        aliases=named.aliases,
        model_id=manifest.model_id,
        layers=manifest.layers,
        context=min(longest(adverts, between.layers) or longest_here, longest_here),
        n_vocab=manifest.n_vocab,
        price_wei=path.price_wei if path else None,
        prompt_price_wei=path.prompt_price_wei if path else None,
        coverage=1.0 - asked * (1.0 - coverage(adverts, between.layers)) if between.layers else 1.0,
        sessions=sessions(left, between.layers, own.sessions if own else None),
        has_template=manifest.chat_template is not None,
        sampling=named.sampling,
    )


def coverage(adverts: Iterable[Advert], layers: int) -> float:
    """Share of the layers that one of them serves, 0 to 1."""
    served = {layer for each in adverts for layer in range(each.layer_start, min(each.layer_stop, layers))}
    return len(served) / layers


def sessions(left: Mapping[Advert, int], layers: int, own: int | None = None) -> int:
    """Sessions that are free over all layers at once, at most: those of the layer that has fewest, and no more than
    `own` layers hold, None where there are none of these.
    """
    free = [0] * layers + ([] if own is None else [own])
    for each, count in left.items():
        for layer in range(each.layer_start, min(each.layer_stop, layers)):
            free[layer] += count
    return min(free)
