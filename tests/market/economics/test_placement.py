from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.demand import mixed_demand
from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.placement import (
    Machine,
    ModelSize,
    NothingFits,
    Placement,
    advise,
    placements,
)
from hypercluster.market.economics.pricing import price_step
from tests.market.economics.brute import P_REF, networks

UNIT = MarketParameters(p_ref=P_REF)
SMALL = ModelSize([100] * 4, shared_bytes=10, first_bytes=50, last_bytes=60)


def test_ranges_must_fit_the_memory() -> None:
    fits = SMALL.fitting(210)
    assert [(a, b) for a in range(5) for b in range(5) if fits[a, b]] == [
        (0, 1), (1, 2), (1, 3), (2, 3), (3, 4),
    ]  # fmt: skip
    some = replace(SMALL, starts=(0, 1, 3)).fitting(1000)
    assert [(a, b) for a in range(5) for b in range(5) if some[a, b]] == [
        (0, 1), (0, 3), (0, 4), (1, 3), (1, 4), (3, 4),
    ]  # fmt: skip
    with pytest.raises(NothingFits, match="smallest needs 260 bytes"):
        placements(Machine(100, 1.0), replace(SMALL, starts=(0, 2)), [], market=UNIT)
    with pytest.raises(NothingFits, match="smallest needs 110 bytes"):
        placements(Machine(100, 1.0), SMALL, [], market=UNIT)


@given(networks(), st.sampled_from([1.0, 0.5, 0.0]), st.sampled_from([0.0, 0.5, 4.0]))
def test_each_range_earns_what_pricing_says_it_would(
    nodes: list[Node], variety: float, prompts: float
) -> None:
    market = replace(UNIT, variety=variety, prompt_ratio=prompts)
    ranked = placements(
        Machine(1000, 2.0, overhead_ms=1.0),
        SMALL,
        nodes,
        market=market,
        ceiling_wei=10**15,
        prompt_share=0.5,
    )
    assert len(ranked) == 10
    assert [p.revenue_wei for p in ranked] == sorted((p.revenue_wei for p in ranked), reverse=True)
    for place in ranked:
        own = Node(
            "own",
            place.start,
            place.stop,
            place.price_wei,
            place.cost_ms,
            prompt_price_wei=place.prompt_price_wei,
        )
        assert own.prompt_price_wei == pytest.approx(place.price_wei / 2, abs=1)
        step = price_step(own, nodes, layers=4, market=market, ceiling_wei=10**15)
        assert step.best_response_wei == pytest.approx(place.price_wei, rel=1e-9, abs=2 + prompts)
        assert step.revenue_wei == pytest.approx(place.revenue_wei, rel=1e-6, abs=2)
        assert step.marginal == pytest.approx(place.marginal, rel=1e-6, abs=1e-12)


def test_what_rivals_ask_for_prompts_decides_as_much_as_their_prices() -> None:
    """Two ranges whose rivals' answers cost the same; where prompts are dear there is more to earn."""
    cheap = replace(UNIT, alpha=1.0)
    rivals = [
        Node("plain", 0, 2, P_REF, 4.0, prompt_price_wei=P_REF // 10),
        Node("dear", 2, 4, P_REF, 4.0, prompt_price_wei=2 * P_REF),
    ]
    places = [
        {(each.start, each.stop): each for each in placements(Machine(400, 2.0), SMALL, rivals, market=seen)}
        for seen in (cheap, replace(cheap, prompt_ratio=3.0))
    ]
    answers, both = places
    assert answers[0, 2].revenue_wei == pytest.approx(answers[2, 4].revenue_wei)
    assert both[2, 4].revenue_wei > 1.5 * both[0, 2].revenue_wei


def test_clients_who_differ_in_their_prompts_are_all_counted() -> None:
    """At the price that is found the range earns what pricing says, and less at any near it."""
    demand = mixed_demand(0.6, 8.0, 3, prompt_ratios=(0.0, 6.0))
    rivals = [Node("left", 0, 2, P_REF, 4.0, prompt_price_wei=P_REF // 4), Node("right", 2, 4, P_REF, 3.0)]
    place = placements(Machine(1000, 2.0), SMALL, rivals, market=UNIT, demand=demand, prompt_share=0.5)[0]

    def earned(times: float) -> float:
        price = round(place.price_wei * times)
        own = Node("own", place.start, place.stop, price, place.cost_ms, prompt_price_wei=price // 2)
        return price_step(own, rivals, layers=4, market=UNIT, demand=demand, ceiling_wei=10**15).revenue_wei

    assert earned(1.0) == pytest.approx(place.revenue_wei, rel=1e-5, abs=3)
    assert all(earned(times) < place.revenue_wei for times in (0.8, 1.25))


def test_the_scarce_range_is_chosen() -> None:
    crowd = [Node(f"c{i}", 0, 2, P_REF, 4.0) for i in range(8)] + [Node("lone", 2, 4, P_REF, 4.0)]
    best = placements(Machine(400, 2.0), SMALL, crowd, market=UNIT)[0]
    assert (best.start, best.stop) == (2, 4)


def test_an_empty_network_is_started_where_nobody_serves() -> None:
    first = placements(Machine(280, 2.0), SMALL, [], market=UNIT)[0]
    assert (first.start, first.stop, first.revenue_wei, first.unserved) == (0, 2, 0.0, 2)
    other = Node("first", first.start, first.stop, P_REF, 4.0)
    second = placements(Machine(280, 2.0), SMALL, [other], market=UNIT)[0]
    assert (second.start, second.stop) == (2, 4)
    assert second.revenue_wei > 0


def test_the_own_advert_does_not_compete_with_itself() -> None:
    own = Node("own", 0, 4, P_REF, 4.0)
    alone = placements(Machine(1000, 1.0), SMALL, [], market=UNIT)
    assert placements(Machine(1000, 1.0), SMALL, [own], market=UNIT, own_id="own") == alone


good, better = (Placement(a, a + 1, 1.0, 1, 0.1, r, 0) for a, r in ((0, 100.0), (1, 120.0)))


def test_hysteresis_keeps_a_range_that_earns_nearly_as_much() -> None:
    assert not advise([better, good], (0, 1)).move
    assert advise([better, good], (0, 1), margin=0.1).move
    assert advise([better, good], None).move
    assert not advise([better, good], (1, 2)).move
    assert not advise([replace(better, revenue_wei=1e9), good], (0, 1), held_s=10, dwell_s=60).move
    idle = replace(good, revenue_wei=0.0)
    assert advise([replace(better, revenue_wei=0.0, unserved=2), idle], (0, 1)).move


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6))
def test_advice_never_moves_back_and_forth(here: float, there: float) -> None:
    a, b = replace(good, revenue_wei=here), replace(better, revenue_wei=there)
    ranked = sorted([a, b], key=lambda p: -p.revenue_wei)
    moved = [advise(ranked, (p.start, p.stop)).move for p in (a, b)]
    assert moved != [True, True]
