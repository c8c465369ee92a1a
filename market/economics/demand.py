"""Who the clients are: a distribution over alpha and over the share of prompt tokens, in a few segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hypercluster.market.economics.parameters import BadParameters, MarketParameters


@dataclass(frozen=True, slots=True)
class Segment:
    """Clients that weigh alike.

    Attributes:
        share: of all generated tokens that are asked for, 0 < share <= 1.
        alpha: their weight of price against time, 0 to 1.
        prompt_ratio: their prompt tokens per generated token.
        held: share of these that parked sessions hold.
    """

    share: float
    alpha: float
    prompt_ratio: float = 0.0
    held: float = 0.0

    def market(self, market: MarketParameters) -> MarketParameters:
        """Return ``market`` as these clients see it."""
        return replace(market, alpha=self.alpha, prompt_ratio=self.prompt_ratio, held=self.held)


Demand = Sequence[Segment]


def uniform_demand(market: MarketParameters) -> tuple[Segment, ...]:
    """Return the demand of clients who all share the alpha and the prompt ratio of ``market``."""
    return (Segment(1.0, market.alpha, market.prompt_ratio, market.held),)


def mixed_demand(
    mean: float, concentration: float, points: int = 5, prompt_ratios: Sequence[float] = (0.0,)
) -> tuple[Segment, ...]:
    """Cut a Beta distribution of alpha into ``points`` segments of equal share, at their medians.

    Args:
        mean: of alpha, strictly between 0 and 1.
        concentration: a + b of the Beta distribution; large is narrow.
        points: segments of alpha.
        prompt_ratios: each segment of alpha is split evenly over these prompt tokens per generated token.
    """
    if not 0 < mean < 1 or concentration <= 0 or points < 1:
        raise BadParameters(
            "A mixed demand needs a mean of alpha inside (0, 1) and positive concentration and points."
        )
    from scipy.special import betaincinv  # a third of a second, and nodes that serve never ask

    levels = (np.arange(points) + 0.5) / points
    alphas = betaincinv(mean * concentration, (1 - mean) * concentration, levels)
    share = 1.0 / (points * len(prompt_ratios))
    return tuple(Segment(share, float(alpha), ratio) for alpha in alphas for ratio in prompt_ratios)


def check_demand(demand: Demand) -> None:
    """Raise `BadParameters` unless shares are positive and sum to one and alphas lie in [0, 1]."""
    if not demand or any(segment.share <= 0 or not 0 <= segment.alpha <= 1 for segment in demand):
        raise BadParameters("Each demand segment needs a positive share and an alpha between 0 and 1.")
    if not math.isclose(math.fsum(segment.share for segment in demand), 1.0, rel_tol=1e-9):
        raise BadParameters("The shares of the demand segments must sum to 1.")
