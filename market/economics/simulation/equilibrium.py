"""Where prices end when everybody adjusts: fixed points, regret, and whether play contracts towards them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hypercluster.market.economics.demand import Demand, uniform_demand
from hypercluster.market.economics.gibbs import choice_weights, log_sums_by_range, marginals
from hypercluster.market.economics.graph import AdvertTable, Floats, NoPath
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.pricing import RevenueCurve, ascend, best_response, log_odds


@dataclass(frozen=True, eq=False)
class Market:
    """Fixed adverts whose prices move: the prices in ``table`` are ignored.

    Attributes:
        table: ranges and times.
        parameters, demand: of the clients.
        floor, ceiling: of each price in units of p_ref, float64 [n] or scalar.
    """

    table: AdvertTable
    parameters: MarketParameters
    demand: Demand
    floor: Floats | float = 0.0
    ceiling: Floats | float = 1e3

    def priced(self, price: Floats) -> AdvertTable:
        """Return the table at ``price``, float64 [n] in units of p_ref."""
        wei = np.rint(np.asarray(price) * self.parameters.p_ref).astype(np.int64)
        return replace(self.table, price_wei=wei)

    def curve(self, price: Floats) -> RevenueCurve:
        """Return every provider's revenue curve while the others stay at ``price``."""
        rows = np.arange(len(self.table))
        return RevenueCurve.of(
            log_odds(self.priced(price), rows, self.parameters, self.demand), self.demand, self.parameters
        )

    def clip(self, price: Floats) -> Floats:
        """Return ``price`` within floor and ceiling."""
        return np.clip(price, self.floor, self.ceiling)

    def respond(self, price: Floats) -> Floats:
        """Return every provider's best response to ``price``, float64 [n]."""
        return self.clip(best_response(self.curve(price)))

    def step(self, price: Floats, damping: float = 1.0) -> Floats:
        """Return prices after one controlled ascent step of everybody at once."""
        return self.clip(ascend(self.curve(price), price, damping=damping))

    def plain_step(self, price: Floats, eta: float) -> Floats:
        """Return prices after the paper's own update with a fixed step size (eq. 5)."""
        return self.clip(price + eta * self.curve(price).gradient(price))

    def regret(self, price: Floats) -> Floats:
        """Return what each provider could still gain alone, relative to its best revenue, float64 [n]."""
        curve = self.curve(price)
        best = curve.revenue(self.clip(best_response(curve)))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.nan_to_num(np.maximum(best - curve.revenue(price), 0.0) / best))

    def equilibrium(self, start: Floats | None = None, tolerance: float = 1e-10) -> Floats:
        """Return the fixed point of best responses, by damped rounds until none moves more than
        ``tolerance``.
        """
        price = self.clip(np.full(len(self.table), 2.0)) if start is None else start
        damping = 1.0
        last = np.inf
        for _ in range(2000):
            answer = self.respond(price)
            move = float(np.max(np.abs(answer - price) / np.maximum(answer, 1e-9)))
            if move < tolerance:
                return answer
            damping = damping if move < last else max(0.5 * damping, 0.02)
            last = move
            price = price + damping * (answer - price)
        return price


def rounds(
    update: Callable[[Floats], Floats], start: Floats, target: Floats, most: int = 500, within: float = 1e-3
) -> tuple[int | None, Floats]:
    """Apply ``update`` until all prices are ``within`` (relative) of ``target``; None if never; and the
    end.
    """
    price = start
    for done in range(most + 1):
        if np.all(np.abs(price - target) <= within * target):
            return done, price
        price = update(price)
    return None, price


def contraction(market: Market, price: Floats) -> float:
    """Return the sup-norm modulus of the best-response map at ``price``, for clients of one kind.

    dBR_i/dx_j = -P_i (P(j | i) - P(j | not i)); the modulus is the largest row sum of absolute values.
    Below 1 everywhere, the equilibrium is unique and rounds of best responses converge to it geometrically.
    """
    chance, joint = pair_marginals(market.priced(price), market.parameters)
    given = joint / chance[:, None]
    without = (chance[None, :] - joint) / (1.0 - chance[:, None])
    slopes = chance[:, None] * np.abs(given - without)
    np.fill_diagonal(slopes, 0.0)
    return float(slopes.sum(axis=1).max())


