"""The sessions of a broken path that are still open, and who fits between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert


@dataclass(frozen=True)
class Kept:
    """Open sessions of `capacity` tokens with the providers of `adverts`; none of them: a whole path is missing.

    `features` are those that others on the path have to have.
    """

    adverts: Sequence[Advert] = ()
    capacity: int = 0
    features: frozenset[str] = frozenset()

    @cached_property
    def by_peer(self) -> dict[str, Advert]:
        """The adverts under which they were opened, by peer."""
        return {advert.peer: advert for advert in self.adverts}

    def fitting(self, offered: Sequence[Advert]) -> list[Advert]:
        """Those of others that lie between these, with sessions as long as theirs and the features."""
        return [
            each
            for each in offered
            if each.peer not in self.by_peer
            and each.session_tokens >= self.capacity
            and self.features <= set(each.features)
            and all(
                each.layer_stop <= kept.layer_start or kept.layer_stop <= each.layer_start
                for kept in self.adverts
            )
        ]
