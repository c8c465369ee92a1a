"""How long a session over a whole path may be, given who serves which layers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from typing import TYPE_CHECKING

from hypercluster.node.network.diagnosis import covers

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert


def covered(adverts: Collection[Advert], layers: int, length: int = 0) -> bool:
    """Whether a path leads over those of them whose sessions hold `length` tokens at least."""
    ranges = [(a.layer_start, a.layer_stop) for a in adverts if a.session_tokens >= length]
    return covers(ranges, layers)


def longest(adverts: Collection[Advert], layers: int) -> int:
    """Tokens that the sessions of a whole path hold at most; 0 where there is none."""
    lengths = sorted({advert.session_tokens for advert in adverts})
    # The longer the sessions have to be, the fewer there are: what is not covered stays so.
    first = bisect_left(lengths, True, key=lambda length: not covered(adverts, layers, length))
    return lengths[first - 1] if first else 0
