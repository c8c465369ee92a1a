from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.frontier import OutOfReach, frontier, pick
from hypercluster.market.economics.graph import Node, NoPath
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import best_path
from tests.market.economics.brute import P_REF, all_paths, markets, networks

UNIT = MarketParameters(p_ref=P_REF)
TRUSTING = MarketParameters(p_ref=P_REF, risk_weight=0.0)


def points(nodes: list[Node], links: np.ndarray | None = None) -> set[tuple[int, float]]:
    """Price and time of every path."""
    found = set()
    for path in all_paths(nodes):
        ms = sum(nodes[i].cost_ms + 2 * nodes[i].latency_ms for i in path)
        if links is not None:
            ms = sum(nodes[i].cost_ms for i in path) + nodes[path[0]].latency_ms + nodes[path[-1]].latency_ms
            ms += sum(links[i, j] for i, j in itertools.pairwise(path))
        found.add((sum(nodes[i].price_wei for i in path), ms))
    return found


def undominated(every: set[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted(p for p in every if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in every))


@given(networks(most=12))
def test_the_frontier_is_every_undominated_path(nodes: list[Node]) -> None:
    found = frontier(nodes, layers=4, market=UNIT)
    assert [(path.price_wei, path.ms) for path in found] == undominated(points(nodes))
    for path in found:
        assert (path.nodes[0].start, path.nodes[-1].stop) == (0, 4)


@given(networks(most=10), st.integers(0, 2**32 - 1))
def test_the_frontier_with_links_between_nodes(nodes: list[Node], seed: int) -> None:
    links = np.random.default_rng(seed).integers(0, 30, (len(nodes), len(nodes))).astype(float)
    found = frontier(nodes, layers=4, market=UNIT, latency=links)
    assert [(path.price_wei, path.ms) for path in found] == undominated(points(nodes, links))


@given(networks(most=12), st.sampled_from([0.01, 0.2, 1.0]))
def test_epsilon_keeps_its_bound(nodes: list[Node], epsilon: float) -> None:
    exact = frontier(nodes, layers=4, market=UNIT)
    rough = frontier(nodes, layers=4, market=UNIT, epsilon=epsilon)
    assert len(rough) <= len(exact)
    for path in exact:
        assert any(
            other.ms <= path.ms and other.price_wei <= (1 + epsilon) * path.price_wei for other in rough
        )


def test_points_off_the_convex_hull_are_found() -> None:
    nodes = [
        Node(name, 0, 1, price * P_REF, ms)
        for name, price, ms in [("a", 0, 10.0), ("b", 6, 6.0), ("c", 10, 0.0)]
    ]
    assert [path.ids for path in frontier(nodes, layers=1, market=UNIT)] == [["a"], ["b"], ["c"]]
    chosen = {best_path(nodes, layers=1, market=UNIT.with_alpha(a)).ids[0] for a in np.linspace(0, 1, 101)}
    assert chosen == {"a", "c"}


@given(networks(most=12), markets)
def test_without_limits_alpha_picks_as_in_the_paper(nodes: list[Node], market: MarketParameters) -> None:
    plain = TRUSTING.with_alpha(market.alpha)
    found = pick(frontier(nodes, layers=4, market=plain))
    assert found.weight == pytest.approx(best_path(nodes, layers=4, market=plain).weight, abs=1e-12)


@given(networks(most=12), st.integers(0, 12), st.integers(0, 60))
def test_limits_pick_the_best_path_within_them(nodes: list[Node], price: int, ms: float) -> None:
    within = [p for p in points(nodes) if p[0] <= price * P_REF and p[1] <= ms]
    paths = frontier(nodes, layers=4, market=TRUSTING)
    if not within:
        with pytest.raises(OutOfReach, match="cheapest costs"):
            pick(paths, price * P_REF, ms)
        return
    lightest = min(0.5 * p / P_REF + 0.5 * t / UNIT.c_ref for p, t in within)
    assert pick(paths, price * P_REF, ms).weight == pytest.approx(lightest, abs=1e-12)


def test_risk_is_no_axis_of_the_frontier_but_part_of_its_weights() -> None:
    nodes = [Node("sure", 0, 1, 2 * P_REF, 10.0), Node("risky", 0, 1, P_REF, 10.0, risk=4.0)]
    (path,) = frontier(nodes, layers=1, market=UNIT)
    assert path.ids == ["risky"]
    assert path.weight == pytest.approx(0.5 + 0.5 + 4.0)


def test_no_path_is_an_error() -> None:
    with pytest.raises(NoPath, match="layer 1"):
        frontier([Node("a", 0, 1, 0, 1.0)], layers=2, market=UNIT)
    with pytest.raises(NoPath, match="layer 1"):
        frontier([Node("a", 0, 1, 0, 1.0)], layers=2, market=UNIT, latency=np.zeros((1, 1)))
