"""Rumours about operators of one model: checked by everybody who passes them on, and kept by whom they concern."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.rumour import Claim, claim_of
from hypercluster.node.network.adverts import CLOCK_SKEW
from hypercluster.node.wire.codec import decode
from hypercluster.node.wire.rumours import Rumour

if TYPE_CHECKING:
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.network.eligibility import Eligible
    from hypercluster.node.network.orderbook import OrderBook

OLDEST_SECONDS = 24 * 3600.0
"""age of what is passed on; a client that was away hears of older lies by its own audits"""
AGAIN_SECONDS = 3600.0
"""for which one witness is heard once against one operator: signatures cost those who are in league nothing"""
MOST_HEARD = 10_000

Heard = Callable[[Claim, float], Awaitable[None]]
"""Takes what holds: what is claimed, and the witness's share of the stake of all verifiers known, 0 to 1."""


class StaleRumour(NodeError):
    """A rumour that is genuine and still not to be passed on: too old, dated ahead, known, or nobody's stake."""


async def unheard(_claim: Claim, _share: float) -> None:
    """For who only passes rumours on."""


class Rumours:
    """Checks rumours about the operators in `book`, and tells `heard` of those that hold.

    An accused or a witness who has no stake for that node is worth no word. What is refused is not passed on.
    """

    def __init__(
        self,
        book: OrderBook,
        eligible: Eligible,
        domain: DisputeDomain,
        heard: Heard = unheard,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book, self._eligible, self._domain, self._heard = book, eligible, domain, heard
        self._clock = clock
        self._known: dict[tuple[str, str], float] = {}

    async def take(self, data: bytes) -> None:
        """Take in what was gossiped. Raises NodeError, MarketError where it must not be passed on."""
        rumour = decode(data)
        if not isinstance(rumour, Rumour) or rumour.model_id != self._book.model_id:
            raise StaleRumour("A gossiped message is no rumour about this model.")
        now = self._clock()
        latest = max(each.issued for each in (rumour.receipt, rumour.other, rumour.testimony) if each)
        if not now - OLDEST_SECONDS < latest < now + CLOCK_SKEW:
            raise StaleRumour(f"A rumour is dated {now - latest:.0f} s ago.")
        pair = rumour.operator, rumour.testimony.witness if rumour.testimony else ""
        if now - self._known.get(pair, -AGAIN_SECONDS) < AGAIN_SECONDS:
            raise StaleRumour(f"This was heard of {rumour.operator} before.")
        claim = claim_of(rumour, self._domain)
        if await self._eligible(claim.node, claim.operator) is None:
            raise StaleRumour(f"{claim.operator} has no stake for {claim.peer}.")
        share = 0.0
        if not claim.proven:
            backing = await self._eligible(claim.verifier_node, claim.witness)
            if backing is None:
                raise StaleRumour(f"{claim.witness} has no stake for the verifier {claim.verifier}.")
            share = self._share(claim, backing.wei)
        self._known.pop(pair, None)
        self._known[pair] = now
        if len(self._known) > MOST_HEARD:
            self._known.pop(next(iter(self._known)))
        await self._heard(claim, share)

    def _share(self, claim: Claim, wei: int) -> float:
        """The witness's share of the stake behind all verifiers in the book, 0 to 1; `wei` are behind its key."""
        total = own = 0
        for advert in self._book.snapshot("verifier"):
            backing = self._book.backing_of(advert.peer)
            if backing is None or advert.peer == claim.verifier:
                continue
            total += backing.wei
            own += backing.wei if advert.operator == claim.witness else 0
        return (own + wei) / (total + wei) if total + wei else 0.0
