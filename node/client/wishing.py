"""The path that fits what a request wishes for: whom it prefers, and what it may cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hypercluster.market.economics.diversity import diverse_path, keeps
from hypercluster.market.economics.gibbs import sample_linked_path, sample_paths
from hypercluster.market.economics.graph import AdvertTable, Floats, Node
from hypercluster.market.economics.routing import Path, path_of
from hypercluster.market.economics.shares import Shares
from hypercluster.market.money.units import round_price
from hypercluster.node.client.request import BadRequest
from hypercluster.node.rows import WireDtype

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.node.client.request import Wishes

STEP = 1e6
"""weight of a layer that is served by one who comes later in the order of preference"""
PROMPTS = 1e6
"""prompt tokens per generated one where only the price of prompts counts"""


class TooDear(BadRequest):
    """There are paths, and all of them cost more than the request allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of a path one operator may have, and how many of its hops those may who are `untried`; None: any.

    `delays` are those between nodes, one way in ms, float64 [n, n]; None: the client relays every hop.
    """

    shares: Shares
    untried: Collection[str] = ()
    most_untried: int | None = None
    delays: Callable[[Sequence[Node]], Floats] | None = None

    def lightest(self, nodes: Sequence[Node], layers: int, market: MarketParameters) -> Path:
        """Raises NoPath."""
        return diverse_path(
            nodes,
            layers=layers,
            market=market,
            shares=self.shares,
            untried=self.untried,
            most_untried=self.most_untried,
            latency=self.delays(nodes) if self.delays else None,
        )

    def path_of(self, nodes: Sequence[Node], market: MarketParameters) -> Path:
        """These nodes, added up."""
        return path_of(nodes, market, self.delays(nodes) if self.delays else None)

    def hold(self, path: Path) -> bool:
        """Whether the path is within them."""
        few = sum(node.owner in self.untried for node in path.nodes)
        return keeps(path, self.shares) and (self.most_untried is None or few <= self.most_untried)


FREELY = Bounds(shares=Shares(hops=1.0))
DRAWS = 8
"""of a path by weight, for one that is within the bounds"""


def fitting_path(
    nodes: Sequence[Node],
    layers: int,
    wishes: Wishes,
    rng: np.random.Generator,
    bounds: Bounds = FREELY,
) -> Path:
    """The path of least weight among those that the wishes allow, or one drawn by weight where they are spread.

    Raises:
        NoPath: there is none over these nodes within the bounds.
        TooDear: there are, and the cheapest costs more than the wishes allow.
    """
    if wishes.spread and not wishes.prefer:
        path = _drawn(nodes, layers, wishes.market, rng, bounds)
    else:
        path = _preferred(nodes, layers, wishes, bounds)
    if _affordable(path, wishes):
        return path
    cheapest = replace(wishes.market, alpha=1.0, risk_weight=0.0)
    for market in (replace(cheapest, prompt_ratio=0.0), replace(cheapest, prompt_ratio=PROMPTS)):
        path = bounds.lightest(nodes, layers, market)
        if _affordable(path, wishes):
            return path
    raise TooDear(
        f"The cheapest path costs {round_price(path.price_wei)} HCT per million tokens and "
        f"{round_price(path.prompt_price_wei)} HCT per million of the prompt, more than the request allows."
    )


def _affordable(path: Path, wishes: Wishes) -> bool:
    return (wishes.max_price_wei is None or path.price_wei <= wishes.max_price_wei) and (
        wishes.max_prompt_price_wei is None or path.prompt_price_wei <= wishes.max_prompt_price_wei
    )


def _preferred(nodes: Sequence[Node], layers: int, wishes: Wishes, bounds: Bounds) -> Path:
    """As many layers as possible with who comes first, then with who comes next; weight decides the rest."""
    market = wishes.market
    if not wishes.prefer:
        return bounds.lightest(nodes, layers, market)
    rank = {peer: place for place, peer in enumerate(wishes.prefer)}
    weighed = [
        replace(
            node,
            risk=market.risk_weight * node.risk
            + STEP * rank.get(node.id, len(rank)) * (node.stop - node.start),
        )
        for node in nodes
    ]
    chosen = bounds.lightest(weighed, layers, replace(market, risk_weight=1.0))
    by_id = {node.id: node for node in nodes}
    return bounds.path_of([by_id[peer] for peer in chosen.ids], market)


def _drawn(
    nodes: Sequence[Node],
    layers: int,
    market: MarketParameters,
    rng: np.random.Generator,
    bounds: Bounds,
) -> Path:
    table = AdvertTable.of(nodes, layers)
    inside = replace(market, outside_weight=math.inf)
    by_id = {node.id: node for node in nodes}
    if bounds.delays is None:
        drawn: Iterable[Sequence[int]] = sample_paths(table, inside, DRAWS, rng)
    else:
        links = bounds.delays([by_id[peer] for peer in table.ids])
        drawn = (sample_linked_path(table, inside, links, rng) for _ in range(DRAWS))
    for rows in drawn:
        path = bounds.path_of([by_id[table.ids[row]] for row in rows if row >= 0], market)
        if bounds.hold(path):
            return path
    return bounds.lightest(nodes, layers, market)


def travels(advert: Advert, wishes: Wishes) -> bool:
    """Whether a provider takes rows as they are wished to travel."""
    return (wishes.wire_dtype or WireDtype.F32).name.lower() in advert.wire_dtypes
