from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.market.economics.demand import Segment, mixed_demand, uniform_demand
from hypercluster.market.economics.gibbs import marginals
from hypercluster.market.economics.graph import MAX_PRICE_WEI, AdvertTable, Floats, Node
from hypercluster.market.economics.parameters import BadParameters, MarketParameters
from hypercluster.market.economics.pricing import RevenueCurve, ascend, best_response, log_odds, price_step
from tests.market.economics.brute import P_REF, markets, networks

odds = st.floats(-30, 60)
alphas = st.floats(0.05, 1.0)


def curve_of(log_odd: float, alpha: float = 0.5, temperature: float = 1.0) -> RevenueCurve:
    market = MarketParameters(alpha=alpha, temperature=temperature)
    return RevenueCurve.of(np.array([log_odd]), uniform_demand(market), market)


def probability(nodes: list[Node], i: int, price_wei: int, market: MarketParameters) -> float:
    priced = [replace(node, price_wei=price_wei) if j == i else node for j, node in enumerate(nodes)]
    return float(marginals(AdvertTable.of(priced, 4), market).probability[i])


@given(networks(), markets, st.data())
def test_one_number_holds_all_that_the_network_does_to_a_price(
    nodes: list[Node], market: MarketParameters, data: st.DataObject
) -> None:
    i = data.draw(st.integers(0, len(nodes) - 1))
    table = AdvertTable.of(nodes, 4)
    curve = RevenueCurve.of(
        log_odds(table, np.array([i]), market, uniform_demand(market)), uniform_demand(market), market
    )
    for price in (0.0, 0.4, 3.0):
        wanted = probability(nodes, i, round(price * P_REF), market)
        prompt = nodes[i].prompt_price_wei / P_REF
        assert curve.marginal(np.array([price]), prompt)[0] == pytest.approx(wanted, abs=1e-10)


@given(networks(), markets.filter(lambda market: market.prompt_ratio == 0), st.data())
def test_the_gradient_matches_central_differences_on_any_dag(
    nodes: list[Node], market: MarketParameters, data: st.DataObject
) -> None:
    i = data.draw(st.integers(0, len(nodes) - 1))
    price, h = nodes[i].price_wei + P_REF, P_REF // 10**5
    revenue = [(price + d) / P_REF * probability(nodes, i, price + d, market) for d in (-h, h)]
    table = AdvertTable.of(nodes, 4)
    curve = RevenueCurve.of(
        log_odds(table, np.array([i]), market, uniform_demand(market))[0], uniform_demand(market), market
    )
    found = float(curve.gradient(price / P_REF))
    assert found == pytest.approx((revenue[1] - revenue[0]) / (2 * h / P_REF), abs=1e-7)


def test_the_gradient_is_the_papers_for_equal_ranges() -> None:
    market = MarketParameters(alpha=0.5, p_ref=P_REF, c_ref=1.0, temperature=1.0, outside_weight=math.inf)
    nodes = [Node(f"n{i}", 0, 1, p * P_REF, c) for i, (p, c) in enumerate([(1, 2.0), (2, 1.0), (3, 0.5)])]
    weights = [0.5 * n.price_wei / P_REF + 0.5 * n.cost_ms for n in nodes]
    share = math.exp(-weights[1]) / sum(math.exp(-w) for w in weights)
    step = price_step(nodes[1], nodes, layers=1, market=market)
    assert step.marginal == pytest.approx(share)
    assert step.gradient == pytest.approx(share * (1 + 0.5 * 2 * (share - 1)))
    assert step.revenue_wei == pytest.approx(2 * share * P_REF, abs=1)


@given(odds, alphas, st.floats(0.2, 3.0))
def test_the_closed_form_is_where_the_gradient_vanishes(
    log_odd: float, alpha: float, temperature: float
) -> None:
    curve = curve_of(log_odd, alpha, temperature)
    best = float(best_response(curve))
    x = best * alpha / temperature
    assert x * (1 - float(curve.marginal(best))) == pytest.approx(1, abs=1e-9)
    top = float(curve.revenue(best))
    assert all(
        float(curve.revenue(best * f)) <= top * (1 + 1e-12) for f in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0)
    )


@given(odds, alphas, st.floats(1e-6, 1e3))
def test_the_ascent_ends_at_the_closed_form_from_either_side_without_oscillating(
    log_odd: float, alpha: float, start: float
) -> None:
    curve = curve_of(log_odd, alpha)
    best, price = float(best_response(curve)), start
    for _ in range(400):
        new = float(ascend(curve, price))
        assert (new - price) * (best - price) >= -1e-9 * best**2
        assert (best - price) * (best - new) >= -1e-9 * best**2
        price = new
    assert price == pytest.approx(best, rel=1e-6)


