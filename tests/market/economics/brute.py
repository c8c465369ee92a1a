"""Small random layer graphs, and the answers found by listing every path."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
from hypothesis import strategies as st

from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.parameters import MarketParameters

P_REF = 10**12


@st.composite
def networks(draw: st.DrawFn, most: int = 8, layers: int = 4, connected: bool = True) -> list[Node]:
    """Nodes on up to ``layers`` layers; with ``connected`` at least one path exists."""
    ranges = [(a, b) for a in range(layers) for b in range(a + 1, layers + 1)]
    chosen = draw(st.lists(st.sampled_from(ranges), min_size=1, max_size=most))
    if connected:
        cut = draw(st.integers(1, layers - 1))
        chosen += [(0, cut), (cut, layers)]
    return [
        Node(
            id=f"n{i}",
            start=a,
            stop=b,
            price_wei=draw(st.integers(0, 5)) * P_REF // 2,
            cost_ms=draw(st.integers(0, 8)) * 2.5,
            latency_ms=float(draw(st.integers(0, 3))),
            prompt_price_wei=draw(st.integers(0, 3)) * P_REF // 4,
            cached_price_wei=draw(st.integers(0, 3)) * P_REF // 40,
            risk=draw(st.sampled_from([0.0, 0.0, 0.1, 0.7, 3.0])),
        )
        for i, (a, b) in enumerate(chosen)
    ]


markets = st.builds(
    MarketParameters,
    alpha=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    p_ref=st.just(P_REF),
    c_ref=st.just(10.0),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    outside_weight=st.sampled_from([1.0, 4.0, math.inf]),
    variety=st.sampled_from([1.0, 1.0, 0.5, 0.0]),
    prompt_ratio=st.sampled_from([0.0, 0.5]),
    risk_weight=st.sampled_from([0.0, 1.0, 2.5]),
)


def all_paths(nodes: list[Node], layers: int = 4) -> list[list[int]]:
    """Every chain of row numbers from layer 0 to ``layers``."""

    def grow(at: int) -> list[list[int]]:
        if at == layers:
            return [[]]
        return [[i, *rest] for i, node in enumerate(nodes) if node.start == at for rest in grow(node.stop)]

    return grow(0)


def weight(
    nodes: list[Node], path: list[int], market: MarketParameters, links: np.ndarray | None = None
) -> float:
    """Paper eq. 1 and the risks along a path, written out."""
    ms = sum(nodes[i].cost_ms + 2 * nodes[i].latency_ms for i in path)
    if links is not None:
        ms = sum(nodes[i].cost_ms for i in path) + nodes[path[0]].latency_ms + nodes[path[-1]].latency_ms
        ms += sum(links[i, j] for i, j in itertools.pairwise(path))
    price = sum(nodes[i].price_wei + market.prompt_ratio * prompt_wei(nodes[i], market.held) for i in path)
    risk = market.risk_weight * sum(nodes[i].risk for i in path)
    return market.alpha * price / market.p_ref + (1 - market.alpha) * ms / market.c_ref + risk


def prompt_wei(node: Node, held: float) -> float:
    """What a prompt token costs on average of which a share is held."""
    return (1 - held) * node.prompt_price_wei + held * node.cached_price_wei


def gibbs(
    nodes: list[Node], paths: list[list[int]], market: MarketParameters, links: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Probability of each path, and of the outside option."""
    crowd = Counter((node.start, node.stop) for node in nodes)
    terms = np.array(
        [
            math.exp(-weight(nodes, path, market, links) / market.temperature)
            / math.prod(crowd[nodes[i].start, nodes[i].stop] for i in path) ** (1 - market.variety)
            for path in paths
        ]
    )
    outside = math.exp(-market.outside_weight / market.temperature)
    return terms / (terms.sum() + outside), outside / (terms.sum() + outside)
