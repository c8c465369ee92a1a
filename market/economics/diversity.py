"""The lightest path of which no operator has more than its share of the hops, and no more than so many are untried.

The bounds are added as they are needed. The first path is the lightest of all (`routing`); whoever has too much of it
is counted in the next search, and so on: a search is exact for those whom it counts, so the first path that keeps all
bounds is the lightest that does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from hypercluster.market.economics.graph import Floats, Node, NoPath, routable
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import Path, best_path, path_of
from hypercluster.market.economics.shares import Shares

MOST_LABELS = 512
"""partial paths that are kept at a layer; of more the lightest"""


def diverse_path(
    nodes: Sequence[Node],
    *,
    layers: int,
    market: MarketParameters,
    shares: Shares,
    untried: Collection[str] = (),
    most_untried: int | None = None,
    latency: Floats | None = None,
) -> Path:
    """Return the lightest path of which nobody has more hops than ``shares`` allow.

    Args:
        nodes: adverts, with the latencies that this client measured.
        layers: m.
        market: alpha and references.
        shares: of which ``hops`` counts here.
        untried: owners (`Node.owner`) of which ``most_untried`` hops may be at most; None: as many as they like.
        latency: one-way ms between nodes, float64 [n, n]; by default the client relays every hop.

    Raises:
        NoPath: there is none over these nodes, or none that keeps the bounds.
    """
    path = best_path(nodes, layers=layers, market=market, latency=latency)
    few = frozenset(untried) if most_untried is not None else frozenset()
    search: _Search | None = None
    while over := _over(path, shares, few, most_untried):
        search = search or _Search(nodes, layers, market, shares, few, most_untried, latency)
        search.counted += [owner for owner in over if owner not in search.counted]
        path = search.lightest()
    return path


def hop_counts(path: Path) -> Counter[str]:
    """Return how many hops of a path each owner has."""
    return Counter(node.owner for node in path.nodes)


def keeps(path: Path, shares: Shares) -> bool:
    """Return whether nobody has more of the path's hops than ``shares`` allow."""
    return not _over(path, shares, frozenset(), None)


_UNTRIED = ""
"""counted beside owners: all that are untried together; no owner is called so"""


def _over(path: Path, shares: Shares, few: frozenset[str], most_few: int | None) -> list[str]:
    most = shares.most_hops(len(path.nodes))
    over = [owner for owner, count in hop_counts(path).items() if count > most]
    if most_few is not None and sum(node.owner in few for node in path.nodes) > most_few:
        over.append(_UNTRIED)
    return over


@dataclass(frozen=True, slots=True)
class _Label:
    """A partial path: its weight, the place of its last node and what came before."""

    weight: float
    place: int | None
    before: _Label | None

    def places(self) -> list[int]:
        found: list[int] = []
        label: _Label | None = self
        while label is not None and label.place is not None:
            found.append(label.place)
            label = label.before
        return found[::-1]


_Counts = tuple[int, ...]


class _Search:
    """Partial paths by (hops, hops of each who is counted), boundary after boundary, the lightest of each; with links
    between nodes, of each last node.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        layers: int,
        market: MarketParameters,
        shares: Shares,
        few: frozenset[str],
        most_few: int | None,
        latency: Floats | None,
    ) -> None:
        self._nodes, self._latency = nodes, latency
        self._per_ms = (1.0 - market.alpha) / market.c_ref
        self.counted: list[str] = []
        self._layers, self._market, self._shares = layers, market, shares
        self._few, self._most_few = few, most_few
        # Of one owner's nodes on one range only the lightest can matter, as they count alike; but where each has delays
        # of its own to others.
        best: dict[tuple[int, int, str, int], tuple[float, int]] = {}
        for place in routable(nodes, layers):
            node = nodes[place]
            alone = 0 if latency is None else place
            key, weight = (node.start, node.stop, node.owner, alone), sum(node.shares(market))
            if latency is not None:
                weight -= 2.0 * self._per_ms * node.latency_ms
            if key not in best or weight < best[key][0]:
                best[key] = weight, place
        self._arriving: list[list[tuple[float, int]]] = [[] for _ in range(layers + 1)]
        for each in best.values():
            self._arriving[nodes[each[1]].stop].append(each)
        self._most_more = self._longest_rests()

    def lightest(self) -> Path:
        """Raises NoPath where the bounds leave none."""
        none = (0,) * (1 + len(self.counted))
        at: list[dict[tuple[_Counts, int], _Label]] = [{(none, -1): _Label(0.0, None, None)}]
        for boundary in range(1, self._layers + 1):
            reached: dict[tuple[_Counts, int], _Label] = {}
            for weight, place in self._arriving[boundary]:
                node = self._nodes[place]
                adds = (1, *(int(self._counts(each, node)) for each in self.counted))
                for (counts, _), before in at[node.start].items():
                    after = tuple(map(int.__add__, counts, adds))
                    key = after, -1 if self._latency is None else place
                    total = before.weight + weight + self._link(before.place, place)
                    if key in reached and reached[key].weight <= total:
                        continue
                    if self._may_end_well(after, boundary):
                        reached[key] = _Label(total, place, before)
            if len(reached) > MOST_LABELS:
                kept = sorted(reached.items(), key=lambda item: item[1].weight)[:MOST_LABELS]
                reached = dict(kept)
            at.append(reached)
        ends = at[-1].values()
        if not ends:
            raise NoPath(0, self._layers, served=True)
        places = min(ends, key=lambda label: label.weight + self._link(label.place, None)).places()
        links = None if self._latency is None else self._latency[np.ix_(places, places)]
        return path_of([self._nodes[place] for place in places], self._market, links)

    def _link(self, before: int | None, after: int | None) -> float:
        """Weight of the way from node to node, or from the client and back to it; 0 where nodes have that with them."""
        if self._latency is None:
            return 0.0
        if before is None or after is None:
            end = before if after is None else after
            return 0.0 if end is None else self._per_ms * self._nodes[end].latency_ms
        return self._per_ms * float(self._latency[before, after])

    def _counts(self, owner: str, node: Node) -> bool:
        return node.owner in self._few if owner == _UNTRIED else node.owner == owner

    def _may_end_well(self, counts: tuple[int, ...], boundary: int) -> bool:
        """Whether a path with so many hops so far may keep the bounds, if it is as long as can be from here."""
        if self._most_more[boundary] < 0:
            return False
        most = self._shares.most_hops(counts[0] + self._most_more[boundary])
        for owner, count in zip(self.counted, counts[1:], strict=True):
            if count > (self._most_few or 0 if owner == _UNTRIED else most):
                return False
        return True

    def _longest_rests(self) -> list[int]:
        """The most hops that lead from each boundary to the end; -1 where none do."""
        most = [-1] * self._layers + [0]
        for boundary in range(self._layers, 0, -1):
            if most[boundary] >= 0:
                for _, place in self._arriving[boundary]:
                    start = self._nodes[place].start
                    most[start] = max(most[start], most[boundary] + 1)
        return most
