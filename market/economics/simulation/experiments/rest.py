"""Where prices come to rest (the paper's section on network equilibrium)."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from hypercluster.market.economics.demand import Segment, mixed_demand
from hypercluster.market.economics.graph import AdvertTable, Floats, Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.plots import lines, picture
from hypercluster.market.economics.pricing import ascend
from hypercluster.market.economics.simulation.equilibrium import Market, contraction, random_market, rounds
from hypercluster.market.economics.simulation.experiments import Findings, Setup


def equilibrium(setup: Setup) -> Findings:
    """Random starts, step sizes, network sizes, noise and stale adverts, and monopolists in series."""
    setup.say("random starts")
    starts = _starts(setup)
    setup.say("step and network sizes")
    steps = _steps(setup)
    setup.say("noise and age of adverts")
    noise = _noise(setup)
    setup.say("monopolists in series")
    return {
        "starts": starts,
        "rounds by step and size": steps,
        "noise and age": noise,
        "in series": _series(setup),
    }


def _starts(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    with picture(setup.out / "equilibrium-starts.svg", width=9, panels=2) as panels:
        for axes, (name, demand) in zip(
            panels,
            (("one alpha", None), ("alphas from 0.1 to 0.9", mixed_demand(0.5, 4.0, points=5))),
            strict=True,
        ):
            rng = np.random.default_rng(setup.seed)
            market = random_market(rng, providers=240, demand=demand)
            target = market.equilibrium()
            paths, regrets, counts = [], [], []
            for _ in range(setup.times(100)):
                price = np.exp(rng.uniform(np.log(0.02), np.log(50.0), 240))
                gaps = []
                for _ in range(25):
                    gaps.append(np.max(np.abs(price - target) / target))
                    price = market.step(price)
                counts.append(int(np.argmax(np.array(gaps) <= 1e-3)) if min(gaps) <= 1e-3 else -1)
                paths.append(gaps)
                regrets.append(market.regret(price).max())
            gap = np.maximum(np.array(paths), 1e-12)
            series = {
                "largest of all starts": gap.max(axis=0),
                "median start": np.median(gap, axis=0),
                "smallest": gap.min(axis=0),
            }
            lines(axes, np.arange(25), series, xlabel="round", ylabel="largest relative distance", title=name)
            axes.axhline(1e-3, color="0.6", lw=0.8)
            axes.set_yscale("log")
            rows.append(
                {
                    "demand": name,
                    "starts": len(counts),
                    "within 0.1 %": sum(count >= 0 for count in counts),
                    "rounds, median": float(np.median(counts)),
                    "rounds, most": max(counts),
                    "largest distance at the end": float(gap[:, -1].max()),
                    "largest regret at the end": float(max(regrets)),
                    "lowest price": float(target.min()),
                    "highest price": float(target.max()),
                    "modulus": contraction(market, target) if demand is None else math.nan,
                }
            )
    return rows


def _steps(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for providers in (30, 240, 1000, setup.times(4000, 1500)):
        rng = np.random.default_rng(setup.seed)
        market = random_market(rng, providers=providers)
        target = market.equilibrium()
        start = rng.uniform(0.5, 1.5, providers)  # the paper starts at 1
        row: dict[str, object] = {"providers": providers, "modulus": contraction(market, target)}
        row["best responses"] = rounds(market.respond, start, target)[0]
        for damping in (1.0, 0.5, 0.1):
            row[f"controlled, {damping:g}"] = rounds(partial(market.step, damping=damping), start, target)[0]
        for eta in (1.0, 10.0, 100.0, 1000.0):
            row[f"fixed step {eta:g}"] = rounds(
                partial(market.plain_step, eta=eta), start, target, most=2000
            )[0]
        rows.append(row)
    return rows


def _noise(setup: Setup) -> list[dict[str, object]]:
    rng = np.random.default_rng(setup.seed)
    market = random_market(rng, providers=240)
    target = market.equilibrium()
    rows: list[dict[str, object]] = []
    for noise in (0.0, 0.01, 0.05, 0.2):
        row: dict[str, object] = {"noise": noise}
        for age in (0, 1, 5, 20):
            seen = [np.exp(rng.uniform(np.log(0.02), np.log(50.0), 240))] * (age + 1)
            late = []
            for number in range(setup.times(120, 60)):
                price = seen[-1]
                # Everybody sees adverts of this age, knows its own price, and a fifth of them moves.
                new = market.clip(_own_step(market, seen[-1 - age], price))
                new = new * rng.lognormal(0.0, noise, 240) if noise else new
                price = np.where(rng.random(240) < 0.2, new, price)
                seen = [*seen[-age:], price] if age else [price]
                if number >= setup.times(120, 60) // 2:
                    late.append(np.sqrt(np.mean(((price - target) / target) ** 2)))
            row[f"age {age}"] = float(np.mean(late))
        rows.append(row)
    return rows


def _own_step(market: Market, seen: Floats, own: Floats) -> Floats:
    """Return one ascent step from ``own`` prices on revenue curves drawn from ``seen`` ones."""
    return ascend(market.curve(seen), own)


def _series(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    shown = {}
    for hops in (1, 2, 4, 8, 16):
        nodes = [Node(f"n{i}", i, i + 1, 0, 1.0) for i in range(hops)]
        parameters = MarketParameters(outside_weight=30.0)
        market = Market(AdvertTable.of(nodes, hops), parameters, (Segment(1.0, 0.5),))
        target = market.equilibrium()
        one = Market(
            AdvertTable.of([Node("one", 0, hops, 0, float(hops))], hops), parameters, (Segment(1.0, 0.5),)
        )
        joint = float(one.equilibrium()[0])
        start = target * np.random.default_rng(setup.seed).uniform(0.9, 1.1, hops)
        earned = float((target * market.curve(target).marginal(target)).sum())
        most = float(joint * one.curve(np.array([joint])).marginal(np.array([joint]))[0])
        best = rounds(market.respond, start, target, most=300)
        gentle = rounds(partial(market.step, damping=0.2), start, target, most=300)
        rows.append(
            {
                "monopolists": hops,
                "path price": float(target.sum()),
                "one owner's price": joint,
                "their revenue / one owner's": earned / most,
                "modulus": contraction(market, target) if hops > 1 else 0.0,
                "rounds, best responses": best[0],
                "rounds, ascent damped to 0.2": gentle[0],
            }
        )
        if hops in (4, 16):
            price, gaps = start, []
            for _ in range(40):
                gaps.append(float(price.sum() / target.sum()))
                price = market.respond(price)
            shown[f"{hops} monopolists, best responses at once"] = gaps
            price, gaps = start, []
            for _ in range(40):
                gaps.append(float(price.sum() / target.sum()))
                price = market.step(price, 0.2)
            shown[f"{hops} monopolists, ascent damped to 0.2"] = gaps
    with picture(setup.out / "equilibrium-series.svg") as (axes,):
        lines(axes, np.arange(40), shown, xlabel="round", ylabel="path price / equilibrium")
    return rows
