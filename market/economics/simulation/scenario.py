"""What is simulated: sizes, rates and who follows which rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hypercluster.market.economics.demand import Demand, Segment
from hypercluster.market.economics.parameters import BadParameters, MarketParameters

Pricing = Literal["ascent", "best-response", "uniform", "cost-plus"]
Routing = Literal["gibbs", "cheapest", "fastest"]
Placing = Literal["revenue", "share", "weakest", "random"]

LEVELS = (Segment(0.25, 0.2), Segment(0.5, 0.5), Segment(0.25, 0.8))


@dataclass(frozen=True)
class Scenario:
    """One simulated market. Money is in units of p_ref, time in ticks of ``tick_s`` seconds.

    Attributes:
        providers: at the start; also the level that arrivals hold where nobody leaves for good.
        layers: m.
        ticks: how long.
        tick_s: seconds per tick.
        sessions: new client sessions per tick, Poisson.
        tokens: mean length of a session in generated tokens, geometric.
        market, demand: of the clients.
        pricing: ``ascent`` (paper eq. 5), ``best-response``, ``uniform`` (one price per layer) or
        ``cost-plus``.
        routing: ``gibbs`` draws, ``cheapest`` takes the least weight, ``fastest`` ignores price (as Petals
        does).
        placing: ``revenue`` (expected, at the best response), ``share`` (the paper's reciprocal share of the
            range's compute), ``weakest`` (as Petals: where the least compute is), ``random`` and never moved.
        churn: chance per tick that a provider leaves; as many arrive on average.
        price_every, place_every: mean ticks between a provider's updates.
        margin: a provider moves its range only for this much more revenue.
        capacity: sessions per provider.
        memory: least and most layers that fit a machine.
        layer_ms, spread: median compute time per layer and token, and sigma of its lognormal.
        energy: a provider's own cost per ms of compute, in units of p_ref; the floor of its price.
        uniform_price: per layer, for ``uniform`` pricing.
        markup: for ``cost-plus``.
        stale: age of the adverts that everybody sees, ticks.
        noise: sigma of the lognormal error of each price update.
        reputation: share per tick by which what clients believe of a provider's time moves to what they saw.
        seed: of every random draw.
    """

    providers: int = 1000
    layers: int = 24
    ticks: int = 300
    tick_s: float = 5.0
    sessions: float = 60.0
    tokens: float = 100.0
    market: MarketParameters = field(default_factory=lambda: MarketParameters(outside_weight=14.0))
    demand: Demand = LEVELS
    pricing: Pricing = "ascent"
    routing: Routing = "gibbs"
    placing: Placing = "revenue"
    churn: float = 0.002
    price_every: float = 5.0
    place_every: float = 50.0
    margin: float = 0.25
    capacity: int = 8
    memory: tuple[int, int] = (2, 12)
    layer_ms: float = 0.5
    spread: float = 0.5
    energy: float = 0.02
    uniform_price: float = 0.3
    markup: float = 1.0
    stale: int = 0
    noise: float = 0.0
    reputation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            min(self.providers, self.layers, self.ticks, self.capacity) < 1
            or self.sessions < 0
            or self.tokens < 1
        ):
            raise BadParameters(
                "A scenario needs at least one provider, layer, tick, session slot and token."
            )
        if not 1 <= self.memory[0] <= self.memory[1]:
            raise BadParameters("A scenario's memory must go from one layer upwards.")
