"""The market against other rules, and against a planner's optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hypercluster.market.economics.demand import uniform_demand
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.plots import STYLES, picture
from hypercluster.market.economics.simulation.equilibrium import random_market, welfare
from hypercluster.market.economics.simulation.experiments import Findings, Setup
from hypercluster.market.economics.simulation.experiments.shocks import TIGHT, scaled
from hypercluster.market.economics.simulation.run import simulate
from hypercluster.market.economics.simulation.scenario import Scenario

RULES: dict[str, dict[str, str]] = {
    "market": {},
    "market, variety 0": {"variety": "0"},
    "market, clients take the cheapest": {"routing": "cheapest"},
    "posted best response": {"pricing": "best-response"},
    "cost plus 100 %": {"pricing": "cost-plus"},
    "uniform price per layer": {"pricing": "uniform", "placing": "weakest"},
    "Petals-like, no price": {"pricing": "uniform", "placing": "weakest", "routing": "fastest"},
    "market, the paper's layer rule": {"placing": "share"},
    "market, fixed random ranges": {"placing": "random"},
}


def alternatives(setup: Setup) -> Findings:
    """Run every rule on the same machines and clients, over three seeds and two temperatures."""
    table = []
    for temperature in (1.0, 0.1):
        for name, rules in RULES.items():
            setup.say(f"{name}, T = {temperature:g}")
            table.append(_run(setup, name, rules, temperature))
    _draw(setup, table)
    setup.say("fragmentation")
    fragments = _fragments(setup)
    setup.say("price of anarchy")
    return {"rules": table, "fragmentation": fragments, "price of anarchy": _anarchy(setup)}


def _fragments(setup: Setup) -> list[dict[str, object]]:
    """Let networks of growing size place themselves, with and without the demand for mere number."""
    rows: list[dict[str, object]] = []
    for providers in (100, 300, 1000, 3000):
        for variety in (1.0, 0.0):
            scenario = replace(
                TIGHT,
                providers=setup.times(providers, 100),
                sessions=0.05 * setup.times(providers, 100),
                ticks=setup.times(120, 20),
                seed=setup.seed,
                market=replace(TIGHT.market, temperature=0.1, variety=variety),
            )
            run = simulate(scenario)
            rows.append(
                {
                    "providers": scenario.providers,
                    "variety": variety,
                    "hops": run.mean("hops"),
                    "paid per token": run.mean("paid_per_token"),
                    "ms per token": run.mean("ms_per_token"),
                    "client weight": run.mean("weight"),
                    "weakest layer": run.mean("weakest_layer"),
                }
            )
    return rows


def _run(setup: Setup, name: str, rules: dict[str, str], temperature: float) -> dict[str, object]:
    scenario = replace(
        scaled(TIGHT, setup),
        ticks=setup.times(160, 30),
        churn=0.005,
        market=replace(TIGHT.market, temperature=temperature, variety=float(rules.get("variety", 1))),
    )
    followed = {name: rule for name, rule in rules.items() if name != "variety"}
    runs = []
    for seed in range(setup.times(3, 1)):
        ruled: Scenario = replace(scenario, seed=setup.seed + seed, **followed)  # type: ignore[arg-type]
        runs.append(simulate(ruled))

    def mean(key: str) -> float:
        return float(np.mean([run.mean(key) for run in runs]))

    return {
        "rule": name,
        "T": temperature,
        "tokens/s": mean("tokens_per_s"),
        "served": 1 - (mean("refused") + mean("elsewhere")) / mean("asked"),
        "hops": mean("hops"),
        "paid per token": mean("paid_per_token"),
        "ms per token": mean("ms_per_token"),
        "client weight": mean("weight"),
        "revenue per provider": mean("revenue") / mean("providers") / scenario.tick_s,
        "weakest layer": mean("weakest_layer"),
        "uneven layers": mean("layer_spread"),
        "moves per tick": mean("moves"),
    }


def _draw(setup: Setup, table: list[dict[str, object]]) -> None:
    with picture(setup.out / "alternatives.svg", width=10, panels=2) as panels:
        for axes, temperature in zip(panels, (1.0, 0.1), strict=True):
            for i, row in enumerate(row for row in table if row["T"] == temperature):
                shade, _, marker = STYLES[i % len(STYLES)]
                edge = {"facecolors": shade if i < len(STYLES) else "1.0", "edgecolors": "0.0"}
                if marker == "x" and i < len(STYLES):
                    edge = {"c": shade}
                x, y = float(str(row["ms per token"])), float(str(row["paid per token"]))
                axes.scatter([x], [y], marker=marker, s=60, label=str(row["rule"]), **edge)  # type: ignore[arg-type]
            axes.set(xlabel="ms per token", ylabel="paid per token, p_ref", title=f"T = {temperature:g}")
            axes.set_yscale("log")
        panels[-1].legend(fontsize=6.5)


def _anarchy(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    energy = 0.02
    for providers in (30, 240):
        for temperature in (0.1, 0.3, 1.0):
            for outside in (5.0, 14.0):
                parameters = MarketParameters(outside_weight=outside, temperature=temperature)
                market = random_market(
                    np.random.default_rng(setup.seed), providers=providers, parameters=parameters,
                    demand=uniform_demand(parameters),
                )  # fmt: skip
                cost = energy * market.table.service_ms
                market = replace(market, floor=cost)
                price = market.equilibrium()
                best, found = welfare(market, cost, cost), welfare(market, price, cost)
                rows.append(
                    {
                        "providers": providers,
                        "T": temperature,
                        "outside": outside,
                        "planner's welfare": sum(best),
                        "market's welfare": sum(found),
                        "price of anarchy": sum(best) / sum(found),
                        "clients' part, planner": best[0] / sum(best),
                        "clients' part, market": found[0] / sum(found),
                        "mean price": float(price.mean()),
                        "mean own cost": float(cost.mean()),
                    }
                )
    return rows
