"""Several good paths at once, for failover: the k best, or the k best that share few nodes."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from hypercluster.market.economics.graph import AdvertTable, Floats, Node, NoPath, routable
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import Path, path_of


def k_best(
    nodes: Sequence[Node],
    *,
    layers: int,
    k: int,
    market: MarketParameters,
    share: int | None = None,
    exclude: Collection[str] = (),
) -> list[Path]:
    """Return up to ``k`` different paths by rising weight; fewer where no more exist.

    Args:
        nodes: adverts; the client relays every hop.
        layers: m.
        k: how many paths.
        market: alpha and references.
        share: each path has at most this many nodes in common with every one before it. Each is then the
            lightest that does so, given those before it; 0 makes them disjoint. None: just different paths.
        exclude: ids to leave out.

    Raises:
        NoPath: names the first layer that nobody serves.
    """
    chosen = [nodes[i] for i in routable(nodes, layers, exclude)]
    table = AdvertTable.of(chosen, layers)
    weights = table.weights(market)
    found = lightest_rows(table, weights, k) if share is None else sharing_rows(table, weights, k, share)
    if not found:
        raise table.no_path() or NoPath(0, layers)
    return [path_of([chosen[i] for i in rows], market) for rows in found]


@dataclass(frozen=True, slots=True)
class _Step:
    """The end of a partial path: its weight, its last row and what came before (None at boundary 0)."""

    weight: float
    row: int
    before: _Step | None

    def rows(self) -> list[int]:
        """Return the rows of the partial path in order."""
        rows: list[int] = []
        step: _Step | None = self
        while step is not None and step.before is not None:
            rows.append(step.row)
            step = step.before
        return rows[::-1]


def lightest_rows(table: AdvertTable, weights: Floats, k: int) -> list[list[int]]:
    """Return the rows of the ``k`` lightest paths; each boundary keeps its k lightest partial paths."""
    arrivals = _by_range(table, weights, k)
    at: list[list[_Step]] = [[_Step(0.0, -1, None)]]
    for boundary in range(1, table.layers + 1):
        reach = [
            _Step(before.weight + float(weights[row]), row, before)
            for start, rows in arrivals[boundary]
            for row in rows
            for before in at[start]
        ]
        at.append(sorted(reach, key=lambda step: step.weight)[:k])
    return [step.rows() for step in at[-1]]


def sharing_rows(table: AdvertTable, weights: Floats, k: int, share: int) -> list[list[int]]:
    """Return the rows of up to ``k`` paths of which no two have more than ``share`` nodes in common.

    One path after the other: partial paths are told apart by how many nodes they share with each path before,
    so the search is exact, with at most (share + 1)^(k - 1) partial paths per boundary.
    """
    found: list[list[int]] = []
    for _ in range(k):
        # Sharing all nodes of a path is being that path.
        limits = [min(share, len(rows) - 1) for rows in found]
        taken = {row: tuple(int(row in rows) for rows in found) for rows in found for row in rows}
        free = weights.copy()
        free[list(taken)] = math.inf
        arrivals = _by_range(table, free, 1)
        for row in taken:
            arrivals[int(table.stop[row])].append((int(table.start[row]), [row]))
        at: list[dict[tuple[int, ...], _Step]] = [{(0,) * len(found): _Step(0.0, -1, None)}]
        for boundary in range(1, table.layers + 1):
            best: dict[tuple[int, ...], _Step] = {}
            for start, rows in arrivals[boundary]:
                for row in rows:
                    adds = taken.get(row)
                    for counts, before in at[start].items():
                        after = counts if adds is None else tuple(map(sum, zip(counts, adds, strict=True)))
                        if any(count > limit for count, limit in zip(after, limits, strict=True)):
                            continue
                        weight = before.weight + float(weights[row])
                        if after not in best or weight < best[after].weight:
                            best[after] = _Step(weight, row, before)
            at.append(best)
        if not at[-1]:
            break
        found.append(min(at[-1].values(), key=lambda step: step.weight).rows())
    return found


def _by_range(table: AdvertTable, weights: Floats, k: int) -> list[list[tuple[int, list[int]]]]:
    """Return for each boundary the ranges that end there as (start, their k lightest rows of finite
    weight).
    """
    arrivals: list[list[tuple[int, list[int]]]] = [[] for _ in range(table.layers + 1)]
    order = np.lexsort((weights, table.range_key))
    order = order[np.isfinite(weights[order])]
    if not len(order):
        return arrivals
    for rows in np.split(order, np.flatnonzero(np.diff(table.range_key[order])) + 1):
        arrivals[int(table.stop[rows[0]])].append((int(table.start[rows[0]]), rows[:k].tolist()))
    return arrivals