def pair_marginals(table: AdvertTable, market: MarketParameters) -> tuple[Floats, Floats]:
    """Return P(i), float64 [n], and P(i and j on one path), float64 [n, n]."""
    weights = choice_weights(table, market)
    single = marginals(table, market)
    log_range = log_sums_by_range(table, weights, market.temperature)
    # Log sums between any two boundaries, [m+1, m+1].
    between = np.full_like(log_range, -np.inf)
    np.fill_diagonal(between, 0.0)
    for stop in range(1, table.layers + 1):
        with np.errstate(invalid="ignore"):
            between[:stop, stop] = np.logaddexp.reduce(between[:stop, :stop] + log_range[:stop, stop], axis=1)
    own = -weights / market.temperature
    path = (
        between[0, table.start][:, None]
        + own[:, None]
        + between[np.ix_(table.stop, table.start)]
        + own[None, :]
        + between[table.stop, table.layers][None, :]
        - single.log_z
    )
    ordered = np.exp(np.where(table.stop[:, None] <= table.start[None, :], path, -np.inf))
    joint = ordered + ordered.T
    np.fill_diagonal(joint, single.probability)
    return single.probability, joint


def welfare(market: Market, price: Floats, cost: Floats) -> tuple[float, float]:
    """Return (clients' surplus, providers' profit) per token asked for, in units of p_ref.

    The clients' surplus is (T / alpha) log(Z / Z_outside), averaged over the demand: what they would pay to
    have the market. Profit is the sum of (price - cost) P. Their sum is largest where price equals ``cost``.
    """
    surplus = profit = 0.0
    table = market.priced(price)
    for segment in market.demand:
        seen = segment.market(market.parameters)
        found = marginals(table, seen)
        outside = -seen.outside_weight / seen.temperature
        surplus += segment.share * seen.temperature / seen.alpha * (found.log_z - outside)
        profit += segment.share * float(((price - cost) * found.probability).sum())
    return surplus, profit


def random_market(
    rng: np.random.Generator,
    *,
    providers: int,
    layers: int = 24,
    ranges: int = 12,
    parameters: MarketParameters | None = None,
    demand: Demand | None = None,
) -> Market:
    """Draw ``providers`` over ``ranges`` different overlapping ranges through which at least one path leads.

    Machines differ in speed by a lognormal of sigma 0.5 around 0.5 ms per layer; latency is 1 to 20 ms.
    """
    market = parameters or MarketParameters(outside_weight=14.0)
    step = max(layers // 6, 1)
    marks = range(0, layers + 1, step)
    possible = [(a, b) for a in marks for b in marks if step <= b - a <= layers // 2]
    for _ in range(1000):
        chosen = [possible[i] for i in rng.choice(len(possible), min(ranges, len(possible)), replace=False)]
        of = np.concatenate([np.arange(len(chosen)), rng.integers(0, len(chosen), providers - len(chosen))])
        start = np.array([chosen[i][0] for i in of], dtype=np.int64)
        stop = np.array([chosen[i][1] for i in of], dtype=np.int64)
        speed = 0.5 * rng.lognormal(0.0, 0.5, providers)
        table = AdvertTable(
            layers=layers,
            ids=[f"p{i}" for i in range(providers)],
            start=start,
            stop=stop,
            price_wei=np.zeros(providers, dtype=np.int64),
            prompt_price_wei=np.zeros(providers, dtype=np.int64),
            service_ms=speed * (stop - start),
            latency_ms=rng.uniform(1.0, 20.0, providers) / 10.0,
            risk=np.zeros(providers),
            cached_price_wei=np.zeros(providers, dtype=np.int64),
        )
        if table.no_path() is None and on_paths(table).all():
            return Market(table, market, uniform_demand(market) if demand is None else demand)
    raise NoPath(0, layers)


def on_paths(table: AdvertTable) -> np.ndarray:
    """Return which adverts lie on a complete path, bool [n]."""
    plain = MarketParameters(outside_weight=float("inf"))
    return marginals(table, plain, np.zeros(len(table))).probability > 0
