from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.graph import AdvertTable, BadNode, Node, NoPath, crowding, link_matrix
from hypercluster.market.economics.parameters import BadParameters, MarketParameters
from hypercluster.market.economics.routing import best_path, path_of, rivals
from hypercluster.market.trust.reputation import Evidence, Reputation
from tests.market.economics.brute import P_REF, all_paths, markets, networks, weight

UNIT = MarketParameters(p_ref=P_REF)


@given(networks(), markets)
def test_best_path_is_the_lightest_of_all_paths(nodes: list[Node], market: MarketParameters) -> None:
    lightest = min(weight(nodes, path, market) for path in all_paths(nodes))
    found = best_path(nodes, layers=4, market=market)
    assert found.weight == pytest.approx(lightest, abs=1e-12)
    assert [found.nodes[0].start, *(node.stop for node in found.nodes)] == [
        0,
        *(node.start for node in found.nodes[1:]),
        4,
    ]
    assert found.price_wei == sum(node.price_wei for node in found.nodes)


@given(networks(), markets, st.integers(0, 2**32 - 1))
def test_links_between_nodes_count(nodes: list[Node], market: MarketParameters, seed: int) -> None:
    links = np.random.default_rng(seed).integers(0, 30, (len(nodes), len(nodes))).astype(float)
    lightest = min(weight(nodes, path, market, links) for path in all_paths(nodes))
    assert best_path(nodes, layers=4, market=market, latency=links).weight == pytest.approx(
        lightest, abs=1e-12
    )


@given(networks(), markets)
def test_unknown_links_are_relayed_by_the_client(nodes: list[Node], market: MarketParameters) -> None:
    relayed = best_path(nodes, layers=4, market=market)
    linked = best_path(nodes, layers=4, market=market, latency=link_matrix(nodes, {}))
    assert linked.weight == pytest.approx(relayed.weight, abs=1e-12)


def test_a_direct_link_wins_over_a_cheaper_node() -> None:
    nodes = [
        Node("a", 0, 1, P_REF, 5, 20),
        Node("near", 1, 2, 2 * P_REF, 5, 20),
        Node("far", 1, 2, P_REF, 5, 20),
    ]
    links = link_matrix(nodes, {("a", "near"): 1.0})
    assert best_path(nodes, layers=2, market=UNIT, latency=links).ids == ["a", "near"]
    assert best_path(nodes, layers=2, market=UNIT).ids == ["a", "far"]


@given(networks(connected=False), markets)
def test_no_path_names_the_first_layer_nobody_serves(nodes: list[Node], market: MarketParameters) -> None:
    if all_paths(nodes):
        assert best_path(nodes, layers=4, market=market)
        return
    with pytest.raises(NoPath) as caught:
        best_path(nodes, layers=4, market=market)
    unserved = [layer for layer in range(4) if not any(n.start <= layer < n.stop for n in nodes)]
    if unserved:
        assert caught.value.layer == unserved[0]
    else:
        assert "chains end" in str(caught.value)


def test_no_path_sentences() -> None:
    with pytest.raises(NoPath, match="nobody serves layer 2"):
        best_path([Node("a", 0, 2, 0, 1.0), Node("b", 3, 4, 0, 1.0)], layers=4, market=UNIT)
    with pytest.raises(NoPath, match="chains end at layer 2 and no node starts there"):
        best_path([Node("a", 0, 2, 0, 1.0), Node("b", 1, 4, 0, 1.0)], layers=4, market=UNIT)
    with pytest.raises(NoPath, match="nobody serves layer 0"):
        best_path([], layers=4, market=UNIT)


@given(networks(), markets, st.integers(2, 7))
def test_scaling_prices_and_their_reference_changes_nothing(
    nodes: list[Node], market: MarketParameters, factor: int
) -> None:
    scaled = [
        replace(n, price_wei=n.price_wei * factor, prompt_price_wei=n.prompt_price_wei * factor)
        for n in nodes
    ]
    before = best_path(nodes, layers=4, market=market)
    after = best_path(scaled, layers=4, market=replace(market, p_ref=market.p_ref * factor))
    assert after.weight == pytest.approx(before.weight, abs=1e-12)


@given(networks(), markets, st.data())
def test_a_dominated_node_never_lowers_the_weight(
    nodes: list[Node], market: MarketParameters, data: st.DataObject
) -> None:
    model = data.draw(st.sampled_from(nodes))
    worse = replace(model, id="worse", price_wei=model.price_wei + 1, cost_ms=model.cost_ms + 1)
    before = best_path(nodes, layers=4, market=market).weight
    assert best_path([worse, *nodes], layers=4, market=market).weight == pytest.approx(before, abs=1e-12)


