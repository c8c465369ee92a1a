"""Budgets: how much of an act one peer, one block of addresses and all strangers together get."""

from __future__ import annotations

import ipaddress
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.network.bounds import BOUNDS as BOUNDS
from hypercluster.node.network.bounds import Bound as Bound
from hypercluster.node.network.rate import Rate

log = logging.getLogger(__name__)

LOCAL = "local"
"""the block of loopback and private addresses: a proxy or a NAT may stand there for everybody, so no bound per
block applies to it"""
_QUIET_SECONDS = 60.0
_ALL = "all"

REFUSED: Counter[tuple[str, str]] = Counter()
"""how often this process refused, by the name of a bound and by which part of it: peer, block or total"""


@dataclass(frozen=True, slots=True)
class Source:
    """Who asks: a peer id, "" before the handshake is over, and the block of its address."""

    peer: str
    block: str


def block_of(ip: str) -> str:
    """The block that an IP address counts for: IPv4 /24, IPv6 /56, LOCAL where it is not a public address.

    What is no address counts for the block "unknown".
    """
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if not address.is_global:
        return LOCAL
    bits = 24 if address.version == 4 else 56
    return str(ipaddress.ip_network((address, bits), strict=False))


class OverBudget(NodeError):
    """Somebody asks for more than it gets; `wait` (s) is when to come back, 0 if nobody knows."""

    code = ErrorCode.FULL

    def __init__(self, bound: Bound, wait: float) -> None:
        when = f"Come back in {math.ceil(wait)} s." if wait > 0 else "Come back later."
        super().__init__(f"Too many {bound.what} here now. {when}")
        self.wait = wait


class Budget:
    """What there is of one act, and who took how much of it lately. For one thread."""

    def __init__(self, bound: Bound, *, clock: Callable[[], float] = trio.current_time) -> None:
        self.bound = bound
        self._clock = clock
        self._peers = Rate(*bound.per_peer, clock=clock) if bound.per_peer else None
        self._blocks = Rate(*bound.per_block, clock=clock) if bound.per_block else None
        self._total = Rate(*bound.total, clock=clock)
        self._held: Counter[str] = Counter()
        self._logged = -math.inf
        self._since = 0

    def take(self, source: Source) -> None:
        """Take one. Who is refused takes nothing, of no part. Raises OverBudget."""
        parts: list[tuple[str, Rate, str]] = []
        if self._peers is not None and source.peer:
            parts.append(("peer", self._peers, source.peer))
        if self._blocks is not None and source.block != LOCAL:
            parts.append(("block", self._blocks, source.block))
        parts.append(("total", self._total, _ALL))
        for part, rate, key in parts:
            if (wait := rate.wait(key)) > 0:
                raise self._refusal(part, source, wait)
        for _, rate, key in parts:
            rate.allows(key)

    @contextmanager
    def holding(self, source: Source) -> Iterator[None]:
        """Take one, and a place for as long as the block lasts. Raises OverBudget."""
        bound = self.bound
        if bound.at_once_per_peer is not None and self._held[source.peer] >= bound.at_once_per_peer:
            raise self._refusal("peer", source, 0.0)
        if bound.at_once is not None and self._held.total() >= bound.at_once:
            raise self._refusal("total", source, 0.0)
        self.take(source)
        self._held[source.peer] += 1
        try:
            yield
        finally:
            self._held[source.peer] -= 1
            if not self._held[source.peer]:
                del self._held[source.peer]

    def _refusal(self, part: str, source: Source, wait: float) -> OverBudget:
        REFUSED[self.bound.name, part] += 1
        self._since += 1
        now = self._clock()
        if now >= self._logged + _QUIET_SECONDS:
            # One line a minute, whatever strangers do.
            log.warning(
                "refused %d %s, the last of %s (%s)",
                self._since,
                self.bound.what,
                source.peer or source.block,
                part,
            )
            self._logged, self._since = now, 0
        return OverBudget(self.bound, wait)


K = TypeVar("K")


class Negatives(Generic[K]):
    """What was looked for and is not there, kept for `seconds`, at most `most` of it; the oldest goes first."""

    def __init__(self, seconds: float, most: int, *, clock: Callable[[], float] = trio.current_time) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._until: dict[K, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, key: K) -> bool:
        return self._clock() < self._until.get(key, -math.inf)

    def add(self, key: K) -> None:
        """Remember that `key` is not there."""
        self._until.pop(key, None)
        self._until[key] = self._clock() + self._seconds
        while len(self._until) > self._most:
            del self._until[next(iter(self._until))]

    def discard(self, key: K) -> None:
        """Forget `key`: it may be there by now."""
        self._until.pop(key, None)
