"""How many prompt tokens clients have computed for each token of an answer: what a provider has seen of its market."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.market.ledger import Ledger

LATELY = timedelta(days=30)
"""whose sessions show it"""
LEAST_TOKENS = 1000
"""of answers; of fewer nothing is told"""
USUAL = 4.0
"""where nothing was seen yet: at the usual prices prompts bring as much as answers then"""


def seen_by(ledger: Ledger) -> float | None:
    """Prompt tokens for each generated one in the sessions served lately; None where there were too few."""
    prompt, generated = ledger.history.served_since(datetime.now(UTC) - LATELY)
    return prompt / generated if generated >= LEAST_TOKENS else None


def as_seen(market: MarketParameters, ledger: Ledger, told: float | None = None) -> MarketParameters:
    """A market with as many prompt tokens as were told, 0 for none; else as it says itself, were seen, or are usual."""
    if told is not None:
        return replace(market, prompt_ratio=told)
    if market.prompt_ratio:
        return market
    seen = seen_by(ledger)
    return replace(market, prompt_ratio=USUAL if seen is None else seen)
