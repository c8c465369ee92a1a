"""Which providers of a path send rows to each other, and which do not any more."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import trio

from hypercluster.node.wire.messages import CHAIN

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.graph import Node

STRAINED_SECONDS = 3600.0
"""for which a link that lost or changed rows is not made again"""
MOST_STRAINED = 1024
MOST_PARTNERS = 2
"""with whom one provider may have such links; after that it has none at all"""


class LinkBook:
    """The links of one client's paths that did not do, as it saw them. It says nothing of whose doing that was."""

    def __init__(self) -> None:
        self._strained: OrderedDict[tuple[str, str], float] = OrderedDict()

    def strain(self, before: str, after: str) -> None:
        """Note that rows from one peer to another were lost or changed."""
        self._strained.pop((before, after), None)
        self._strained[before, after] = trio.current_time() + STRAINED_SECONDS
        if len(self._strained) > MOST_STRAINED:
            self._strained.popitem(last=False)

    def tickets(self, adverts: Sequence[Advert]) -> list[bytes]:
        """A ticket of 16 random bytes for each link of a path, empty where there shall be none: of the first hop to the
        second, and so on.
        """
        return [
            secrets.token_bytes(16) if self._may(before, after) else b""
            for before, after in pairwise(adverts)
        ]

    def _may(self, before: Advert, after: Advert) -> bool:
        if not (CHAIN in before.features and CHAIN in after.features and after.direct):
            return False
        now = trio.current_time()
        strained = [ends for ends, until in self._strained.items() if until > now]
        return (before.peer, after.peer) not in strained and not any(
            sum(peer in ends for ends in strained) >= MOST_PARTNERS for peer in (before.peer, after.peer)
        )


def over_links(nodes: Sequence[Node], linked: Collection[str]) -> list[Node]:
    """The nodes as they are weighed where rows go from provider to provider among those who are `linked`.

    A token waits for one delay a hop then, and one more, instead of two: that of a link is taken for the mean of those
    of its ends to the client, as nobody else measures it.
    """
    return [replace(node, latency_ms=node.latency_ms / 2) if node.id in linked else node for node in nodes]
