"""When a provider rather serves other layers, and how it gets away from those that it has."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

from hypercluster.market.economics.graph import node_of
from hypercluster.market.economics.placement import advise, apart, placements
from hypercluster.node.provider.mix import as_seen
from hypercluster.node.provider.offers import Offer
from hypercluster.node.provider.terms import Moving
from hypercluster.node.serving.presence import Presence

if TYPE_CHECKING:
    from hypercluster.market.ledger import Ledger

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5


class Mover:
    """Looks around for better layers; `better` is where to go, once there is such a place."""

    def __init__(self, moving: Moving, offer: Offer, presence: Presence, ledger: Ledger) -> None:
        self._moving, self._offer, self._presence, self._ledger = moving, offer, presence, ledger
        self._since = time.monotonic()
        self.better: tuple[int, int] | None = None

    async def look_around(self) -> None:
        """Take no new session from here on if other layers would earn enough more."""
        terms = self._offer.terms
        ranked = placements(
            self._moving.machine,
            self._moving.model,
            [node_of(advert) for advert in self._presence.others()],
            market=await trio.to_thread.run_sync(
                as_seen, terms.market, self._ledger, self._moving.prompt_tokens
            ),
            floor_wei=terms.price.floor_wei,
            ceiling_wei=terms.price.ceiling_wei,
            prompt_share=self._offer.asking.prices.prompt_share,
            cached_share=terms.cached_percent / 100,
        )
        advice = advise(
            apart(ranked, self._moving.beside),
            (terms.start, terms.stop),
            held_s=time.monotonic() - self._since,
            dwell_s=self._moving.dwell_seconds,
        )
        if advice.move:
            log.warning("moving to layers %d:%d: %s", advice.best.start, advice.best.stop, advice.reason)
            self.better = (advice.best.start, advice.best.stop)
            self._offer.leaving.set()

    async def moved_out(self) -> None:
        """Return when it is time to move and no session is left, or all had their time to end."""
        await self._offer.leaving.wait()
        await self._presence.publish()
        with trio.move_on_after(self._moving.drain_seconds):
            self._offer.parking.clear()
            while self._offer.engine.stats().sessions:
                await trio.sleep(POLL_SECONDS)
