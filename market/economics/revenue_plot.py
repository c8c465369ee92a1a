"""The picture of what a node would earn at other prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hypercluster.market.economics.demand import uniform_demand
from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.plots import lines, picture
from hypercluster.market.economics.pricing import RevenueCurve, price_step

POINTS = 400


def draw_revenue(
    file: Path, own: Node, nodes: Sequence[Node], *, layers: int, market: MarketParameters
) -> None:
    """Draw the revenue of `own` among `nodes` over its price, from 0 to three times its best response."""
    step = price_step(own, nodes, layers=layers, market=market)
    curve = RevenueCurve.of(np.array(step.log_odds), uniform_demand(market), market)
    prices = np.linspace(0, 3 * step.best_response_wei, POINTS)
    many = RevenueCurve(np.broadcast_to(curve.log_odds, (POINTS, 1)), curve.share, curve.kappa, curve.ratio)
    revenue = many.revenue(prices / market.p_ref) * market.p_ref / 1e12
    with picture(file) as (axes,):
        lines(
            axes,
            prices / 1e12,
            {own.id: revenue},
            xlabel="price, HCT per million tokens",
            ylabel="expected revenue, HCT per million tokens asked for",
        )
        best = step.best_response_wei / 1e12
        axes.axvline(best, color="0.5", ls="--", lw=1)
        axes.annotate("best response", (best, 0), fontsize=8, rotation=90, va="bottom")
        if math.isfinite(step.revenue_wei):
            axes.scatter([own.price_wei / 1e12], [step.revenue_wei / 1e12], c="0.0", zorder=3)
