"""Which layers to serve: the range with the highest expected revenue at its own best response.

A newcomer on layers [a, b) changes only the paths through itself, so one forward and one backward pass over
the others' adverts price every range that fits the machine at once. Prompts count as they do for prices: the demand
says how many prompt tokens come with a generated one, and a prompt token costs a share of the price of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hypercluster.market.economics.demand import Demand, check_demand, uniform_demand
from hypercluster.market.economics.gibbs import choice_weights, log_sums_by_range, messages
from hypercluster.market.economics.graph import AdvertTable, Floats, Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.pricing import RevenueCurve, best_response
from hypercluster.market.errors import MarketError

PROMPT_PART = 4
"""A provider that was told nothing else asks for a prompt token this part of a generated one's price, in whole wei."""
PROMPT_SHARE = 1 / PROMPT_PART


class NothingFits(MarketError):
    """The machine holds not even one layer."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a provider could serve with.

    Attributes:
        memory_bytes: for weights, after what sessions and the system need.
        layer_ms: compute time per generated token and layer; see `ModelSize.layer_costs`.
        overhead_ms: per token and step, whatever the range.
        latency_ms: one way to a typical client.
    """

    memory_bytes: int
    layer_ms: float
    overhead_ms: float = 0.0
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Bytes of a model's parts: each layer, what every shard repeats, the embedding, and the head.

    `layer_costs` are the times of the layers, and `last_cost` that of the head, in a machine's `layer_ms`; where there
    are none each layer costs one and the head nothing. Ranges begin at the layers of `starts` only (None: anywhere).
    """

    layer_bytes: Sequence[int]
    shared_bytes: int = 0
    first_bytes: int = 0
    last_bytes: int = 0
    layer_costs: Sequence[float] = ()
    last_cost: float = 0.0
    starts: Sequence[int] | None = None

    def costs(self, start: npt.NDArray[np.intp], stop: npt.NDArray[np.intp]) -> Floats:
        """Time of ranges of layers [start, stop), int [n] each, in a machine's `layer_ms`."""
        ends = np.concatenate([[0.0], np.cumsum(self.layer_costs or np.ones(len(self.layer_bytes)))])
        return np.asarray(ends[stop] - ends[start] + self.last_cost * (stop == len(self.layer_bytes)))

    def need(self, start: int, stop: int) -> int:
        """Bytes of layers [start, stop) with what their shard holds besides."""
        first = self.first_bytes if start == 0 else 0
        last = self.last_bytes if stop == len(self.layer_bytes) else 0
        return sum(self.layer_bytes[start:stop]) + self.shared_bytes + first + last

    def fitting(self, memory_bytes: int) -> npt.NDArray[np.bool_]:
        """Return which ranges fit, bool [m+1, m+1] by (start, stop)."""
        ends = np.concatenate([[0], np.cumsum(self.layer_bytes)])
        need = ends[None, :] - ends[:, None] + self.shared_bytes
        need[0, :] += self.first_bytes
        need[:, -1] += self.last_bytes
        some = np.triu(np.ones_like(need, dtype=bool), k=1)
        if self.starts is not None:  # who ends where nobody can go on is on no path
            begin = np.isin(np.arange(len(ends)), self.starts)
            some &= begin[:, None] & (begin | (np.arange(len(ends)) == len(self.layer_bytes)))
        return np.asarray(some & (need <= memory_bytes))


