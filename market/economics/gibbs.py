"""The Gibbs choice over whole paths (paper eq. 3): P(path) proportional to exp(-W(path) / T).

Sums over all paths come from one forward and one backward pass over the layer boundaries, in log space, so
they cost O(V + E) and neither overflow nor underflow. The outside option is one more path of weight w_0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hypercluster.market.economics.graph import AdvertTable, Floats, Ints, NoPath
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import by_boundary, lightest_by_range


@dataclass(frozen=True, eq=False)
class Messages:
    """Log sums over partial paths.

    Attributes:
        forward: over all chains from boundary 0 to each boundary, float64 [m+1]; -inf where there is none.
        backward: from each boundary to m, float64 [m+1].
        log_outside: minus w_0 / T; -inf without an outside option.
    """

    forward: Floats
    backward: Floats
    log_outside: float

    @property
    def log_paths(self) -> float:
        """Log of the sum over all paths, without the outside option; -inf where there is no path."""
        return float(self.forward[-1])

    @property
    def log_z(self) -> float:
        """Log partition function, outside option included."""
        return float(np.logaddexp(self.forward[-1], self.log_outside))


@dataclass(frozen=True, eq=False)
class Marginals:
    """Probability that a client's path uses each node, float64 [n], and that it goes elsewhere."""

    probability: Floats
    outside: float
    log_z: float


def choice_weights(table: AdvertTable, market: MarketParameters) -> Floats:
    """Return the weights that the Gibbs choice works on, float64 [n].

    With ``market.variety`` 1 they are the nodes' own. Below, T (1 - variety) log n is added for the n nodes
    of a range, which takes back what their mere number adds to the sum over paths.
    """
    weights = table.weights(market)
    if market.variety < 1.0:
        crowd = np.bincount(table.range_key)[table.range_key]
        weights = weights + market.temperature * (1.0 - market.variety) * np.log(crowd)
    return weights


def log_sums_by_range(table: AdvertTable, weights: Floats, temperature: float) -> Floats:
    """Return log sum of exp(-w / T) over each range's nodes, float64 [m+1, m+1] by (start, stop)."""
    lightest = lightest_by_range(table, weights)
    relative = np.exp((lightest.ravel()[table.range_key] - weights) / temperature)
    sums = np.bincount(table.range_key, relative, minlength=lightest.size).reshape(lightest.shape)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(sums) - lightest / temperature)


def log_sum_exp(values: Floats) -> float:
    """Return log(sum(exp(values))) of a vector, -inf of an empty one or of nothing but -inf."""
    peak = float(values.max(initial=-math.inf))
    return peak if math.isinf(peak) else peak + math.log(float(np.exp(values - peak).sum()))


def log_forward(log_range: Floats) -> Floats:
    """Return the log sums from boundary 0 to each boundary, float64 [m+1], for a matrix by (start, stop)."""
    forward = np.full(len(log_range), -np.inf)
    forward[0] = 0.0
    for stop in np.flatnonzero((log_range > -np.inf).any(axis=0)):
        forward[stop] = log_sum_exp(forward[:stop] + log_range[:stop, stop])
    return forward


def messages(table: AdvertTable, weights: Floats, market: MarketParameters) -> Messages:
    """Run the forward and the backward pass for node ``weights``, float64 [n]."""
    log_range = log_sums_by_range(table, weights, market.temperature)
    backward = log_forward(log_range[::-1, ::-1].T)[::-1]
    return Messages(log_forward(log_range), backward, -market.outside_weight / market.temperature)


def log_z_without(table: AdvertTable, weights: Floats, market: MarketParameters, row: int) -> float:
    """Return the log partition function of the network without one node, outside option included."""
    log_range = log_sums_by_range(table, weights, market.temperature)
    same = table.range_key == table.range_key[row]
    same[row] = False
    log_range[table.start[row], table.stop[row]] = log_sum_exp(-weights[same] / market.temperature)
    log_paths = log_forward(log_range)[-1]
    return float(np.logaddexp(log_paths, -market.outside_weight / market.temperature))


def marginals(table: AdvertTable, market: MarketParameters, weights: Floats | None = None) -> Marginals:
    """Return every node's probability of being on a client's path.

    ``weights`` default to `choice_weights`. The probabilities of the nodes that cover one layer sum to one
    less the outside option. Without any path the client goes elsewhere, or `NoPath` where it cannot.
    """
    own = choice_weights(table, market) if weights is None else weights
    sums = messages(table, own, market)
    if sums.log_z == -math.inf:
        raise table.no_path() or NoPath(0, table.layers)
    log_p = sums.forward[table.start] + sums.backward[table.stop] - own / market.temperature - sums.log_z
    return Marginals(np.minimum(np.exp(log_p), 1.0), math.exp(sums.log_outside - sums.log_z), sums.log_z)


