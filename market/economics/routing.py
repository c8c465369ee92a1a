"""Min-weight paths through the layer graph (paper, appendices A and B).

Two forms of the same algorithm. Where the client relays every hop, a node's latency is its own, adverts
become edges between layer boundaries 0..m and only the lightest advert of each range can matter: NumPy
reduces a million adverts to an (m+1) x (m+1) matrix. With pairwise link latencies the nodes themselves are
visited in topological order. Both are linear in nodes and edges.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hypercluster.market.economics.graph import AdvertTable, Floats, Ints, Node, NoPath, routable
from hypercluster.market.economics.parameters import MarketParameters


@dataclass(frozen=True, slots=True)
class Path:
    """A chain of nodes from layer 0 to m.

    Attributes:
        nodes: in the order of their layers.
        weight: paper eq. 1 and risk summed over nodes and links; infinite prices do not exist, so it is finite.
        price_wei, prompt_price_wei: sum over the hops, wei per generated and per prompt token.
        ms: expected time per generated token.
        waived: names of what it should have kept to and could not; see `node.client.rules`.
    """

    nodes: tuple[Node, ...]
    weight: float
    price_wei: int
    prompt_price_wei: int
    ms: float
    waived: tuple[str, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Names of the nodes in order."""
        return [node.id for node in self.nodes]

    @property
    def risk(self) -> float:
        """Sum of the hops' risks: exp(-risk) is the probability that all of them are honest."""
        return math.fsum(node.risk for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Rival:
    """A node off the chosen path: ``weight`` of the best whole path through it, ``excess`` over the chosen
    one.

    A node that no complete chain contains is not reported.
    """

    node: Node
    weight: float
    excess: float


def best_path(
    nodes: Sequence[Node],
    *,
    layers: int,
    market: MarketParameters,
    latency: Floats | None = None,
    exclude: Collection[str] = (),
) -> Path:
    """Return the path of least weight from layer 0 to ``layers``; ties go to the node that comes first.

    Args:
        nodes: adverts, with the latencies that this client measured.
        layers: m, the number of layers of the model.
        market: alpha and references.
        latency: one-way ms between nodes, float64 [n, n] (`graph.link_matrix`), for stages that pass
            activations on directly; by default the client relays every hop.
        exclude: ids to leave out, for example nodes that refused or failed a moment ago.

    Raises:
        NoPath: names the first layer that nobody serves.
    """
    usable = routable(nodes, layers, exclude)
    chosen = [nodes[i] for i in usable]
    table = AdvertTable.of(chosen, layers)
    if latency is None:
        rows = cheapest_rows(table, table.weights(market))
        return path_of([chosen[i] for i in rows], market)
    links = latency[np.ix_(usable, usable)]
    rows = linked_rows(table, market, links)
    return path_of([chosen[i] for i in rows], market, links[np.ix_(rows, rows)])


def path_of(nodes: Sequence[Node], market: MarketParameters, links: Floats | None = None) -> Path:
    """Add up a chain of ``nodes``; ``links`` float64 [hops, hops] are direct latencies between them in ms."""
    ms = math.fsum(node.service_ms for node in nodes)
    if links is None:
        ms += 2.0 * math.fsum(node.latency_ms for node in nodes)
    else:
        ms += nodes[0].latency_ms + nodes[-1].latency_ms + float(np.diag(links, 1).sum())
    price = sum(node.price_wei for node in nodes)
    prompt = sum(node.prompt_price_wei for node in nodes)
    paid = math.fsum(node.prompt_wei(market.held) for node in nodes)
    weight = market.alpha * (price + market.prompt_ratio * paid) / market.p_ref
    weight += (1.0 - market.alpha) * ms / market.c_ref
    weight += market.risk_weight * math.fsum(node.risk for node in nodes)
    return Path(tuple(nodes), weight, price, prompt, ms)


def cheapest_rows(table: AdvertTable, weights: Floats) -> list[int]:
    """Return the rows of the min-weight path for node ``weights``, float64 [n]; raises `NoPath`.

    The lightest advert of each range is an edge between two layer boundaries; boundaries in ascending order
    are the topological order (appendix A), and each is relaxed once (appendix B).
    """
    lightest = lightest_by_range(table, weights)
    size = table.layers + 1
    distance, previous = relax(lightest)
    if not math.isfinite(distance[-1]):
        raise table.no_path() or NoPath(0, table.layers)
    keys = []
    stop = table.layers
    while stop:
        keys.append(previous[stop] * size + stop)
        stop = previous[stop]
    # One pass finds, among the lightest adverts of their ranges, those on the path; the first of equals wins.
    on_path = np.zeros(size * size, dtype=bool)
    on_path[keys] = True
    candidates = np.flatnonzero(on_path[table.range_key])
    winners = candidates[weights[candidates] == lightest.ravel()[table.range_key[candidates]]]
    row_of = {int(table.range_key[row]): int(row) for row in winners[::-1]}
    return [row_of[key] for key in reversed(keys)]


def lightest_by_range(table: AdvertTable, weights: Floats) -> Floats:
    """Return the least weight per range, float64 [m+1, m+1] by (start, stop); infinite where nobody serves
    it.
    """
    size = table.layers + 1
    lightest = np.full(size * size, np.inf)
    np.minimum.at(lightest, table.range_key, weights)
    return lightest.reshape(size, size)


def relax(lightest: Floats) -> tuple[list[float], list[int]]:
    """Return the least weight from boundary 0 to each boundary, and the boundary before it on the way, [m+1].

    Ranges come out of the matrix by (start, stop) in the order of their start, which is topological
    (appendix A), and each is relaxed once (appendix B). Few are left by now, so plain Python is as fast as
    anything.
    """
    distance = [0.0] + [math.inf] * (len(lightest) - 1)
    previous = [0] * len(lightest)
    starts, stops = np.nonzero(lightest < math.inf)
    edges = zip(starts.tolist(), stops.tolist(), lightest[starts, stops].tolist(), strict=True)
    for start, stop, weight in edges:
        reach = distance[start] + weight
        if reach < distance[stop]:
            distance[stop], previous[stop] = reach, start
    return distance, previous


def rivals(
    nodes: Sequence[Node],
    *,
    layers: int,
    market: MarketParameters,
    exclude: Collection[str] = (),
    latency: Floats | None = None,
) -> list[Rival]:
    """Return the nodes off the best path, the closest first, each with the best whole path that uses it.

    ``excess`` says by how much a node lost: 0 is a tie, and lowering its price by
    ``excess * p_ref / alpha`` wei would have won the hop. ``latency`` is as for `best_path`. Raises `NoPath`.
    """
    usable = routable(nodes, layers, exclude)
    table = AdvertTable.of([nodes[i] for i in usable], layers)
    weights = table.weights(market)
    if latency is None:
        chosen = set(cheapest_rows(table, weights))
        lightest = lightest_by_range(table, weights)
        reach = np.array(relax(lightest)[0])
        onward = np.array(relax(lightest[::-1, ::-1].T)[0])[::-1]
        through = reach[table.start] + weights + onward[table.stop]
        best = reach[-1]
    else:
        links = latency[np.ix_(usable, usable)]
        chosen = set(linked_rows(table, market, links))
        back = replace(table, start=layers - table.stop, stop=layers - table.start)
        through = _linked_reach(table, market, links)[0] + _linked_reach(back, market, links.T)[0]
        through -= _without_delays(table, market)
        best = through[list(chosen)].min()
    by_id = {node.id: node for node in nodes}
    found = [
        Rival(by_id[table.ids[i]], float(through[i]), float(max(through[i] - best, 0.0)))
        for i in range(len(table))
        if i not in chosen and math.isfinite(through[i])
    ]
    return sorted(found, key=lambda rival: rival.weight)


def by_boundary(column: Ints, layers: int) -> list[Ints]:
    """Return for each boundary 0..m the rows whose ``column``, int64 [n], equals it, in ascending order."""
    order = np.argsort(column.astype(np.uint16), kind="stable")
    cuts = np.searchsorted(column[order], np.arange(1, layers + 1))
    return np.split(order, cuts)


def linked_rows(table: AdvertTable, market: MarketParameters, links: Floats) -> list[int]:
    """Return the rows of the min-weight path with pairwise ``links`` in ms, float64 [n, n]; raises `NoPath`.

    The client reaches the first node and hears from the last over their own latency; between, edge i -> j
    adds (1 - alpha) l_ij / c_ref. Linear in nodes and edges.
    """
    per_ms = (1.0 - market.alpha) / market.c_ref
    distance, previous = _linked_reach(table, market, links)
    last = by_boundary(table.stop, table.layers)[table.layers]
    totals = distance[last] + per_ms * table.latency_ms[last]
    if not len(last) or not math.isfinite(totals.min()):
        raise table.no_path() or NoPath(0, table.layers)
    row = int(last[np.argmin(totals)])
    rows = [row]
    while previous[row] >= 0:
        row = int(previous[row])
        rows.append(row)
    return rows[::-1]


def _without_delays(table: AdvertTable, market: MarketParameters) -> Floats:
    """Weights of the nodes, float64 [n], but for the way from the client and back."""
    return table.weights(market) - 2.0 * (1.0 - market.alpha) / market.c_ref * table.latency_ms


def _linked_reach(table: AdvertTable, market: MarketParameters, links: Floats) -> tuple[Floats, Ints]:
    """The least weight from the client up to each node, itself included, float64 [n], and the row before it there."""
    per_ms = (1.0 - market.alpha) / market.c_ref
    own = _without_delays(table, market)
    distance = np.full(len(table), np.inf)
    previous = np.full(len(table), -1, dtype=np.int64)
    arriving, departing = by_boundary(table.stop, table.layers), by_boundary(table.start, table.layers)
    first = departing[0]
    distance[first] = own[first] + per_ms * table.latency_ms[first]
    for boundary in range(1, table.layers):
        sources, targets = arriving[boundary], departing[boundary]
        if not len(sources) or not len(targets):
            continue
        reach = distance[sources][:, None] + per_ms * links[np.ix_(sources, targets)]
        best = np.argmin(reach, axis=0)
        distance[targets] = reach[best, np.arange(len(targets))] + own[targets]
        previous[targets] = sources[best]
    return distance, previous
