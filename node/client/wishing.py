"""The path that fits what a request wishes for: whom it prefers, and what it may cost."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hypercluster.market.economics.gibbs import sample_paths
from hypercluster.market.economics.graph import AdvertTable, Node
from hypercluster.market.economics.routing import Path, best_path, path_of
from hypercluster.market.money.units import round_price
from hypercluster.node.client.request import BadRequest

if TYPE_CHECKING:
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.node.client.request import Wishes

STEP = 1e6
"""weight of a layer that is served by one who comes later in the order of preference"""
PROMPTS = 1e6
"""prompt tokens per generated one where only the price of prompts counts"""


class TooDear(BadRequest):
    """There are paths, and all of them cost more than the request allows."""


def fitting_path(
    nodes: Sequence[Node], layers: int, wishes: Wishes, exclude: Collection[str], rng: np.random.Generator
) -> Path:
    """The path of least weight among those that the wishes allow, or one drawn by weight where they are spread.

    Raises:
        NoPath: there is none over these nodes.
        TooDear: there are, and the cheapest costs more than the wishes allow.
    """
    if wishes.spread and not wishes.prefer:
        path = _drawn(nodes, layers, wishes.market, exclude, rng)
    else:
        path = _preferred(nodes, layers, wishes, exclude)
    if _affordable(path, wishes):
        return path
    cheapest = replace(wishes.market, alpha=1.0, risk_weight=0.0)
    for market in (replace(cheapest, prompt_ratio=0.0), replace(cheapest, prompt_ratio=PROMPTS)):
        path = best_path(nodes, layers=layers, market=market, exclude=exclude)
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


def _preferred(nodes: Sequence[Node], layers: int, wishes: Wishes, left_out: Collection[str]) -> Path:
    """As many layers as possible with who comes first, then with who comes next; weight decides the rest."""
    market = wishes.market
    if not wishes.prefer:
        return best_path(nodes, layers=layers, market=market, exclude=left_out)
    rank = {peer: place for place, peer in enumerate(wishes.prefer)}
    weighed = [
        replace(
            node,
            risk=market.risk_weight * node.risk
            + STEP * rank.get(node.id, len(rank)) * (node.stop - node.start),
        )
        for node in nodes
    ]
    chosen = best_path(weighed, layers=layers, market=replace(market, risk_weight=1.0), exclude=left_out)
    by_id = {node.id: node for node in nodes}
    return path_of([by_id[peer] for peer in chosen.ids], market)


def _drawn(
    nodes: Sequence[Node],
    layers: int,
    market: MarketParameters,
    left_out: Collection[str],
    rng: np.random.Generator,
) -> Path:
    table = AdvertTable.of(nodes, layers, left_out)
    inside = replace(market, outside_weight=math.inf)
    rows = sample_paths(table, inside, 1, rng)[0]
    by_id = {node.id: node for node in nodes}
    return path_of([by_id[table.ids[row]] for row in rows if row >= 0], market)