@given(networks(), markets)
def test_rivals_are_weighed_by_the_best_path_through_them(
    nodes: list[Node], market: MarketParameters
) -> None:
    chosen = set(best_path(nodes, layers=4, market=market).ids)
    paths = all_paths(nodes)
    through = {
        f"n{i}": min((weight(nodes, path, market) for path in paths if i in path), default=None)
        for i in range(len(nodes))
    }
    found = rivals(nodes, layers=4, market=market)
    assert {rival.node.id for rival in found} == {k for k, w in through.items() if w is not None} - chosen
    for rival in found:
        assert rival.weight == pytest.approx(through[rival.node.id], abs=1e-12)
        assert rival.excess >= 0


@given(networks(), markets, st.floats(0, 1))
def test_what_parked_sessions_hold_counts_at_its_own_price(
    nodes: list[Node], market: MarketParameters, held: float
) -> None:
    seen = replace(market, prompt_ratio=4.0, held=held)
    lightest = min(weight(nodes, path, seen) for path in all_paths(nodes))
    assert best_path(nodes, layers=4, market=seen).weight == pytest.approx(lightest, abs=1e-9)
    cheap = Node("held cheaply", 0, 2, P_REF, 1.0, prompt_price_wei=P_REF, cached_price_wei=P_REF // 20)
    dear = Node("held dearly", 0, 2, P_REF, 1.0, prompt_price_wei=P_REF // 2, cached_price_wei=P_REF // 2)
    for share, taken in ((0.0, "held dearly"), (0.9, "held cheaply")):
        seen = replace(UNIT, prompt_ratio=4.0, held=share)
        assert best_path([cheap, dear], layers=2, market=seen).ids == [taken]


@given(networks(), markets, st.integers(0, 2**32 - 1))
def test_with_links_rivals_are_weighed_by_the_best_path_through_them_as_well(
    nodes: list[Node], market: MarketParameters, seed: int
) -> None:
    links = np.random.default_rng(seed).integers(0, 30, (len(nodes), len(nodes))).astype(float)
    best = best_path(nodes, layers=4, market=market, latency=links)
    paths = all_paths(nodes)
    through = {
        f"n{i}": min((weight(nodes, path, market, links) for path in paths if i in path), default=None)
        for i in range(len(nodes))
    }
    found = rivals(nodes, layers=4, market=market, latency=links)
    assert {rival.node.id for rival in found} == {k for k, w in through.items() if w is not None} - {
        *best.ids
    }
    for rival in found:
        assert rival.weight == pytest.approx(through[rival.node.id], abs=1e-9)
        assert rival.excess == pytest.approx(rival.weight - best.weight, abs=1e-9)


def test_excluded_nodes_are_left_out() -> None:
    nodes = [Node("a", 0, 2, 0, 1.0), Node("b", 0, 2, P_REF, 1.0)]
    assert best_path(nodes, layers=2, market=UNIT, exclude={"a"}).ids == ["b"]


def test_silly_adverts_do_not_stop_the_others() -> None:
    sane = Node("sane", 0, 2, P_REF, 1.0)
    silly = [
        Node("dear", 0, 2, 2**96 - 1, 1.0),
        Node("prompt", 0, 2, 0, 1.0, prompt_price_wei=2**96 - 1),
        Node("long", 0, 4096, 0, 1.0),
    ]
    assert best_path([*silly, sane], layers=2, market=UNIT).ids == ["sane"]
    assert best_path([*silly, sane], layers=2, market=UNIT, latency=np.zeros((4, 4))).ids == ["sane"]
    assert rivals([*silly, sane], layers=2, market=UNIT) == []


def test_a_crowded_node_is_weighed_down_before_it_is_full() -> None:
    queue = crowding([8, 8, 8, 8, 0], [8, 4, 1, 0, 0])
    assert queue[0] == 0
    assert queue[4] == 0
    assert (np.diff(queue[:4]) > 0).all()
    assert queue[3] == pytest.approx(8)
    busy = Node("busy", 0, 1, 0, 10.0, capacity=4, free=0)
    idle = Node("idle", 0, 1, P_REF, 10.0, capacity=4, free=4)
    assert best_path([busy, idle], layers=1, market=UNIT).ids == ["idle"]
    slow = Node("slow", 0, 1, 0, 10.0, wait_ms=50)
    assert best_path([slow, idle], layers=1, market=UNIT).ids == ["idle"]


@given(networks(), markets)
def test_without_risk_nothing_depends_on_its_weight(nodes: list[Node], market: MarketParameters) -> None:
    """Bit for bit, against the formulas from before there was a risk."""
    sure = [replace(node, risk=0.0) for node in nodes]
    table = AdvertTable.of(sure, 4)
    plain = table.price_wei * (market.alpha / market.p_ref)
    if market.prompt_ratio:
        plain += table.prompt_price_wei * (market.alpha * market.prompt_ratio / market.p_ref)
    plain = plain + table.total_ms * ((1.0 - market.alpha) / market.c_ref)
    assert np.array_equal(table.weights(market), plain)
    path = best_path(sure, layers=4, market=market)
    assert path == best_path(sure, layers=4, market=replace(market, risk_weight=0.0))
    assert path.risk == 0
    asked = path.price_wei + market.prompt_ratio * path.prompt_price_wei
    assert path.weight == market.alpha * asked / market.p_ref + (1.0 - market.alpha) * path.ms / market.c_ref


@given(networks(), markets, st.data())
def test_a_riskier_node_makes_its_paths_heavier_by_just_that(
    nodes: list[Node], market: MarketParameters, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(nodes) - 1))
    riskier = [replace(node, risk=node.risk + 1.5 * (i == row)) for i, node in enumerate(nodes)]
    for path in all_paths(nodes):
        added = path_of([riskier[i] for i in path], market).weight - weight(nodes, path, market)
        assert added == pytest.approx(1.5 * market.risk_weight * (row in path), abs=1e-12)
    assert (
        best_path(riskier, layers=4, market=market).weight
        >= best_path(nodes, layers=4, market=market).weight - 1e-12
    )


@given(networks())
def test_with_nothing_else_at_stake_the_path_is_the_one_most_likely_to_be_honest(nodes: list[Node]) -> None:
    alike = [replace(node, price_wei=0, prompt_price_wei=0, cost_ms=0.0, latency_ms=0.0) for node in nodes]
    found = best_path(alike, layers=4, market=UNIT)
    honest = max(math.prod(math.exp(-nodes[i].risk) for i in path) for path in all_paths(nodes))
    assert math.exp(-found.risk) == pytest.approx(honest)


def test_what_a_distrusted_provider_saves_has_to_be_worth_its_risk() -> None:
    honest, caught = Reputation(good=10.0), Reputation.of({Evidence.LIE: 1.0}, {})
    sure = Node("sure", 0, 1, 3 * P_REF, 1.0, risk=honest.risk)
    cheat = Node("cheat", 0, 1, 0, 1.0, risk=caught.risk)
    assert best_path([cheat, sure], layers=1, market=UNIT).ids == ["sure"]
    links = np.zeros((2, 2))
    assert best_path([cheat, sure], layers=1, market=UNIT, latency=links).ids == ["sure"]
    careless = replace(UNIT, risk_weight=0.0)
    assert best_path([cheat, sure], layers=1, market=careless).ids == ["cheat"]


@given(networks(), networks(), st.data())
def test_tables_keep_each_risk_with_its_row(
    nodes: list[Node], others: list[Node], data: st.DataObject
) -> None:
    both = AdvertTable.of(nodes, 4).joined(AdvertTable.of(others, 4))
    assert both.risk.tolist() == [node.risk for node in (*nodes, *others)]
    kept = data.draw(st.lists(st.booleans(), min_size=len(both), max_size=len(both)))
    chosen = both.rows(np.array(kept))
    assert chosen.risk.tolist() == [r for r, keep in zip(both.risk.tolist(), kept, strict=True) if keep]


@pytest.mark.parametrize(
    "fields",
    [
        {"start": 2, "stop": 2},
        {"start": -1},
        {"price_wei": -1},
        {"prompt_price_wei": -1},
        {"cached_price_wei": -1},
        {"cost_ms": float("nan")},
        {"cost_ms": -1.0},
        {"latency_ms": float("inf")},
        {"capacity": 1, "free": 2},
        {"risk": -0.1},
        {"risk": float("inf")},
        {"risk": float("nan")},
    ],
)
def test_nodes_with_nonsense_are_refused(fields: dict[str, Any]) -> None:
    good = {"id": "a", "start": 0, "stop": 1, "price_wei": 1, "cost_ms": 1.0}
    with pytest.raises(BadNode, match="Node a"):
        Node(**{**good, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"alpha": 1.5},
        {"p_ref": 0},
        {"c_ref": 0.0},
        {"temperature": 0.0},
        {"outside_weight": float("nan")},
        {"risk_weight": -1.0},
        {"risk_weight": float("inf")},
        {"risk_weight": float("nan")},
    ],
)
def test_parameters_outside_their_domain_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadParameters, match=next(iter(fields))):
        MarketParameters(**fields)
