"""The lightest path of which no operator has more than its share of the hops, and no more than so many are untried.

The bounds are added as they are needed. The first path is the lightest of all (`routing`); whoever has too much of it
is counted in the next search, and so on: a search is exact for those whom it counts, so the first path that keeps all
bounds is the lightest that does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hypercluster.market.economics.graph import Node, NoPath, routable
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
) -> Path:
    """Return the lightest path of which nobody has more hops than ``shares`` allow; the client relays every hop.

    Args:
        nodes: adverts, with the latencies that this client measured.
        layers: m.
        market: alpha and references.
        shares: of which ``hops`` counts here.
        untried: owners (`Node.owner`) of which ``most_untried`` hops may be at most; None: as many as they like.

    Raises:
        NoPath: there is none over these nodes, or none that keeps the bounds.
    """
    path = best_path(nodes, layers=layers, market=market)
    few = frozenset(untried) if most_untried is not None else frozenset()
    search: _Search | None = None
    while over := _over(path, shares, few, most_untried):
        search = search or _Search(nodes, layers, market, shares, few, most_untried)
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
    """A partial path: its weight, its last node and what came before."""

    weight: float
    node: Node | None
    before: _Label | None

    def nodes(self) -> list[Node]:
        found: list[Node] = []
        label: _Label | None = self
        while label is not None and label.node is not None:
            found.append(label.node)
            label = label.before
        return found[::-1]


class _Search:
    """Partial paths by (hops, hops of each who is counted), boundary after boundary, the lightest of each."""

    def __init__(
        self,
        nodes: Sequence[Node],
        layers: int,
        market: MarketParameters,
        shares: Shares,
        few: frozenset[str],
        most_few: int | None,
    ) -> None:
        self.counted: list[str] = []
        self._layers, self._market, self._shares = layers, market, shares
        self._few, self._most_few = few, most_few
        # Of one owner's nodes on one range only the lightest can matter: they count alike.
        best: dict[tuple[int, int, str], tuple[float, Node]] = {}
        for place in routable(nodes, layers):
            node = nodes[place]
            key, weight = (node.start, node.stop, node.owner), sum(node.shares(market))
            if key not in best or weight < best[key][0]:
                best[key] = weight, node
        self._arriving: list[list[tuple[float, Node]]] = [[] for _ in range(layers + 1)]
        for each in best.values():
            self._arriving[each[1].stop].append(each)
        self._most_more = self._longest_rests()

    def lightest(self) -> Path:
        """Raises NoPath where the bounds leave none."""
        at: list[dict[tuple[int, ...], _Label]] = [{(0,) * (1 + len(self.counted)): _Label(0.0, None, None)}]
        for boundary in range(1, self._layers + 1):
            reached: dict[tuple[int, ...], _Label] = {}
            for weight, node in self._arriving[boundary]:
                adds = (1, *(int(self._counts(each, node)) for each in self.counted))
                for counts, before in at[node.start].items():
                    after = tuple(map(int.__add__, counts, adds))
                    total = before.weight + weight
                    if after in reached and reached[after].weight <= total:
                        continue
                    if self._may_end_well(after, boundary):
                        reached[after] = _Label(total, node, before)
            if len(reached) > MOST_LABELS:
                kept = sorted(reached.items(), key=lambda item: item[1].weight)[:MOST_LABELS]
                reached = dict(kept)
            at.append(reached)
        ends = at[-1].values()
        if not ends:
            raise NoPath(0, self._layers, served=True)
        return path_of(min(ends, key=lambda label: label.weight).nodes(), self._market)

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
                for _, node in self._arriving[boundary]:
                    most[node.start] = max(most[node.start], most[boundary] + 1)
        return most
