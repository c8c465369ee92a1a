from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(networks(), st.sampled_from([1.0, 0.5, 0.0]))
def test_each_range_earns_what_pricing_says_it_would(nodes: list[Node], variety: float) -> None:
    market = replace(UNIT, variety=variety)
    ranked = placements(Machine(1000, 2.0, overhead_ms=1.0), SMALL, nodes, market=market, ceiling_wei=10**15)
    assert len(ranked) == 10
    assert [p.revenue_wei for p in ranked] == sorted((p.revenue_wei for p in ranked), reverse=True)
    for place in ranked:
        own = Node("own", place.start, place.stop, place.price_wei, place.cost_ms)
        step = price_step(own, nodes, layers=4, market=market, ceiling_wei=10**15)
        assert step.best_response_wei == pytest.approx(place.price_wei, rel=1e-9, abs=2)
        assert step.revenue_wei == pytest.approx(place.revenue_wei, rel=1e-6, abs=2)
        assert step.marginal == pytest.approx(place.marginal, rel=1e-6, abs=1e-12)


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
