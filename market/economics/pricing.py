"""What a provider should charge: expected revenue, its gradient, gradient ascent, and the closed form.

Prices here are in units of p_ref. Let A be the summed exp(-W/T) of the paths through a node when it charges
nothing and S that of all other paths, the outside option included. At price y its marginal is
P = A e^-x / (A e^-x + S) with x = alpha y / T, on any DAG of overlapping ranges, so the whole network enters
through one number, log(A/S). Then R = y P, dR/dy = P (1 + x (P - 1)) (paper eq. 2 to 4), log R is concave in
y, and its maximum is x = 1 + W0(A / (e S)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hypercluster.market.economics.demand import Demand, check_demand, uniform_demand
from hypercluster.market.economics.gibbs import choice_weights, log_z_without, messages
from hypercluster.market.economics.graph import MAX_PRICE_WEI, AdvertTable, BadNode, Floats, Ints, Node
from hypercluster.market.economics.parameters import MarketParameters

MOST_RISE = 2.0
"""times that one update of a price multiplies it by at most; the least is a half"""
LEAST_PRICE = 0.01
"""references that a price of next to nothing may rise to at once"""
_UNBOUNDED = 1e6  # references; where some clients would pay anything, look no further than this
Side = Literal["generated", "prompt"]


@dataclass(frozen=True, eq=False)
class RevenueCurve:
    """Expected revenue of one node, or of n at once, as a function of their own price alone.

    Attributes:
        log_odds: log(A/S) per demand segment, float64 [s] or [n, s]; -inf: on no path, inf: no alternative.
        share, kappa, ratio: of each segment its share, alpha / T, and prompt tokens per generated token, [s].

    Methods take ``price`` and ``prompt`` per generated and per prompt token in units of p_ref, scalars or
    [n], and count revenue per generated token that clients ask for.
    """

    log_odds: Floats
    share: Floats
    kappa: Floats
    ratio: Floats

    @classmethod
    def of(cls, log_odds: Floats, demand: Demand, market: MarketParameters) -> RevenueCurve:
        """Combine ``log_odds``, [s] or [n, s], with the segments they were computed for."""
        columns = np.array([(seg.share, seg.alpha / market.temperature, seg.prompt_ratio) for seg in demand])
        return cls(log_odds, columns[:, 0], columns[:, 1], columns[:, 2])

    def paid(self, price: Floats | float, prompt: Floats | float = 0.0) -> Floats:
        """Return what each segment pays per generated token, prompt included, [s] or [n, s]."""
        total: Floats = np.asarray(price)[..., None] + self.ratio * np.asarray(prompt)[..., None]
        return total

    def chance(self, price: Floats | float, prompt: Floats | float = 0.0) -> Floats:
        """Return P in each segment, [s] or [n, s]."""
        return np.asarray(np.exp(_log_expit(self.log_odds - self.kappa * self.paid(price, prompt))))

    def marginal(self, price: Floats | float, prompt: Floats | float = 0.0) -> Floats:
        """Return P averaged over the demand."""
        return np.asarray((self.share * self.chance(price, prompt)).sum(axis=-1))

    def revenue(self, price: Floats | float, prompt: Floats | float = 0.0) -> Floats:
        """Return R, paper eq. 2 averaged over the demand."""
        return np.asarray((self.share * self.chance(price, prompt) * self.paid(price, prompt)).sum(axis=-1))

    def gradient(
        self, price: Floats | float, prompt: Floats | float = 0.0, side: Side = "generated"
    ) -> Floats:
        """Return dR/dprice, or dR/dprompt for ``side="prompt"``: the mean of P (1 + x (P - 1))."""
        log_scale, slope, _ = self.derivatives(price, prompt, side)
        return np.asarray(np.exp(log_scale) * slope)

    def derivatives(
        self, price: Floats | float, prompt: Floats | float = 0.0, side: Side = "generated"
    ) -> tuple[Floats, Floats, Floats]:
        """Return the first and second derivative of R along the price of ``side``, divided by their scale.

        The scale is the largest P of the segments, given as its log (-inf for a node on no path), so that the
        derivatives keep their sign and ratio at prices where P itself underflows.
        """
        paid = self.paid(price, prompt)
        x = self.kappa * paid
        log_chance = _log_expit(self.log_odds - x)
        log_scale = log_chance.max(axis=-1)
        with np.errstate(invalid="ignore"):
            relative = np.nan_to_num(np.exp(log_chance - log_scale[..., None]))
        relative = self.share * np.where(np.isneginf(log_scale)[..., None], 0.0, relative)
        chance = np.exp(log_chance)
        units = self._units(side)
        slope = relative * (1.0 + x * (chance - 1.0)) * units
        bend = -relative * self.kappa * (1.0 - chance) * (2.0 - x * (1.0 - 2.0 * chance)) * units**2
        return log_scale, slope.sum(axis=-1), bend.sum(axis=-1)

    def _units(self, side: Side) -> Floats:
        return self.ratio if side == "prompt" else np.ones_like(self.ratio)


def log_odds(table: AdvertTable, rows: Ints, market: MarketParameters, demand: Demand) -> Floats:
    """Return log(A/S) at price zero of the nodes in ``rows`` of ``table``, float64 [len(rows), segments].

    Exact for monopolists too: S is summed without the node instead of subtracted.
    """
    found = np.empty((len(rows), len(demand)))
    for column, segment in enumerate(demand):
        seen = segment.market(market)
        weights = choice_weights(table, seen)
        sums = messages(table, weights, seen)
        paid = table.price_wei + segment.prompt_ratio * table.prompt_wei(segment.held)
        log_through = (
            sums.forward[table.start[rows]]
            + sums.backward[table.stop[rows]]
            - weights[rows] / seen.temperature
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            rest = sums.log_z + np.log(-np.expm1(np.minimum(log_through - sums.log_z, 0.0)))
        for i in np.flatnonzero(log_through > sums.log_z - 1e-3):
            rest[i] = log_z_without(table, weights, seen, rows[i])
        log_free = log_through + segment.alpha / market.p_ref / seen.temperature * paid[rows]
        with np.errstate(invalid="ignore"):
            found[:, column] = np.where(np.isneginf(log_free), -np.inf, log_free - rest)
    return found


def ascend(
    curve: RevenueCurve,
    price: Floats | float,
    prompt: Floats | float = 0.0,
    *,
    side: Side = "generated",
    damping: float = 1.0,
) -> Floats:
    """Take one step of gradient ascent on the price of ``side`` (paper eq. 5) with a controlled step size.

    The step is ``damping`` / |d2R/dp2| times the gradient, at most a halving of the price or the addition of the
    larger of the price and T / alpha, and is halved until the gradient keeps its sign: it never passes a maximum,
    so it cannot oscillate around one. Returns the new price, of the shape of ``price``.
    """
    old = np.asarray(price if side == "generated" else prompt, dtype=np.float64)

    def at(value: Floats) -> tuple[Floats, Floats]:
        pair = (value, prompt) if side == "generated" else (price, value)
        return curve.derivatives(pair[0], pair[1], side)[1:]

    slope, bend = at(old)
    up = np.maximum(old, 1.0 / max(float(curve.kappa.max()), 1e-12))
    with np.errstate(divide="ignore", invalid="ignore"):
        newton = np.where(bend < 0, damping * slope / -bend, np.copysign(np.inf, slope))
    change = np.where(slope == 0, 0.0, np.clip(newton, -0.5 * old, up))
    for _ in range(60):
        passed = at(old + change)[0] * slope < 0
        if not passed.any():
            break
        change = np.where(passed, 0.5 * change, change)
    return old + change


def best_response(curve: RevenueCurve, prompt: Floats | float = 0.0) -> Floats:
    """Return the price of most revenue, in units of p_ref: x = 1 + W0(A / (e S)), inf for a monopolist.

    The paper holds that no closed form exists; W0 is Lambert's function, here as the Wright omega of
    log(A/S) - 1, which does not overflow. Over several segments the maximum lies between the segments' own,
    and the ascent finishes the work from the best of them. A node on no path gets the limit x = 1.
    """
    from scipy.special import wrightomega  # a third of a second, and nodes that serve never ask

    with np.errstate(divide="ignore"):
        own = (1.0 + np.asarray(wrightomega(curve.log_odds - 1.0)).real) / curve.kappa
    own = np.maximum(own - curve.ratio * np.asarray(prompt)[..., None], 0.0)
    if own.shape[-1] == 1:
        return np.asarray(own[..., 0])
    # Outside the segments' own optima every R falls; inside there may be several hills, so look before
    # climbing.
    bounded = np.clip(own, 1e-12, _UNBOUNDED)
    spots = np.geomspace(bounded.min(axis=-1), bounded.max(axis=-1), 64)
    worth = np.stack([curve.revenue(spot, prompt) for spot in spots])
    price = np.take_along_axis(spots, np.argmax(worth, axis=0)[None], axis=0)[0]
    for _ in range(200):
        higher = ascend(curve, price, prompt)
        if np.all(np.abs(higher - price) <= 1e-13 * np.maximum(price, 1.0)):
            break
        price = higher
    return np.asarray(price)


@dataclass(frozen=True, slots=True)
class PriceStep:
    """One price update with everything that it was computed from, so that a person can see why a price moved.

    Attributes:
        peer, start, stop: whose price, and the layers it serves.
        price_wei, prompt_price_wei: before the step, wei per token.
        next_price_wei, next_prompt_price_wei: after it.
        best_response_wei: where the ascent is heading if nobody else moves, within floor and ceiling.
        marginal: probability that a client's path uses this node.
        revenue_wei: expected, per generated token that any client of the model asks for, rounded.
        gradient, eta: dR/dp in normalised units, and the step size taken along it (0 where it is flat).
        log_odds: log(A/S) at price zero for each demand segment.
        floor_wei, ceiling_wei: bounds of the price.
        rivals: adverts of other peers that overlap this one's layers.
        adverts: adverts that the step was computed from, the own one included.
        market, demand: parameters used.
        bound: which bound the new price rests on, if any.
    """

    peer: str
    start: int
    stop: int
    price_wei: int
    prompt_price_wei: int
    next_price_wei: int
    next_prompt_price_wei: int
    best_response_wei: int
    marginal: float
    revenue_wei: int
    gradient: float
    eta: float
    log_odds: tuple[float, ...]
    floor_wei: int
    ceiling_wei: int
    rivals: int
    adverts: int
    market: MarketParameters
    demand: tuple[tuple[float, float, float], ...]
    bound: Literal["floor", "ceiling"] | None


def price_step(
    own: Node,
    adverts: Sequence[Node] | AdvertTable,
    *,
    layers: int,
    market: MarketParameters,
    demand: Demand | None = None,
    floor_wei: int = 0,
    ceiling_wei: int = MAX_PRICE_WEI,
    damping: float = 1.0,
) -> PriceStep:
    """Take one step of gradient ascent on ``own``'s expected revenue against the adverts seen.

    Args:
        own: the provider's current advert; an advert of the same id among ``adverts`` is replaced by it.
        adverts: what the order book holds for this model.
        layers: m.
        market: parameters published with the model.
        demand: segments of clients; by default all share the alpha of ``market``.
        floor_wei: least price, such as the provider's own cost per token.
        ceiling_wei: highest price; where a monopolist ends who has no outside option to fear.
        damping: 0 < damping <= 1, the share of a full step to take.

    Where clients differ in their prompt ratio the prompt price climbs its own gradient; otherwise only the
    sum of both matters, and the prompt price keeps its proportion to the other. What is held costs the same part of the
    prompt price after the step as before. A node that no complete path
    contains keeps its price. One step is at most a halving or a doubling, unless floor or ceiling move the price
    further.
    """
    segments = uniform_demand(market) if demand is None else tuple(demand)
    check_demand(segments)
    others = adverts if isinstance(adverts, AdvertTable) else AdvertTable.of(adverts, layers)
    table, row = _with_own(others, own)
    odds = log_odds(table, np.array([row]), market, segments)[0]
    # From here on a prompt token counts as much as is paid for it, of the prompt price.
    segments = tuple(
        replace(each, prompt_ratio=each.prompt_ratio * _paid_part(own, each.held), held=0.0)
        for each in segments
    )
    curve = RevenueCurve.of(odds, segments, market)
    price, prompt = own.price_wei / market.p_ref, own.prompt_price_wei / market.p_ref
    slope = float(curve.gradient(price, prompt))
    low, high = floor_wei / market.p_ref, ceiling_wei / market.p_ref

    target = _bounded(price, float(ascend(curve, price, prompt, damping=damping)))
    next_price = min(max(target, low), high)
    if len({segment.prompt_ratio for segment in segments}) > 1:
        climbed = float(ascend(curve, next_price, prompt, side="prompt", damping=damping))
        next_prompt = _bounded(prompt, climbed)
        next_prompt = min(max(next_prompt, 0.0), high)
    else:
        next_prompt = prompt * next_price / price if price else prompt
    best = min(max(float(best_response(curve, prompt)), low), high)
    overlap = (table.start < own.stop) & (table.stop > own.start)
    return PriceStep(
        peer=own.id,
        start=own.start,
        stop=own.stop,
        price_wei=own.price_wei,
        prompt_price_wei=own.prompt_price_wei,
        next_price_wei=_wei(next_price, market, floor_wei, ceiling_wei),
        next_prompt_price_wei=_wei(next_prompt, market, 0, ceiling_wei),
        best_response_wei=_wei(best, market, floor_wei, ceiling_wei),
        marginal=float(curve.marginal(price, prompt)),
        revenue_wei=round(float(curve.revenue(price, prompt)) * market.p_ref),
        gradient=slope,
        eta=(next_price - price) / slope if slope else 0.0,
        log_odds=tuple(float(value) for value in odds),
        floor_wei=floor_wei,
        ceiling_wei=ceiling_wei,
        rivals=int(overlap.sum()) - 1,
        adverts=len(table),
        market=market,
        demand=tuple((segment.share, segment.alpha, segment.prompt_ratio) for segment in segments),
        bound="floor" if target < low else "ceiling" if target > high else None,
    )


def _paid_part(own: Node, held: float) -> float:
    """Of the prompt price, for a prompt token of which a share ``held`` is in a parked session."""
    return own.prompt_wei(held) / own.prompt_price_wei if own.prompt_price_wei else 1.0


def _log_expit(x: Floats) -> Floats:
    """log(1 / (1 + exp(-x))), of infinities as well."""
    return np.asarray(-np.logaddexp(0.0, -x))


def _bounded(old: float, new: float) -> float:
    return min(new, max(MOST_RISE * old, LEAST_PRICE))


def _wei(price: float, market: MarketParameters, low: int, high: int) -> int:
    return min(max(round(price * market.p_ref), low), high)


def _with_own(others: AdvertTable, own: Node) -> tuple[AdvertTable, int]:
    """Return the table with ``own`` as its last row, in place of any row of the same id, and that row."""
    mine = AdvertTable.of([own], others.layers)
    if not len(mine):
        raise BadNode(f"Node {own.id} reaches beyond layer {others.layers} or asks over {MAX_PRICE_WEI} wei.")
    keep = np.array([name != own.id for name in others.ids], dtype=bool)
    table = (others if keep.all() else others.rows(keep)).joined(mine)
    return table, len(table) - 1
