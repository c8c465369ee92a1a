"""The exact Pareto frontier over price and time per token, by label setting over the layer boundaries.

The weighted sum of the paper reaches only the convex part of the frontier. Here every boundary keeps all its
non-dominated (price, ms) pairs, so each efficient path is found. Their number can grow exponentially in
theory; `epsilon` bounds it: then for every efficient path one is returned that is no slower and at most (1
+ epsilon) times as dear.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from hypercluster.market.economics.graph import AdvertTable, Floats, Ints, Node, NoPath, routable
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import Path, by_boundary, path_of
from hypercluster.market.errors import MarketError


class OutOfReach(MarketError):
    """Paths exist, but none within the limits asked for."""


def frontier(
    nodes: Sequence[Node],
    *,
    layers: int,
    market: MarketParameters,
    latency: Floats | None = None,
    epsilon: float = 0.0,
    exclude: Collection[str] = (),
) -> list[Path]:
    """Return the non-dominated paths, the cheapest first; of equals in both price and time, one.

    Args:
        nodes: adverts, with the latencies that this client measured.
        layers: m.
        market: only for the ``weight`` of the paths; the frontier depends neither on it nor on risks.
        latency: one-way ms between nodes, float64 [n, n]; by default the client relays every hop.
        epsilon: 0 is exact; else prices may be off by a factor of at most 1 + epsilon, times never.
        exclude: ids to leave out.

    Raises:
        NoPath: names the first layer that nobody serves.
    """
    usable = routable(nodes, layers, exclude)
    chosen = [nodes[i] for i in usable]
    table = AdvertTable.of(chosen, layers)
    if latency is None:
        return [path_of([chosen[i] for i in rows], market) for rows in frontier_rows(table, epsilon)]
    links = latency[np.ix_(usable, usable)]
    return [
        path_of([chosen[i] for i in rows], market, links[np.ix_(rows, rows)])
        for rows in linked_frontier_rows(table, links, epsilon)
    ]


def pick(paths: Sequence[Path], max_price_wei: int | None = None, max_ms: float | None = None) -> Path:
    """Return the path of least weight within the limits; raises `OutOfReach` where none is.

    On a frontier this is the best of all paths within the limits as far as price per generated token and time
    go, because weight rises with both; a path off the frontier may still be less risky.
    """
    within = [
        path
        for path in paths
        if (max_price_wei is None or path.price_wei <= max_price_wei)
        and (max_ms is None or path.ms <= max_ms)
    ]
    if not within:
        cheapest, fastest = min(path.price_wei for path in paths), min(path.ms for path in paths)
        raise OutOfReach(
            f"No path stays within the limits: the cheapest costs {cheapest} wei per token and the fastest "
            f"takes {fastest:.1f} ms."
        )
    return min(within, key=lambda path: path.weight)


@dataclass(frozen=True, eq=False)
class _Labels:
    """Partial paths: price int64 and ms float64, [k]; ``last`` row and ``parent`` in the pool, int64 [k]."""

    price: Ints
    ms: Floats
    last: Ints
    parent: Ints

    def __getitem__(self, keep: Ints) -> _Labels:
        return _Labels(self.price[keep], self.ms[keep], self.last[keep], self.parent[keep])

    @classmethod
    def joined(cls, parts: Sequence[_Labels]) -> _Labels:
        return cls(
            np.concatenate([part.price for part in parts]),
            np.concatenate([part.ms for part in parts]),
            np.concatenate([part.last for part in parts]),
            np.concatenate([part.parent for part in parts]),
        )


@dataclass
class _Pool:
    """All labels that were kept, so that paths can be read off backwards."""

    size: int = 0
    kept: list[_Labels] = field(default_factory=list)

    def add(self, labels: _Labels) -> Ints:
        """Keep ``labels`` and return their places in the pool, int64 [k]."""
        self.kept.append(labels)
        self.size += len(labels.price)
        return np.arange(self.size - len(labels.price), self.size)

    def paths(self, labels: _Labels) -> list[list[int]]:
        """Return the rows of each label's path in order."""
        pool = _Labels.joined(self.kept) if self.kept else labels
        found = []
        for last, parent in zip(labels.last.tolist(), labels.parent.tolist(), strict=True):
            rows = [last]
            while parent >= 0:
                rows.append(int(pool.last[parent]))
                parent = int(pool.parent[parent])
            found.append(rows[::-1])
        return found


def efficient(price: Ints, ms: Floats) -> Ints:
    """Return the places of the non-dominated pairs by rising price, int64; of equal pairs the first."""
    order = np.lexsort((ms, price))
    sorted_ms = ms[order]
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(sorted_ms)[:-1]])
    return order[sorted_ms < best_before]