@dataclass(frozen=True, slots=True)
class Placement:
    """One range and what it would earn.

    Attributes:
        start, stop: half-open range of layers.
        cost_ms: compute time per generated token on it.
        price_wei: best response to the others' prices, wei per generated token.
        prompt_price_wei: what a prompt token costs with it, wei.
        marginal: probability that a client's path uses it at that price.
        revenue_wei: expected, per generated token that any client asks for, from it and the prompt tokens with it.
        unserved: layers in it that nobody else serves.
    """

    start: int
    stop: int
    cost_ms: float
    price_wei: int
    marginal: float
    revenue_wei: float
    unserved: int
    prompt_price_wei: int = 0


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do: ``best`` range, ``current`` as it stands, whether to ``move``, and why."""

    best: Placement
    current: Placement | None
    move: bool
    reason: str


def placements(
    machine: Machine,
    model: ModelSize,
    adverts: Sequence[Node] | AdvertTable,
    *,
    market: MarketParameters,
    demand: Demand | None = None,
    own_id: str = "",
    floor_wei: int = 0,
    ceiling_wei: int = 10**15,
    prompt_share: float = PROMPT_SHARE,
    cached_share: float = 1.0,
) -> list[Placement]:
    """Return every range that fits ``machine``, the best first.

    A prompt token costs ``prompt_share`` of what a generated one does, and ``cached_share`` of that where a parked
    session holds it. How many there are says the demand; none, and prompts bring nothing.

    Ranges that complete a path are ranked by expected revenue. While no path exists nothing earns, and ranges
    rank by how many unserved layers they cover, then by how few others serve theirs, so that a network can
    start. Adverts of ``own_id`` are left out. Raises `NothingFits`.
    """
    layers = len(model.layer_bytes)
    segments = uniform_demand(market) if demand is None else tuple(demand)
    check_demand(segments)
    table = adverts if isinstance(adverts, AdvertTable) else AdvertTable.of(adverts, layers, {own_id})
    if isinstance(adverts, AdvertTable) and own_id in table.ids:
        table = table.rows(np.array([name != own_id for name in table.ids]))
    start, stop = np.nonzero(model.fitting(machine.memory_bytes))
    if not len(start):
        smallest = np.argwhere(model.fitting(sum(model.layer_bytes) * 2 + 2**62))
        least = min(model.need(int(a), int(b)) for a, b in smallest)
        raise NothingFits(
            f"{machine.memory_bytes} bytes hold no range of layers of this model: the smallest needs {least} bytes."
        )
    cost_ms = machine.overhead_ms + machine.layer_ms * model.costs(start, stop)
    crowd = np.bincount(table.range_key, minlength=(layers + 1) ** 2)[start * (layers + 1) + stop]
    odds = np.empty((len(start), len(segments)))
    for column, segment in enumerate(segments):
        seen = segment.market(market)
        weights = choice_weights(table, seen)
        sums = messages(table, weights, seen)
        time = (1.0 - seen.alpha) * (cost_ms + 2.0 * machine.latency_ms) / seen.c_ref / seen.temperature
        through = sums.forward[start] + sums.backward[stop] - time
        # Below full variety a newcomer also takes some of the demand that its range already draws.
        taken = (1.0 - seen.variety) * np.log1p(crowd)
        log_range = log_sums_by_range(table, weights, seen.temperature)[start, stop]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.exp(sums.forward[start] + log_range + sums.backward[stop] - sums.log_z)
            lost = np.where(
                crowd > 0, share * -np.expm1((1.0 - seen.variety) * (np.log(crowd) - np.log1p(crowd))), 0.0
            )
            rest = sums.log_z + np.log1p(-np.nan_to_num(lost))
            odds[:, column] = np.where(np.isneginf(through), -np.inf, through - taken - rest)
    held = np.array([segment.held for segment in segments])
    part = prompt_share * (1.0 - held * (1.0 - cached_share))
    told = RevenueCurve.of(odds, segments, market)
    # With its prompts a generated token costs so many times its price, which alone is chosen.
    times = 1.0 + told.ratio * part
    curve = RevenueCurve(odds, told.share * times, told.kappa * times, np.zeros_like(times))
    price = np.clip(best_response(curve), floor_wei / market.p_ref, ceiling_wei / market.p_ref)
    revenue = curve.revenue(price) * market.p_ref
    marginal = (told.share * curve.chance(price)).sum(axis=-1)
    served = _servers(table)
    missing = np.concatenate([[0], np.cumsum(served == 0)])
    servers = np.concatenate([[0.0], np.cumsum(served)])
    unserved = missing[stop] - missing[start]
    order = np.lexsort((start, (servers[stop] - servers[start]) / (stop - start), -unserved, -revenue))
    return [
        Placement(
            start=int(start[i]),
            stop=int(stop[i]),
            cost_ms=float(cost_ms[i]),
            price_wei=round(float(price[i]) * market.p_ref),
            prompt_price_wei=round(prompt_share * float(price[i]) * market.p_ref),
            marginal=float(marginal[i]),
            revenue_wei=float(revenue[i]),
            unserved=int(unserved[i]),
        )
        for i in order
    ]


def apart(ranked: Sequence[Placement], beside: Sequence[tuple[int, int]]) -> list[Placement]:
    """Return those ranges that share no layer with ranges `beside`, which are the same provider's; all if none does."""
    free = [
        each for each in ranked if all(each.stop <= start or stop <= each.start for start, stop in beside)
    ]
    return free or list(ranked)


def advise(
    ranked: Sequence[Placement],
    current: tuple[int, int] | None,
    *,
    margin: float = 0.25,
    held_s: float = float("inf"),
    dwell_s: float = 1800.0,
) -> Advice:
    """Say whether to move from ``current`` to the best of ``ranked`` (`placements`).

    Two brakes keep ranges from thrashing: a range is held for at least ``dwell_s`` seconds, and left only for
    one that earns more by ``margin`` or, while nothing earns, covers more unserved layers.
    """
    best = ranked[0]
    here = next((place for place in ranked if (place.start, place.stop) == current), None)
    if here is None:
        return Advice(best, None, True, "it serves nothing yet, or a range that does not fit")
    if here == best:
        return Advice(best, here, False, "it already serves the best range")
    if held_s < dwell_s:
        return Advice(best, here, False, f"it moved {held_s:.0f} s ago and stays for {dwell_s:.0f} s")
    if best.revenue_wei > (1.0 + margin) * here.revenue_wei:
        return Advice(best, here, True, f"the best range earns over {margin:.0%} more")
    if best.revenue_wei == 0 and best.unserved > here.unserved:
        return Advice(best, here, True, "the best range covers more layers that nobody serves")
    return Advice(best, here, False, f"the best range earns less than {margin:.0%} more")


def _servers(table: AdvertTable) -> Floats:
    """Return how many nodes serve each layer, float64 [m]."""
    change = np.zeros(table.layers + 1)
    np.add.at(change, table.start, 1.0)
    np.subtract.at(change, table.stop, 1.0)
    return np.cumsum(change)[:-1]