@given(st.lists(odds, min_size=1, max_size=20), alphas, st.data())
def test_many_nodes_at_once_move_as_each_would_alone(
    log_odd: list[float], alpha: float, data: st.DataObject
) -> None:
    market = MarketParameters(alpha=alpha)
    together = RevenueCurve.of(np.array(log_odd)[:, None], uniform_demand(market), market)
    prices: Floats = np.array(
        data.draw(st.lists(st.floats(0.01, 50), min_size=len(log_odd), max_size=len(log_odd)))
    )
    alone = [
        float(ascend(curve_of(value, alpha), price)) for value, price in zip(log_odd, prices, strict=True)
    ]
    assert ascend(together, prices) == pytest.approx(alone)
    assert best_response(together) == pytest.approx(
        [float(best_response(curve_of(v, alpha))) for v in log_odd]
    )


@settings(max_examples=50)
@given(st.lists(st.floats(-10, 15), min_size=3, max_size=3))
def test_over_mixed_alphas_no_price_earns_more_than_the_best_response(log_odd: float) -> None:
    market = MarketParameters()
    demand = mixed_demand(0.4, 4.0, points=3)
    curve = RevenueCurve.of(np.array(log_odd), demand, market)
    best = float(best_response(curve))
    grid = np.geomspace(1e-3, 1e4, 4000)
    every = RevenueCurve.of(np.broadcast_to(np.array(log_odd), (4000, 3)), demand, market).revenue(grid)
    assert float(curve.revenue(best)) >= every.max() * (1 - 1e-9)


@given(networks(), markets, st.integers(2, 9))
def test_scaling_prices_and_reference_scales_the_step(
    nodes: list[Node], market: MarketParameters, factor: int
) -> None:
    def times(node: Node) -> Node:
        return replace(
            node, price_wei=node.price_wei * factor, prompt_price_wei=node.prompt_price_wei * factor
        )

    before = price_step(nodes[0], nodes, layers=4, market=market, ceiling_wei=10**14)
    after = price_step(
        times(nodes[0]),
        [times(node) for node in nodes],
        layers=4,
        market=replace(market, p_ref=market.p_ref * factor),
        ceiling_wei=10**14 * factor,
    )
    assert after.marginal == pytest.approx(before.marginal, abs=1e-12)
    assert after.gradient == pytest.approx(before.gradient, abs=1e-9)
    assert after.next_price_wei == pytest.approx(before.next_price_wei * factor, rel=1e-9, abs=factor)


def test_a_monopolist_is_held_by_the_outside_option_or_else_by_the_ceiling() -> None:
    own = Node("own", 0, 2, P_REF, 10.0)
    lone = MarketParameters(p_ref=P_REF, outside_weight=math.inf)
    step = price_step(own, [], layers=2, market=lone, ceiling_wei=50 * P_REF)
    assert step.best_response_wei == 50 * P_REF
    assert step.marginal == 1
    for _ in range(20):
        own = replace(
            own, price_wei=price_step(own, [], layers=2, market=lone, ceiling_wei=50 * P_REF).next_price_wei
        )
    assert own.price_wei == 50 * P_REF
    held = price_step(own, [], layers=2, market=replace(lone, outside_weight=10.0), ceiling_wei=50 * P_REF)
    x = 0.5 * held.best_response_wei / P_REF
    assert x - 1 == pytest.approx(math.exp(10 - 0.5 - x))
    assert held.next_price_wei < own.price_wei


