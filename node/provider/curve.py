"""The revenue curve that a price update climbed, computed again from what the update wrote down."""

from __future__ import annotations

from typing import Any

import numpy as np

from hypercluster.market.economics.demand import Segment
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.pricing import RevenueCurve
from hypercluster.market.ledger import PriceRow

POINTS = 96


def curve_document(row: PriceRow) -> dict[str, Any] | None:
    """The curve as JSON, or None where the row is of a version that did not write down what it takes.

    Points are [price_wei, revenue_wei, probability] from a tenth of the lowest price that matters to three times the
    highest, with prompts priced in the proportion of that moment; wei as text. Revenue is per generated token that any
    client of the model asks for.
    """
    inputs = row.inputs
    try:
        market = MarketParameters(**{name: _number(value) for name, value in inputs["market"].items()})
        demand = [Segment(*(_number(each) for each in segment)) for segment in inputs["demand"]]
        odds = np.array([_number(each) for each in inputs["log_odds"]], dtype=np.float64)
        best, prompt = int(inputs["best_response_wei"]), int(inputs["prompt_price_wei"])
        low, high = int(inputs["floor_wei"]), int(inputs["ceiling_wei"])
    except (KeyError, TypeError, ValueError):
        return None
    curve = RevenueCurve.of(odds, demand, market)
    told = [price for price in (row.price_before, row.price_after, best) if 0 < price < high] or [
        market.p_ref
    ]
    prices = np.geomspace(max(min(told) // 10, low, 1), min(3 * max(told), high), POINTS)
    share = prompt / row.price_before if row.price_before else 0.0
    paid = prices / market.p_ref
    revenue = curve.revenue(paid, share * paid) * market.p_ref
    chance = curve.marginal(paid, share * paid)
    return {
        "id": row.step_id,
        "at": row.taken.timestamp(),
        "price_wei": str(row.price_before),
        "next_price_wei": str(row.price_after),
        "best_response_wei": str(best),
        "points": [
            [str(round(price)), str(round(worth)), float(part)]
            for price, worth, part in zip(prices, revenue, chance, strict=True)
        ],
    }


def _number(value: Any) -> Any:
    """A number that the ledger keeps as text because JSON has none such."""
    return float(value) if isinstance(value, str) else value
