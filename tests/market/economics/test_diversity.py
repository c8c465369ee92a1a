"""No operator has more of a path than its share wherever there is another path, and what is taken is the lightest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.diversity import diverse_path, keeps
from hypercluster.market.economics.graph import Node, NoPath
from hypercluster.market.economics.parameters import BadParameters, MarketParameters
from hypercluster.market.economics.routing import best_path, path_of
from hypercluster.market.economics.shares import Shares
from tests.market.economics.brute import P_REF, all_paths, markets, networks, weight

OPERATORS = st.sampled_from(["", "A", "B", "C"])
SHARES = st.sampled_from([0.1, 0.34, 0.5, 0.67, 1.0])


@st.composite
def owned(draw: st.DrawFn) -> list[Node]:
    return [replace(node, operator=draw(OPERATORS)) for node in draw(networks(most=10))]


def allowed(nodes: list[Node], path: list[int], share: float, untried: set[str], most: int | None) -> bool:
    owners = [nodes[row].operator or nodes[row].id for row in path]
    if most is not None and sum(owner in untried for owner in owners) > most:
        return False
    return max(Counter(owners).values()) <= max(1, int(share * len(owners) + 1e-9))


@given(owned(), markets, SHARES, st.sets(st.sampled_from("ABC")), st.sampled_from([None, 0, 1, 2]))
def test_the_share_is_never_exceeded_where_another_path_exists(
    nodes: list[Node], market: MarketParameters, share: float, untried: set[str], most: int | None
) -> None:
    fitting = [path for path in all_paths(nodes) if allowed(nodes, path, share, untried, most)]

    def find() -> list[Node]:
        path = diverse_path(
            nodes, layers=4, market=market, shares=Shares(hops=share), untried=untried, most_untried=most
        )
        return list(path.nodes)

    if not fitting:
        with pytest.raises(NoPath):
            find()
        return
    found = find()
    rows = [nodes.index(node) for node in found]
    assert rows in fitting
    lightest = min(path_of([nodes[row] for row in path], market).weight for path in fitting)
    assert path_of(found, market).weight == pytest.approx(lightest, abs=1e-9)


@given(owned(), markets, SHARES, st.integers(0, 2**32 - 1))
def test_with_links_between_nodes_the_lightest_that_keeps_the_share_is_found_as_well(
    nodes: list[Node], market: MarketParameters, share: float, seed: int
) -> None:
    links = np.random.default_rng(seed).integers(0, 30, (len(nodes), len(nodes))).astype(float)
    fitting = [path for path in all_paths(nodes) if allowed(nodes, path, share, set(), None)]
    if not fitting:
        return
    shares = Shares(hops=share)
    found = diverse_path(nodes, layers=4, market=market, shares=shares, latency=links)
    lightest = min(weight(nodes, path, market, links) for path in fitting)
    assert [nodes.index(node) for node in found.nodes] in fitting
    assert found.weight == pytest.approx(lightest, abs=1e-9)


@given(owned(), markets)
def test_a_share_that_does_not_bind_leaves_the_path_as_it_is(
    nodes: list[Node], market: MarketParameters
) -> None:
    best = best_path(nodes, layers=4, market=market)
    assert diverse_path(nodes, layers=4, market=market, shares=Shares(hops=1.0)) == best
    if keeps(best, Shares(hops=0.5)):
        assert diverse_path(nodes, layers=4, market=market, shares=Shares(hops=0.5)) == best


def test_one_stake_with_a_key_for_every_range_gets_one_hop_of_two() -> None:
    """A hundred and twenty cheap keys of one operator beside two dear nodes of others: half a path is the most."""
    layers = 16
    cheap = [
        Node(f"s{a}.{b}", a, b, 1, 0.0, operator="sybil")
        for a in range(layers)
        for b in range(a + 1, layers + 1)
    ]
    honest = [
        Node("head", 0, 8, P_REF, 10.0, operator="one"),
        Node("tail", 8, 16, P_REF, 10.0, operator="two"),
    ]
    unit = MarketParameters(p_ref=P_REF)
    wide = [node for node in cheap if not (node.start == 0 and node.stop == layers)]
    path = diverse_path([*wide, *honest], layers=layers, market=unit, shares=Shares(hops=0.5))
    counts = Counter(node.owner for node in path.nodes)
    assert counts["sybil"] == 1
    assert len(path.nodes) == 2


@pytest.mark.parametrize(
    "wrong", [{"hops": 0.0}, {"hops": 1.1}, {"requests": 0}, {"trials": -0.1}, {"trials": 2}]
)
def test_a_share_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadParameters, match="can be"):
        Shares(**wrong)


def test_of_few_requests_nobody_counts_shares() -> None:
    shares = Shares(requests=0.75)
    assert [shares.most_requests(n) for n in (1, 8, 12, 64)] == [8, 8, 9, 48]
    assert shares.most_hops(1) == shares.most_hops(3) == 1
    assert shares.most_hops(4) == 2
