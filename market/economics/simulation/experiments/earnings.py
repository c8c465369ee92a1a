"""Who earns what: revenue against compute cost, scarcity and competition; what alpha and temperature do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hypercluster.market.economics.demand import uniform_demand
from hypercluster.market.economics.graph import AdvertTable, Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.plots import lines, picture
from hypercluster.market.economics.simulation.equilibrium import Market, random_market
from hypercluster.market.economics.simulation.experiments import Findings, Setup


def earnings(setup: Setup) -> Findings:
    """Compare providers at the price equilibrium."""
    return {
        "by compute cost": _by_cost(setup),
        "by competition": _by_rivals(setup),
        "by alpha and temperature": _by_taste(setup),
    }


def _by_cost(setup: Setup) -> list[dict[str, object]]:
    rng = np.random.default_rng(setup.seed)
    market = random_market(rng, providers=240, ranges=12)
    price = market.equilibrium()
    revenue = market.curve(price).revenue(price)
    ranges, group = np.unique(market.table.range_key, return_inverse=True)
    crowd = np.bincount(group)[group]
    cost = market.table.service_ms
    with picture(setup.out / "earnings-cost.svg", width=9, panels=2) as (left, right):
        for axes, values, name in (
            (left, revenue, "expected revenue, p_ref"),
            (right, price, "price, p_ref"),
        ):
            dots = axes.scatter(
                cost, values, c=crowd, cmap="Greys_r", edgecolors="0.3", lw=0.4, s=18, vmax=crowd.max() * 1.3
            )
            axes.set(xlabel="compute cost, ms per token", ylabel=name)
        left.set_yscale("log")
        left.figure.colorbar(dots, ax=right, label="nodes on the same range")
    within = [
        float(np.corrcoef(cost[group == g], np.log(revenue[group == g]))[0, 1])
        for g in range(len(ranges))
        if (group == g).sum() > 3
    ]
    return [
        {
            "providers": len(price),
            "ranges": len(ranges),
            "price, lowest": float(price.min()),
            "price, highest": float(price.max()),
            "revenue, highest / lowest": float(revenue.max() / revenue.min()),
            "correlation of log revenue and cost within a range": float(np.mean(within)),
            "correlation of log revenue and nodes on the range": float(
                np.corrcoef(crowd, np.log(revenue))[0, 1]
            ),
        }
    ]


def three_stages(middle: int, parameters: MarketParameters) -> Market:
    """Return a market of ten equal nodes on the first and last stage, and ``middle`` on the one between."""
    nodes = [Node(f"{stage}.{i}", stage, stage + 1, 0, 5.0) for stage in (0, 2) for i in range(10)]
    nodes += [Node(f"1.{i}", 1, 2, 0, 5.0) for i in range(middle)]
    return Market(AdvertTable.of(nodes, 3), parameters, uniform_demand(parameters))


def _by_rivals(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for middle in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32):
        market = three_stages(middle, MarketParameters(outside_weight=10.0))
        price = market.equilibrium()
        revenue = market.curve(price).revenue(price)
        rows.append(
            {
                "nodes on the middle stage": middle,
                "their price": float(price[-1]),
                "the others' price": float(price[0]),
                "revenue of each": float(revenue[-1]),
                "revenue of all": float(revenue[-1] * middle),
                "revenue of each other": float(revenue[0]),
            }
        )
    x = [float(str(row["nodes on the middle stage"])) for row in rows]
    with picture(setup.out / "earnings-rivals.svg", width=9, panels=2) as (left, right):
        names = ("their price", "the others' price")
        lines(
            left, x, {n: [float(str(r[n])) for r in rows] for n in names},
            xlabel="nodes on the middle stage", ylabel="price, p_ref", markers=True,
        )  # fmt: skip
        names = ("revenue of each", "revenue of all")
        lines(
            right, x, {n: [float(str(r[n])) for r in rows] for n in names},
            xlabel="nodes on the middle stage", ylabel="revenue per token asked for, p_ref", markers=True,
        )  # fmt: skip
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
    return rows


def _by_taste(setup: Setup) -> list[dict[str, object]]:
    rng = np.random.default_rng(setup.seed)
    market = random_market(rng, providers=240)
    rows: list[dict[str, object]] = []
    speed = market.table.service_ms
    fast = speed <= np.quantile(speed / (market.table.stop - market.table.start), 0.25) * (
        market.table.stop - market.table.start
    )
    for temperature in (0.03, 0.1, 0.3, 1.0, 3.0):
        for alpha in (0.2, 0.5, 0.8):
            parameters = replace(market.parameters, alpha=alpha, temperature=temperature)
            here = replace(market, parameters=parameters, demand=uniform_demand(parameters))
            price = here.equilibrium()
            revenue = here.curve(price).revenue(price)
            chance = here.curve(price).marginal(price)
            rows.append(
                {
                    "T": temperature,
                    "alpha": alpha,
                    "mean price": float(np.average(price, weights=chance)),
                    "T / alpha": temperature / alpha,
                    "dispersion": float(price.std() / price.mean()),
                    "path price": float(
                        (price * chance).sum() / max(chance[market.table.start == 0].sum(), 1e-12)
                    ),
                    "hops": float(chance.sum() / max(chance[market.table.start == 0].sum(), 1e-12)),
                    "share of revenue of the fastest quarter": float(revenue[fast].sum() / revenue.sum()),
                }
            )
    return rows