def sample_paths(
    table: AdvertTable,
    market: MarketParameters,
    count: int,
    rng: np.random.Generator,
    weights: Floats | None = None,
) -> Ints:
    """Draw ``count`` paths from the Gibbs distribution: forward filtering, backward sampling.

    Returns:
        Rows of the table in the order of their layers, int64 [count, longest path], padded on the right with
        -1; a row of nothing but -1 is a client that took the outside option.

    Raises:
        NoPath: there is neither a path nor an outside option.
    """
    own = choice_weights(table, market) if weights is None else weights
    sums = messages(table, own, market)
    if sums.log_z == -math.inf:
        raise table.no_path() or NoPath(0, table.layers)
    # Nodes in the order of their stop: each boundary's arrivals are one stretch of a cumulative sum, of
    # total 1.
    order = np.argsort(table.stop.astype(np.uint16), kind="stable")
    start, stop = table.start[order], table.stop[order]
    with np.errstate(invalid="ignore"):
        arrival = np.exp(sums.forward[start] - own[order] / market.temperature - sums.forward[stop])
    cumulative = np.concatenate([[0.0], np.cumsum(np.nan_to_num(arrival))])
    edges = np.searchsorted(stop, np.arange(table.layers + 2))
    low, high = cumulative[edges[:-1]], cumulative[edges[1:]]

    outside = rng.random(count) < math.exp(sums.log_outside - sums.log_z)
    boundary = np.where(outside, 0, table.layers)
    hops = []
    while boundary.any():
        draw = low[boundary] + rng.random(count) * (high[boundary] - low[boundary])
        index = np.searchsorted(cumulative, draw, side="right") - 1
        index = np.clip(index, edges[boundary], edges[boundary + 1] - 1)
        hops.append(np.where(boundary > 0, order[index], -1))
        boundary = np.where(boundary > 0, start[index], 0)
    if not hops:
        return np.empty((count, 0), dtype=np.int64)
    paths = np.stack(hops[::-1], axis=1)
    # Shorter paths ended early on the way back, so their padding is in front: rotate it to the end.
    shift = (paths < 0).sum(axis=1)
    columns = (np.arange(paths.shape[1]) + shift[:, None]) % paths.shape[1]
    return np.take_along_axis(paths, columns, axis=1)


def linked_marginals(table: AdvertTable, market: MarketParameters, links: Floats) -> Marginals:
    """Return the marginals where stages pass activations on directly, ``links`` in ms, float64 [n, n].

    As `marginals`, with (1 - alpha) l_ij / c_ref on every edge; O(V + E).
    """
    per_ms = (1.0 - market.alpha) / market.c_ref / market.temperature
    log_node, log_link, into = _linked_forward(table, market, links)
    arriving, departing = by_boundary(table.stop, table.layers), by_boundary(table.start, table.layers)
    onward = np.full(len(table), -np.inf)
    onward[arriving[table.layers]] = -per_ms * table.latency_ms[arriving[table.layers]]
    for boundary in range(table.layers - 1, 0, -1):
        pairs = np.ix_(arriving[boundary], departing[boundary])
        reach = (onward + log_node)[departing[boundary]][None, :] + log_link[pairs]
        onward[arriving[boundary]] = np.logaddexp.reduce(reach, axis=1) if reach.size else -np.inf
    last = arriving[table.layers]
    log_outside = -market.outside_weight / market.temperature
    log_z = float(np.logaddexp(log_sum_exp((into + log_node + onward)[last]), log_outside))
    if log_z == -math.inf:
        raise table.no_path() or NoPath(0, table.layers)
    probability: npt.NDArray[np.float64] = np.minimum(np.exp(into + log_node + onward - log_z), 1.0)
    return Marginals(probability, math.exp(log_outside - log_z), log_z)


def sample_linked_path(
    table: AdvertTable, market: MarketParameters, links: Floats, rng: np.random.Generator
) -> list[int]:
    """Draw a path from the distribution of `linked_marginals`, nobody going elsewhere; its rows in their order.

    Raises NoPath.
    """
    log_node, log_link, into = _linked_forward(table, market, links)
    arriving = by_boundary(table.stop, table.layers)
    per_ms = (1.0 - market.alpha) / market.c_ref / market.temperature
    last = arriving[table.layers]
    odds = (into + log_node)[last] - per_ms * table.latency_ms[last]
    rows: list[int] = []
    while True:
        most = odds.max(initial=-np.inf)
        if most == -np.inf:
            raise table.no_path() or NoPath(0, table.layers)
        chances = np.exp(odds - most)
        row = int(last[rng.choice(len(last), p=chances / chances.sum())])
        rows.append(row)
        if table.start[row] == 0:
            return rows[::-1]
        last = arriving[table.start[row]]
        odds = (into + log_node)[last] + log_link[last, row]


def _linked_forward(
    table: AdvertTable, market: MarketParameters, links: Floats
) -> tuple[Floats, Floats, Floats]:
    """Logarithms by node: of its own weight without delays, float64 [n], of its links, [n, n], and of all that leads to
    it, [n].
    """
    per_ms = (1.0 - market.alpha) / market.c_ref / market.temperature
    log_node = -choice_weights(table, market) / market.temperature + 2.0 * per_ms * table.latency_ms
    log_link = -per_ms * links
    arriving, departing = by_boundary(table.stop, table.layers), by_boundary(table.start, table.layers)
    into = np.full(len(table), -np.inf)
    into[departing[0]] = -per_ms * table.latency_ms[departing[0]]
    for boundary in range(1, table.layers):
        pairs = np.ix_(arriving[boundary], departing[boundary])
        reach = (into + log_node)[arriving[boundary]][:, None] + log_link[pairs]
        into[departing[boundary]] = np.logaddexp.reduce(reach, axis=0) if reach.size else -np.inf
    return log_node, log_link, into
