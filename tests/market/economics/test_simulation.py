from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hypercluster.market.economics.graph import AdvertTable, Node
from hypercluster.market.economics.parameters import BadParameters, MarketParameters
from hypercluster.market.economics.simulation.equilibrium import (
    Market,
    contraction,
    pair_marginals,
    random_market,
    rounds,
    welfare,
)
from hypercluster.market.economics.simulation.run import NoOutput, simulate, write_rows
from hypercluster.market.economics.simulation.scenario import Placing, Pricing, Routing, Scenario
from hypercluster.market.economics.simulation.world import World
from tests.market.economics.brute import all_paths, gibbs

SMALL = Scenario(
    providers=60, layers=12, ticks=25, sessions=15.0, memory=(2, 6), churn=0.02, place_every=15.0
)


def chain(hops: int, outside: float) -> Market:
    """Monopolists in series."""
    nodes = [Node(f"n{i}", i, i + 1, 0, 1.0) for i in range(hops)]
    market = MarketParameters(outside_weight=outside)
    return Market(AdvertTable.of(nodes, hops), market, Scenario().demand[1:2])


@pytest.fixture(scope="module")
def market() -> Market:
    return random_market(np.random.default_rng(3), providers=60)


def test_ascent_from_random_starts_ends_at_the_best_response_fixed_point(market: Market) -> None:
    target = market.equilibrium()
    assert np.abs(market.respond(target) - target).max() < 1e-9
    for seed in range(5):
        start = np.random.default_rng(seed).uniform(0.01, 30, 60)
        done, end = rounds(market.step, start, target)
        assert done is not None
        assert market.regret(end).max() < 1e-4


def test_pairs_on_one_path_match_the_sum_over_all_paths() -> None:
    ranges = [(0, 2), (0, 1), (1, 4), (2, 3), (3, 4), (2, 4), (0, 4)]
    nodes = [Node(f"n{i}", a, b, i * 10**11, 1.0 + i) for i, (a, b) in enumerate(ranges)]
    market = MarketParameters(outside_weight=3.0)
    paths = all_paths(nodes)
    chance, _ = gibbs(nodes, paths, market)
    joint = pair_marginals(AdvertTable.of(nodes, 4), market)[1]
    for i in range(len(nodes)):
        for j in range(len(nodes)):
            wanted = sum(p for p, path in zip(chance, paths, strict=True) if i in path and j in path)
            assert joint[i, j] == pytest.approx(wanted, abs=1e-12)


def test_the_modulus_bounds_how_fast_best_responses_draw_together(market: Market) -> None:
    target = market.equilibrium()
    modulus = contraction(market, target)
    assert modulus < 1
    start = target * np.random.default_rng(0).uniform(0.999, 1.001, 60)
    moved = np.abs(market.respond(start) - target).max()
    assert moved <= 1.05 * modulus * np.abs(start - target).max()


def test_monopolists_in_series_charge_more_than_one_would() -> None:
    apart, one = chain(4, 10.0), chain(1, 10.0)
    total = apart.equilibrium().sum()
    assert total > 1.1 * one.equilibrium().sum()


def test_welfare_is_highest_where_price_is_cost(market: Market) -> None:
    cost = np.full(60, 0.3)
    best = sum(welfare(market, cost, cost))
    rng = np.random.default_rng(1)
    for _ in range(10):
        assert sum(welfare(market, cost * rng.uniform(0.5, 3.0, 60), cost)) < best
    assert sum(welfare(market, market.equilibrium(), cost)) < best


def test_a_run_is_reproducible_and_another_seed_is_another_run() -> None:
    first, again = simulate(SMALL), simulate(SMALL)
    assert repr(first.ticks) == repr(again.ticks)
    assert first.providers == again.providers
    assert repr(simulate(replace(SMALL, seed=1)).ticks) != repr(first.ticks)


@pytest.mark.parametrize("pricing", ["ascent", "best-response", "uniform", "cost-plus"])
@pytest.mark.parametrize("routing", ["gibbs", "cheapest", "fastest"])
@pytest.mark.parametrize("placing", ["revenue", "share", "weakest", "random"])
def test_nothing_is_lost_under_any_rule(pricing: Pricing, routing: Routing, placing: Placing) -> None:
    world = World(
        replace(SMALL, ticks=8, pricing=pricing, routing=routing, placing=placing, stale=2, noise=0.05)
    )
    for _ in range(8):
        world.tick()
        on = world.hops[world.hops >= 0]
        used = np.bincount(on, minlength=len(world.alive))
        assert (world.free + used == world.scenario.capacity).all()
        assert (world.free >= 0).all()
        assert world.alive[on].all()
        assert world.started + world.refused + world.elsewhere == world.asked
        for hops in world.hops:
            path = hops[hops >= 0]
            assert world.start[path[0]] == 0
            assert world.stop[path[-1]] == world.scenario.layers
            assert (world.stop[path[:-1]] == world.start[path[1:]]).all()


def test_what_clients_pay_is_what_providers_earn() -> None:
    world = World(replace(SMALL, churn=0.0, placing="random"))
    paid = 0.0
    for _ in range(10):
        world.tick()
        paid += world.tick_paid
    assert paid > 0
    assert world.earned.sum() == pytest.approx(paid)


def test_a_shock_reaches_the_world() -> None:
    def half_leave(world: World, tick: int) -> None:
        if tick == 10:
            world.leave(np.flatnonzero(world.alive)[::2])

    result = simulate(replace(SMALL, churn=0.0), shock=half_leave)
    assert result.ticks[9]["providers"] == 60
    assert result.ticks[10]["providers"] == 30


def test_results_are_written_as_csv_and_parquet(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    rows = simulate(replace(SMALL, ticks=3)).ticks
    write_rows(tmp_path / "run.csv", rows)
    write_rows(tmp_path / "run.parquet", rows)
    with (tmp_path / "run.csv").open() as file:
        read = list(csv.DictReader(file))
    frame = polars.read_parquet(tmp_path / "run.parquet")
    assert [float(row["price"]) for row in read] == pytest.approx([row["price"] for row in rows])
    assert frame["price"].to_list() == [row["price"] for row in rows]
    with pytest.raises(NoOutput, match="csv or"):
        write_rows(tmp_path / "run.txt", rows)


def test_senseless_scenarios_are_refused() -> None:
    with pytest.raises(BadParameters, match="at least one provider"):
        Scenario(providers=0)
    with pytest.raises(BadParameters, match="memory"):
        Scenario(memory=(5, 2))
    assert math.isfinite(Scenario().market.outside_weight)