def _thin(labels: _Labels, log_factor: float) -> _Labels:
    """Keep the efficient labels; with ``log_factor`` only the fastest of each price bucket of that log
    width.
    """
    labels = labels[efficient(labels.price, labels.ms)]
    if not log_factor or not len(labels.price):
        return labels
    bucket = np.floor(np.log(np.maximum(labels.price, 1)) / log_factor)
    bucket[labels.price == 0] = -1
    last = np.concatenate([bucket[1:] != bucket[:-1], [True]])
    return labels[np.flatnonzero(last)]


def _log_factor(table: AdvertTable, epsilon: float) -> float:
    # A path makes at most one hop per boundary, and each may lose a factor: together they stay in 1 +
    # epsilon.
    return math.log1p(epsilon) / max(len(np.unique(table.stop)), 1)


def frontier_rows(table: AdvertTable, epsilon: float = 0.0) -> list[list[int]]:
    """Return the rows of each efficient path where the client relays every hop; raises `NoPath`."""
    factor = _log_factor(table, epsilon)
    nodes = _useful_nodes(table)
    pool = _Pool()
    none = np.empty(0, dtype=np.int64)
    root = _Labels(np.zeros(1, dtype=np.int64), np.zeros(1), np.full(1, -1), np.full(1, -1))
    at: list[tuple[_Labels, Ints]] = [(root, np.full(1, -1))]
    arriving = by_boundary(table.stop[nodes], table.layers)
    for boundary in range(1, table.layers + 1):
        rows = nodes[arriving[boundary]]
        parts = []
        for start in np.unique(table.start[rows]).tolist():
            labels, places = at[start]
            if not len(places):
                continue
            mine = rows[table.start[rows] == start]
            parts.append(
                _Labels(
                    (labels.price[:, None] + table.price_wei[mine]).ravel(),
                    (labels.ms[:, None] + table.total_ms[mine]).ravel(),
                    np.tile(mine, len(places)),
                    np.repeat(places, len(mine)),
                )
            )
        kept = _thin(_Labels.joined(parts), factor) if parts else root[none]
        at.append((kept, pool.add(kept)))
    final = at[-1][0]
    if not len(final.price):
        raise table.no_path() or NoPath(0, table.layers)
    return pool.paths(final)


def _useful_nodes(table: AdvertTable) -> Ints:
    """Return the rows that no other node of the same range dominates, int64: the rest is on no efficient
    path.
    """
    order = np.lexsort((table.total_ms, table.price_wei, table.range_key))
    kept = []
    for rows in np.split(order, np.flatnonzero(np.diff(table.range_key[order])) + 1):
        ms = table.total_ms[rows]
        before = np.concatenate([[np.inf], np.minimum.accumulate(ms)[:-1]])[: len(ms)]
        kept.append(rows[ms < before])
    return np.concatenate(kept) if kept else order


def linked_frontier_rows(table: AdvertTable, links: Floats, epsilon: float = 0.0) -> list[list[int]]:
    """Return the rows of each efficient path with direct ``links`` in ms, float64 [n, n]; raises `NoPath`.

    Labels are kept per node instead of per boundary, because the way on depends on the node.
    """
    factor = _log_factor(table, epsilon)
    pool = _Pool()
    labels: dict[int, tuple[_Labels, Ints]] = {}
    arriving, departing = by_boundary(table.stop, table.layers), by_boundary(table.start, table.layers)
    for boundary in range(table.layers):
        for row in departing[boundary].tolist():
            if boundary == 0:
                start = np.full(1, -1)
                parts = [_Labels(np.zeros(1, np.int64), table.latency_ms[[row]], np.full(1, row), start)]
            else:
                parts = [
                    _Labels(before.price, before.ms + links[i, row], np.full(len(places), row), places)
                    for i in arriving[boundary].tolist()
                    if i in labels
                    for before, places in [labels[i]]
                ]
            if parts:
                reach = _Labels.joined(parts)
                kept = _thin(
                    _Labels(
                        reach.price + table.price_wei[row],
                        reach.ms + table.service_ms[row],
                        reach.last,
                        reach.parent,
                    ),
                    factor,
                )
                labels[row] = (kept, pool.add(kept))
    finals = [
        _Labels(kept.price, kept.ms + table.latency_ms[row], kept.last, kept.parent)
        for row in arriving[table.layers].tolist()
        if row in labels
        for kept, _ in [labels[row]]
    ]
    if not finals:
        raise table.no_path() or NoPath(0, table.layers)
    return pool.paths(_thin(_Labels.joined(finals), 0.0))
