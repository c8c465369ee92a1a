"""Who has to leave a full order book: places go by stake, per operator and per range of layers.

Every operator's first place comes before anybody's second, so no stake, however large, crowds out another's. What is
behind a key then counts for less the more places its operator has already, and the more of those are of the same range:
who cuts a stake into many node keys gains little. All of this follows from who is there and what is behind them; of two
places that are worth the same the later one leaves. So who left does not come back in its turn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hypercluster.market.advert import Role

SPARED = 4
"""the best of each layer are spared, in one place of so many"""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the book, or one that is asked for: layers [start, stop), `wei` behind the key; `since` counts up."""

    peer: str
    operator: str
    role: Role
    start: int
    stop: int
    wei: int
    since: int


def least(places: Sequence[Place], *, layers: int) -> Place:
    """The place to give up, of all that are taken and the one that is asked for.

    Of each layer of the model ([0, layers); 0 where nobody knows) the operators with the most behind a key for it are
    spared, as many as leave three quarters of all places free: a crowd on some layers takes none from the others.
    """
    spared = _best(places, len(places) // (SPARED * layers) if layers else 0)
    counts: Counter[str] = Counter()
    alike: Counter[tuple[str, Role, int, int]] = Counter()
    worth = {}
    # Those of one operator with the most behind them count first, whenever they came.
    for each in sorted(places, key=lambda place: (-place.wei, place.peer)):
        span = each.operator, each.role, each.start, each.stop
        counts[each.operator] += 1
        alike[span] += 1
        nth = counts[each.operator]
        worth[each] = each.peer in spared, nth == 1, each.wei / (nth * alike[span]), -each.since
    return min(places, key=worth.__getitem__)


def _best(places: Sequence[Place], few: int) -> set[str]:
    """The peers of the `few` operators with the most behind a key for each layer, or with as much for longer."""
    first: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for each in sorted(places, key=lambda place: (-place.wei, place.since)):
        # Verifiers look at all layers: none depends on one of them.
        if few and each.role == "provider":
            for layer in range(each.start, each.stop):
                if len(first[layer]) < few:
                    first[layer].setdefault(each.operator, each.peer)
    return {peer for serving in first.values() for peer in serving.values()}
