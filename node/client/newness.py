"""By how much more than anybody unknown it is a risk who never served."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert

MOST_NEWNESS, LEAST_NEWNESS = 40.0, 0.25
"""so many times the risk of anybody unknown are the bounds for who has little at stake, and for who has much"""


def newness(
    adverts: Sequence[Advert], stakes: Mapping[str, int], has_served: Callable[[str], bool]
) -> dict[str, float]:
    """The factor of the risk of those who never served, by peer: the less stake (wei) is behind it, the more.

    What is behind the median operator of these counts as usual; whoever cuts a stake into many keys has less
    behind each.
    """
    most: dict[str, int] = {}
    for advert in adverts:
        most[_owner(advert)] = max(most.get(_owner(advert), 0), stakes.get(advert.peer, 0))
    usual = statistics.median(most.values()) if most else 0
    return {
        a.peer: min(MOST_NEWNESS, max(LEAST_NEWNESS, usual / stakes[a.peer]))
        for a in adverts
        if stakes.get(a.peer) and not has_served(_owner(a))
    }


def _owner(advert: Advert) -> str:
    return advert.operator or advert.peer
