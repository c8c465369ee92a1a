"""What upsets the market: exits, more demand, a cartel, an undercutter, and a node that lies about its
cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hypercluster.market.economics.graph import Floats
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.plots import lines, picture
from hypercluster.market.economics.simulation.equilibrium import Market
from hypercluster.market.economics.simulation.experiments import Findings, Setup
from hypercluster.market.economics.simulation.experiments.earnings import three_stages
from hypercluster.market.economics.simulation.run import Result, simulate
from hypercluster.market.economics.simulation.scenario import Scenario
from hypercluster.market.economics.simulation.world import World

TIGHT = Scenario(
    providers=300,
    ticks=240,
    sessions=15.0,
    tokens=400.0,
    capacity=4,
    memory=(4, 12),
    placing="revenue",
    market=MarketParameters(outside_weight=10.0, temperature=0.3),
)
"""A market in which providers can run out of slots."""


def shocks(setup: Setup) -> Findings:
    """Run each shock once with providers that can move, and once with fixed ranges where that matters."""
    setup.say("exits and demand")
    dynamic = _exits_and_demand(setup)
    setup.say("cartel")
    cartel = _cartel(setup)
    setup.say("undercutter")
    under = _undercutter(setup)
    setup.say("liar")
    return {"exits and demand": dynamic, "cartel": cartel, "undercutter": under, "liar": _liar(setup)}


def _half_leave(world: World, tick: int) -> None:
    if tick != world.scenario.ticks // 2:
        return
    alive = np.flatnonzero(world.alive)
    # The range around the middle of the model loses half of its providers.
    centre = world.scenario.layers // 2
    there = alive[(world.start[alive] <= centre) & (world.stop[alive] > centre)]
    world.leave(there[::2])


def _demand_doubles(world: World, tick: int) -> None:
    if tick == world.scenario.ticks // 2:
        world.scenario = replace(world.scenario, sessions=2 * world.scenario.sessions)


def _exits_and_demand(setup: Setup) -> list[dict[str, object]]:
    scenario = replace(
        TIGHT, seed=setup.seed, ticks=setup.times(240, 40), providers=setup.times(300, 120), churn=0.0
    )
    rows: list[dict[str, object]] = []
    shown: dict[str, Result] = {}
    cases: dict[str, tuple[Callable[[World, int], None], Scenario]] = {
        "half leave, ranges move": (_half_leave, scenario),
        "half leave, ranges fixed": (_half_leave, replace(scenario, placing="random")),
        "demand doubles": (_demand_doubles, scenario),
    }
    for name, (shock, case) in cases.items():
        setup.say(name)
        run = simulate(case, shock=shock)
        shown[name] = run
        half, tail = case.ticks // 2, case.ticks // 6
        for when, part in (
            ("before", run.ticks[half - tail : half]),
            ("just after", run.ticks[half : half + tail // 4]),
            ("at the end", run.ticks[-tail:]),
        ):
            mean = {key: float(np.nanmean([row[key] for row in part])) for key in part[0]}
            rows.append(
                {
                    "shock": name,
                    "when": when,
                    "price per layer": mean["price_per_layer"],
                    "paid per token": mean["paid_per_token"],
                    "ms per token": mean["ms_per_token"],
                    "tokens/s": mean["tokens_per_s"],
                    "unserved": (mean["refused"] + mean["elsewhere"]) / mean["asked"],
                    "weakest layer": mean["weakest_layer"],
                }
            )
    with picture(setup.out / "shocks.svg", width=10, panels=2) as (left, right):
        ticks = np.arange(scenario.ticks)
        for axes, key, label in (
            (left, "paid_per_token", "price of a path, p_ref per token"),
            (right, "tokens_per_s", "throughput, tokens/s"),
        ):
            lines(
                axes, ticks, {name: smooth(run.column(key)) for name, run in shown.items()},
                xlabel="tick", ylabel=label,
            )  # fmt: skip
            axes.axvline(scenario.ticks // 2, color="0.7", lw=0.8)
    return rows


def scaled(scenario: Scenario, setup: Setup) -> Scenario:
    """Return ``scenario`` with providers and demand shrunk alike by the effort."""
    providers = setup.times(scenario.providers, 100)
    return replace(scenario, providers=providers, sessions=scenario.sessions * providers / scenario.providers)


def smooth(values: Floats, width: int = 9) -> Floats:
    """Return the running mean of ``values`` over ``width``, of the same length."""
    filled = np.where(np.isfinite(values), values, np.nanmean(values))
    padded = np.pad(filled, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1.0 / width), mode="valid")


def _cartel(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    market = three_stages(10, MarketParameters(outside_weight=10.0))
    free = market.equilibrium()
    alone = market.curve(free).revenue(free)
    for size in (2, 5, 8, 10):
        members = np.zeros(30, dtype=bool)
        members[20 : 20 + size] = True
        price = cartel_equilibrium(market, members)
        revenue = market.curve(price).revenue(price)
        # What a member gains by leaving the cartel while the others keep its price.
        tempted = market.curve(price)
        best = tempted.revenue(market.respond(price))
        rows.append(
            {
                "members of 10": size,
                "cartel price / free": float(price[20] / free[20]),
                "member revenue / free": float(revenue[20] / alone[20]),
                "outsider on the range / free": float(revenue[29] / alone[29]) if size < 10 else float("nan"),
                "other stages / free": float(revenue[0] / alone[0]),
                "gain from cheating": float(best[20] / revenue[20] - 1),
            }
        )
    return rows


def cartel_equilibrium(market: Market, members: np.ndarray) -> Floats:
    """Return prices where ``members``, bool [n], all charge the price of most joint revenue and others
    respond.
    """
    price = market.equilibrium()
    for _ in range(60):
        grid = np.linspace(0.3, 40.0, 160)
        for _ in range(4):
            joint = []
            for level in grid:
                trial = np.where(members, level, price)
                joint.append(float((market.curve(trial).revenue(trial))[members].sum()))
            at = int(np.argmax(joint))
            low, high = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
            grid = np.linspace(low, high, 12)
        new = np.where(
            members, grid[len(grid) // 2], market.respond(np.where(members, grid[len(grid) // 2], price))
        )
        if np.max(np.abs(new - price)) < 1e-4:
            return new
        price = new
    return price


def _undercutter(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    market = three_stages(10, MarketParameters(outside_weight=10.0))
    free = market.equilibrium()
    alone = market.curve(free).revenue(free)
    for cut in (0.9, 0.5, 0.1, 0.0):
        price = free.copy()
        for _ in range(60):
            price = market.respond(price)
            price[20] = cut * free[20]
        revenue = market.curve(price).revenue(price)
        rows.append(
            {
                "price / free": cut,
                "its share of clients": float(market.curve(price).marginal(price)[20]),
                "its revenue / free": float(revenue[20] / alone[20]),
                "rival price / free": float(price[21] / free[21]),
                "rival revenue / free": float(revenue[21] / alone[21]),
            }
        )
    return rows


def _liar(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    base = Scenario(
        providers=setup.times(200, 80),
        ticks=setup.times(160, 30),
        sessions=30.0,
        churn=0.0,
        placing="random",
        seed=setup.seed,
        market=MarketParameters(outside_weight=10.0, temperature=0.1),
    )
    honestly = 1.0
    for lie in (1.0, 0.5, 0.1):
        for reputation in (0.0, 0.1):

            def tell(world: World, tick: int, lie: float = lie) -> None:
                if tick == 0:
                    world.lie[np.flatnonzero(world.alive)[::10]] = lie

            run = simulate(replace(base, reputation=reputation), shock=tell)
            earned = {int(row["provider"]): row["earned"] for row in run.providers}
            liars = [value for i, value in earned.items() if i % 10 == 0]
            honest = [value for i, value in earned.items() if i % 10]
            ratio = float(np.mean(liars) / np.mean(honest))
            honestly = ratio if lie == 1.0 else honestly
            rows.append(
                {
                    "claimed / true time": lie,
                    "reputation per tick": reputation,
                    "revenue / same nodes when honest": ratio / honestly,
                    "ms per token": run.mean("ms_per_token"),
                    "weight": run.mean("weight"),
                }
            )
    return rows
