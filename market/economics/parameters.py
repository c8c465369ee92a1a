"""The market parameters that are published with a model: references, temperature and outside option."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import in_token


class BadParameters(MarketError):
    """A market parameter lies outside its domain."""


@dataclass(frozen=True, slots=True)
class MarketParameters:
    """How a client weighs a node, and how sharply it chooses (paper eq. 1 and 3, made dimensionless).

    The weight of a node is ``alpha * price / p_ref + (1 - alpha) * ms / c_ref + risk_weight * risk``.
    ``temperature = 1`` with unit references, no outside option and no risk gives the paper's market.

    Attributes:
        alpha: weight of price against time, 0 (only time matters) to 1 (only price matters).
        p_ref: reference price in wei per token, 1 HCT per million; a price of ``p_ref`` counts as 1.
        c_ref: reference time in ms per token; ``c_ref`` ms count as 1.
        temperature: of the Gibbs choice over paths; towards 0 every client takes the cheapest path.
        outside_weight: weight of what a client can do elsewhere (w_0), for a whole path; ``math.inf`` removes
            the outside option, and then a provider without a rival has no finite best price.
        variety: how much clients value a choice of nodes for its own sake, 1 to 0. At 1, as in the paper, two
            equal nodes on a range draw twice the demand of one; at 0 a range draws the same however many
            nodes share it, so that cutting a model into many small ranges does not pay by itself.
        prompt_ratio: prompt tokens per generated token of the client's work, guessed rows that do not hold included;
            0 ignores prompt prices.
        held: share of these prompt tokens that a parked session holds, 0 to 1; they cost the cached price.
        risk_weight: weight of minus the log of a node's reliability (`trust.reputation`); at 1 a path that is
            e times less likely to be honest from end to end counts as one ``p_ref / alpha`` dearer; 0 trusts all.
    """

    alpha: float = 0.5
    p_ref: int = field(default_factory=lambda: in_token(10**12))
    c_ref: float = 10.0
    temperature: float = 1.0
    outside_weight: float = 10.0
    variety: float = 1.0
    prompt_ratio: float = 0.0
    held: float = 0.0
    risk_weight: float = 1.0

    def __post_init__(self) -> None:
        checks = {
            "alpha must lie between 0 and 1": 0 <= self.alpha <= 1,
            "p_ref must be a positive number of wei": self.p_ref > 0,
            "c_ref must be a positive number of ms": 0 < self.c_ref < math.inf,
            "temperature must be positive": 0 < self.temperature < math.inf,
            "outside_weight must be a number or infinity": not math.isnan(self.outside_weight)
            and self.outside_weight > -math.inf,
            "variety must lie between 0 and 1": 0 <= self.variety <= 1,
            "prompt_ratio must be zero or more": 0 <= self.prompt_ratio < math.inf,
            "held must lie between 0 and 1": 0 <= self.held <= 1,
            "risk_weight must be zero or more": 0 <= self.risk_weight < math.inf,
        }
        for sentence, holds in checks.items():
            if not holds:
                raise BadParameters(f"The market parameter {sentence}.")

    def with_alpha(self, alpha: float) -> MarketParameters:
        """Return the same market seen by a client with another ``alpha``."""
        return replace(self, alpha=alpha)