def test_floor_and_ceiling_hold_and_are_named() -> None:
    own = Node("own", 0, 1, 5 * P_REF, 10.0)
    rivals = [Node(f"r{i}", 0, 1, P_REF // 10, 1.0) for i in range(5)]
    market = MarketParameters(p_ref=P_REF)
    low = price_step(own, rivals, layers=1, market=market, floor_wei=4 * P_REF)
    assert (low.next_price_wei, low.bound) == (4 * P_REF, "floor")
    high = price_step(replace(own, price_wei=10**6), rivals, layers=1, market=market, ceiling_wei=2 * 10**6)
    assert (high.next_price_wei, high.bound) == (2 * 10**6, "ceiling")


def test_o4_a_price_at_most_doubles_or_halves_in_one_update() -> None:
    """O4: what the documentation says of a step, from prices far below and far above the best one, and from nothing."""
    rival = Node("rival", 0, 1, 40 * P_REF, 10.0)
    market = MarketParameters(p_ref=P_REF)
    for start in (P_REF, 10**6, 400 * P_REF):
        own, seen = Node("own", 0, 1, start, 10.0, prompt_price_wei=start // 4), []
        for _ in range(60):
            step = price_step(own, [rival], layers=1, market=market)
            seen.append(step.next_price_wei / step.price_wei)
            assert step.next_prompt_price_wei <= 2 * max(step.prompt_price_wei, P_REF // 100)
            own = replace(own, price_wei=step.next_price_wei, prompt_price_wei=step.next_prompt_price_wei)
        least = P_REF / 100 / start
        assert 0.5 <= min(seen) <= max(seen) <= max(2, least)
        assert own.price_wei == pytest.approx(step.best_response_wei, rel=1e-3)
    free = price_step(Node("own", 0, 1, 0, 10.0), [rival], layers=1, market=market)
    assert 0 < free.next_price_wei <= P_REF // 100


def test_a_node_on_no_path_keeps_its_price() -> None:
    own = Node("own", 0, 1, P_REF, 10.0)
    step = price_step(own, [own], layers=2, market=MarketParameters(p_ref=P_REF))
    assert (step.marginal, step.gradient, step.next_price_wei) == (0.0, 0.0, P_REF)


def test_the_own_advert_in_the_book_is_replaced_not_counted_as_a_rival() -> None:
    own = Node("own", 0, 1, 2 * P_REF, 10.0)
    rival = Node("rival", 0, 1, P_REF, 10.0)
    market = MarketParameters(p_ref=P_REF)
    stale = replace(own, price_wei=9 * P_REF)
    assert price_step(own, [stale, rival], layers=1, market=market) == price_step(
        own, [rival], layers=1, market=market
    )
    assert price_step(own, [stale, rival], layers=1, market=market).rivals == 1


@given(st.floats(0.0, 1.0), st.integers(0, 4))
def test_the_best_price_is_that_of_what_prompt_tokens_bring_on_average(held: float, tenths: int) -> None:
    market = MarketParameters(p_ref=P_REF, prompt_ratio=3.0)
    own = Node("own", 0, 1, P_REF, 10.0, prompt_price_wei=P_REF, cached_price_wei=tenths * P_REF // 10)
    rival = Node("rival", 0, 1, P_REF, 10.0, prompt_price_wei=P_REF // 2)
    plain = replace(own, prompt_price_wei=round(own.prompt_wei(held)), cached_price_wei=0)
    # Of the rival nothing is held for less.
    rivals = [replace(rival, cached_price_wei=rival.prompt_price_wei)], [rival]
    seen = price_step(own, rivals[0], layers=1, market=replace(market, held=held))
    alike = price_step(plain, rivals[1], layers=1, market=market)
    assert seen.next_price_wei == pytest.approx(alike.next_price_wei, rel=1e-9, abs=2)
    assert seen.best_response_wei == pytest.approx(alike.best_response_wei, rel=1e-9, abs=2)
    assert seen.revenue_wei == pytest.approx(alike.revenue_wei, rel=1e-9, abs=2)


def test_prompt_and_generated_tokens_find_their_own_prices() -> None:
    market = MarketParameters(p_ref=P_REF)
    demand = (Segment(0.5, 0.5, 0.2), Segment(0.5, 0.5, 4.0))
    own = Node("own", 0, 1, P_REF, 10.0, prompt_price_wei=P_REF)
    rival = Node("rival", 0, 1, P_REF, 10.0, prompt_price_wei=P_REF // 8)
    for _ in range(300):
        step = price_step(own, [rival], layers=1, market=market, demand=demand)
        own = replace(own, price_wei=step.next_price_wei, prompt_price_wei=step.next_prompt_price_wei)
    table = AdvertTable.of([rival, own], 1)
    curve = RevenueCurve.of(log_odds(table, np.array([1]), market, demand)[0], demand, market)
    at = own.price_wei / P_REF, own.prompt_price_wei / P_REF
    assert float(curve.gradient(*at)) == pytest.approx(0, abs=1e-6)
    assert float(curve.gradient(*at, side="prompt")) == pytest.approx(0, abs=1e-6)
    assert own.prompt_price_wei < own.price_wei
    top = float(curve.revenue(*at))
    for price, prompt in [(0.9, 1), (1.1, 1), (1, 0.9), (1, 1.1), (1.1, 0.9), (0.9, 1.1)]:
        assert float(curve.revenue(at[0] * price, at[1] * prompt)) < top


def test_the_second_derivative_matches_differences() -> None:
    demand = (Segment(0.3, 0.3, 0.5), Segment(0.7, 0.8, 2.0))
    curve = RevenueCurve.of(np.array([2.0, 1.0]), demand, MarketParameters())
    for side in ("generated", "prompt"):
        h = 1e-5
        lifted = [(1.5 + d, 0.4) if side == "generated" else (1.5, 0.4 + d) for d in (-h, h)]
        low, high = (float(curve.gradient(*pair, side=side)) for pair in lifted)
        log_scale, _, bend = curve.derivatives(1.5, 0.4, side)
        assert float(np.exp(log_scale) * bend) == pytest.approx((high - low) / (2 * h), rel=1e-6)


@pytest.mark.parametrize(
    "demand", [(), (Segment(0.5, 0.5),), (Segment(1.0, 1.5),), (Segment(1.5, 0.5), Segment(-0.5, 0.5))]
)
def test_demand_must_be_a_distribution(demand: tuple[Segment, ...]) -> None:
    with pytest.raises(BadParameters):
        price_step(Node("a", 0, 1, 1, 1.0), [], layers=1, market=MarketParameters(), demand=demand)


def test_mixed_demand_has_the_mean_asked_for() -> None:
    demand = mixed_demand(0.3, 6.0, points=50)
    assert sum(segment.share for segment in demand) == pytest.approx(1)
    assert sum(segment.share * segment.alpha for segment in demand) == pytest.approx(0.3, abs=0.005)
    assert MAX_PRICE_WEI * 1024 < 2**63
