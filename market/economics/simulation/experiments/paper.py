"""Figures 1 to 3 of the paper, from our own code."""

from __future__ import annotations

import itertools
import math

import numpy as np

from hypercluster.market.economics.frontier import frontier
from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.plots import lines, picture
from hypercluster.market.economics.pricing import RevenueCurve, best_response
from hypercluster.market.economics.routing import best_path
from hypercluster.market.economics.simulation.experiments import Findings, Setup

UNIT = MarketParameters(p_ref=1, c_ref=1.0, outside_weight=math.inf)


def paper(setup: Setup) -> Findings:
    """Draw the layered graph, a frontier with dominated paths, and revenue over price for three costs."""
    return {"path": _graph(setup), "frontier": _frontier(setup), "best price": _revenue(setup)}


def _graph(setup: Setup) -> list[dict[str, object]]:
    rng = np.random.default_rng(setup.seed)
    sizes = [3, 2, 1, 3]
    nodes = [
        Node(str(i), layer, layer + 1, int(rng.integers(1, 10)), float(rng.integers(1, 10)))
        for i, layer in enumerate(np.repeat(np.arange(4), sizes).tolist())
    ]
    best = best_path(nodes, layers=4, market=UNIT)
    spot = {}
    for layer, size in enumerate(sizes):
        for place, node in enumerate(node for node in nodes if node.start == layer):
            spot[node.id] = (3.0 * layer, (size - 1) - 2.0 * place)
    chosen = set(itertools.pairwise(best.ids))
    with picture(setup.out / "paper-1-graph.svg", width=7, height=3.4) as (axes,):
        for a, b in itertools.product(nodes, nodes):
            if a.stop == b.start:
                on = (a.id, b.id) in chosen
                style = {"arrowstyle": "->", "color": "0.0" if on else "0.7", "lw": 2.2 if on else 0.8}
                axes.annotate(
                    "", spot[b.id], spot[a.id], arrowprops={**style, "shrinkA": 13, "shrinkB": 13}, zorder=1
                )
        for node in nodes:
            on = node.id in best.ids
            x, y = spot[node.id]
            axes.scatter([x], [y], s=620, c="0.3" if on else "1.0", edgecolors="0.0", zorder=2)
            axes.annotate(node.id, (x, y), ha="center", va="center", color="1.0" if on else "0.0", zorder=3)
            axes.annotate(f"p={node.price_wei} c={node.cost_ms:g}", (x, y - 0.85), ha="center", fontsize=7)
        axes.set(xlim=(-1, 10), ylim=(-3.2, 3), xticks=[0, 3, 6, 9], yticks=[])
        axes.set_xticklabels([f"layer {i}" for i in range(1, 5)])
        axes.grid(visible=False)
    return [{"path": " ".join(best.ids), "weight": best.weight}]


def _frontier(setup: Setup) -> list[dict[str, object]]:
    rng = np.random.default_rng(setup.seed + 1)
    nodes = []
    for layer in range(3):
        for i in range(9):
            ms = float(rng.uniform(0.4, 3.2))
            nodes.append(
                Node(f"{layer}.{i}", layer, layer + 1, round(1000 * (1.1 / ms + rng.exponential(0.5))), ms)
            )
    found = frontier(nodes, layers=3, market=UNIT)
    by_layer = [[node for node in nodes if node.start == layer] for layer in range(3)]
    every = np.array(
        [[sum(n.cost_ms for n in p), sum(n.price_wei for n in p)] for p in itertools.product(*by_layer)]
    )
    times, prices = np.array([p.ms for p in found]), np.array([p.price_wei for p in found]) / 1000
    reached = {
        tuple(best_path(nodes, layers=3, market=MarketParameters(alpha=a, p_ref=1000, c_ref=1.0)).ids)
        for a in np.linspace(0, 1, 2001)
    }
    on_hull = np.array([tuple(p.ids) in reached for p in found])
    with picture(setup.out / "paper-2-frontier.svg") as (axes,):
        axes.scatter(
            every[:, 0], every[:, 1] / 1000, marker="x", c="0.75", s=14, lw=0.7, label="dominated paths"
        )
        axes.step(times[::-1], prices[::-1], where="post", c="0.5", lw=1.2, label="Pareto frontier")
        axes.scatter(times[on_hull], prices[on_hull], c="0.0", s=28, zorder=3, label="found by some alpha")
        axes.scatter(
            times[~on_hull],
            prices[~on_hull],
            facecolors="1.0",
            edgecolors="0.0",
            s=28,
            zorder=3,
            label="found by no alpha",
        )
        axes.scatter([times.min()], [prices.min()], marker="*", s=130, c="0.4", label="ideal point")
        axes.set(xlabel="computational cost", ylabel="price", xlim=(times.min() * 0.8, times.max() * 1.15))
        axes.set_ylim(prices.min() * 0.8, prices.max() * 1.1)
        axes.legend(fontsize=8)
    return [
        {"efficient paths": len(found), "found by some alpha": int(on_hull.sum()), "all paths": len(every)}
    ]


def _revenue(setup: Setup) -> list[dict[str, object]]:
    # The paper draws x exp(-(x/2 + c')) / (exp(-(x/2 + c')) + 0.05) with c' = 0.5, 1, 2 for c = 1, 2, 4.
    price = np.linspace(0, 12, 400)
    rows, series = [], {}
    for cost in (1, 2, 4):
        log_odds = np.full((400, 1), -0.5 * cost - math.log(0.05))
        curve = RevenueCurve(log_odds, np.ones(1), np.full(1, 0.5), np.zeros(1))
        series[f"c = {cost}"] = curve.revenue(price)
        best = float(best_response(RevenueCurve(log_odds[0], np.ones(1), np.full(1, 0.5), np.zeros(1))))
        rows.append(
            {
                "c": cost,
                "best price": best,
                "revenue": float(np.interp(best, price, series[f"c = {cost}"])),
            }
        )
    with picture(setup.out / "paper-3-revenue.svg") as (axes,):
        lines(axes, price, series, xlabel="price", ylabel="expected revenue")
        for row in rows:
            axes.scatter([float(row["best price"])], [float(row["revenue"])], c="0.0", s=30, zorder=3)
    return [dict(row) for row in rows]
