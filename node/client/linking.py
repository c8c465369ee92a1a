"""Which providers of a path send rows to each other, and which do not any more."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import trio

from hypercluster.node.network.nearness import short_name, unpack_delays
from hypercluster.node.wire.messages import CHAIN

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.graph import Floats, Node
    from hypercluster.node.client.hop import Hop

STRAINED_SECONDS = 3600.0
"""for which a link that lost or changed rows is not made again"""
MOST_STRAINED = 1024
MOST_PARTNERS = 2
"""with whom one provider may have such links; after that it has none at all"""
LEAST_STEPS = 4
"""over a link, which say how long it takes"""
MOST_TIMED = 4096


@dataclass(frozen=True, slots=True)
class Joint:
    """A link that is to be made, and the ticket by which the provider after knows the one before: 16 random bytes."""

    before: Advert
    after: Advert
    ticket: bytes


class LinkBook:
    """The links of one client's paths as it saw them: which did not do, which says nothing of whose doing that was, and
    how long rows took over the others.
    """

    def __init__(self) -> None:
        self._strained: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._took: OrderedDict[tuple[str, str], float] = OrderedDict()

    def strain(self, before: str, after: str) -> None:
        """Note that rows from one peer to another were lost or changed."""
        self._strained.pop((before, after), None)
        self._strained[before, after] = trio.current_time() + STRAINED_SECONDS
        if len(self._strained) > MOST_STRAINED:
            self._strained.popitem(last=False)

    def learn(self, hops: Sequence[Hop], own_ms: Mapping[str, float]) -> None:
        """Take in how long rows took over the links of a path, its sessions in their order; `own_ms` are one-way delays
        from here by peer.

        The answer behind a link comes later than the one before it by the link, the work, and as much as its provider
        is farther from here.
        """
        for one, other in pairwise(hops):
            ends = one.advert.peer, other.advert.peer
            if one.linked < LEAST_STEPS or one.advert.layer_stop != other.advert.layer_start:
                continue
            if ends[0] not in own_ms or ends[1] not in own_ms:
                continue
            took = max(0.0, other.timing.typical().wire_ms + own_ms[ends[0]] - own_ms[ends[1]])
            before = self._took.pop(ends, took)
            self._took[ends] = (before + took) / 2
            if len(self._took) > MOST_TIMED:
                self._took.popitem(last=False)

    def delays(self, nodes: Sequence[Node], adverts: Mapping[str, Advert]) -> Floats:
        """One-way ms from node to node, float64 [n, n], as rows of a path would go; `adverts` by peer.

        What this client saw of a link counts first. Else what both of its ends tell, the more of it, and no less than
        what their delays from here differ by, nor more than over here. Where they do not tell it is taken for half of
        the way over here, and where there shall be no link it is all of that.
        """
        own = np.array([node.latency_ms for node in nodes], np.float64)
        here = own[:, None] + own[None, :]
        apart = np.abs(own[:, None] - own[None, :])
        linked = np.array([_links(adverts.get(node.id)) for node in nodes], bool)
        delays = np.where(linked[:, None] & linked[None, :], here / 2, here)
        place = {node.id: i for i, node in enumerate(nodes)}
        by_name = {short_name(peer): i for peer, i in place.items() if linked[i]}
        told = {
            i: unpack_delays(adverts[peer].neighbours)
            for peer, i in place.items()
            if linked[i] and adverts[peer].neighbours
        }
        names = {i: name for name, i in by_name.items()}
        for i, said in told.items():
            for name, ms in said.items():
                j = by_name.get(name)
                back = told[j].get(names[i]) if j in told else None
                if j is not None and back is not None:
                    delays[i, j] = min(max(ms, back, apart[i, j]), here[i, j])
        for (before, after), took in self._took.items():
            if before in place and after in place:
                delays[place[before], place[after]] = took
        now = trio.current_time()
        for (before, after), until in self._strained.items():
            if until > now and before in place and after in place:
                delays[place[before], place[after]] = here[place[before], place[after]]
        return np.asarray(delays)

    def joints(self, adverts: Sequence[Advert]) -> list[Joint]:
        """The links of a path, in its order; where there shall be none there is none."""
        return [
            Joint(before, after, secrets.token_bytes(16))
            for before, after in pairwise(adverts)
            if self._may(before, after)
        ]

    def _may(self, before: Advert, after: Advert) -> bool:
        if not (CHAIN in before.features and CHAIN in after.features and after.direct):
            return False
        now = trio.current_time()
        strained = [ends for ends, until in self._strained.items() if until > now]
        return (before.peer, after.peer) not in strained and not any(
            sum(peer in ends for ends in strained) >= MOST_PARTNERS for peer in (before.peer, after.peer)
        )


def _links(advert: Advert | None) -> bool:
    return advert is not None and CHAIN in advert.features and bool(advert.direct)
