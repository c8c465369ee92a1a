"""Which layers this machine could rather serve, looked at while it serves: no layer is timed anew for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import trio

from hypercluster.market.economics.graph import Node, node_of
from hypercluster.market.economics.placement import Machine, NothingFits, Placement, placements
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.provider.mix import as_seen
from hypercluster.node.provider.offers import Offer
from hypercluster.node.provider.placing import free_memory, model_size
from hypercluster.node.serving.presence import Presence
from hypercluster.node.shards.store import StoredModel

if TYPE_CHECKING:
    from hypercluster.market.ledger import Ledger

FRESH_SECONDS = 30.0
MOST_RANGES = 50


@dataclass(slots=True, kw_only=True)
class Prospects:
    """Asked for by a page; looked at again when the last look is FRESH_SECONDS old.

    `shard` is what is loaded now, whose bytes would be free again; `stored` the model.
    """

    ledger: Ledger
    offer: Offer
    presence: Presence
    transcripts: TranscriptStore
    shard: Path
    stored: StoredModel
    _document: dict[str, Any] = field(default_factory=dict)
    _looking: trio.Lock = field(default_factory=trio.Lock)

    async def document(self) -> dict[str, Any]:
        """See hypercluster.node.provider.http."""
        async with self._looking:
            if time.time() - self._document.get("at", 0.0) > FRESH_SECONDS:
                others = [node_of(advert) for advert in self.presence.others()]
                self._document = await trio.to_thread.run_sync(self._look, others)
            return self._document

    def _look(self, others: list[Node]) -> dict[str, Any]:
        terms = self.offer.terms
        nothing: dict[str, Any] = {"machine": None, "prompt_ratio": None, "ranges": [], "at": time.time()}
        if terms.move:
            machine, model = terms.move.machine, terms.move.model
        else:
            model = model_size(self.stored.manifest)
            layers = np.array([terms.start]), np.array([terms.stop])
            layer_ms = self.offer.speed.cost_ms / float(model.costs(*layers)[0])
            machine = Machine(free_memory(terms.backend) + self.shard.stat().st_size, layer_ms)
        try:
            market = as_seen(terms.market, self.ledger, terms.move.prompt_tokens if terms.move else None)
            ranked = placements(
                machine,
                model,
                others,
                market=market,
                floor_wei=terms.price.floor_wei,
                prompt_share=self.offer.asking.prices.prompt_share,
                cached_share=terms.cached_percent / 100,
            )
        except NothingFits as error:
            return nothing | {"why": str(error)}
        return {
            "machine": {"memory_bytes": machine.memory_bytes, "layer_ms": machine.layer_ms},
            "prompt_ratio": market.prompt_ratio,
            "ranges": [_range(each) for each in ranked[:MOST_RANGES]],
            "at": time.time(),
            "why": None,
        }


def _range(place: Placement) -> dict[str, Any]:
    return {
        "layers": [place.start, place.stop],
        "price_wei": str(place.price_wei),
        "prompt_price_wei": str(place.prompt_price_wei),
        "cost_ms": place.cost_ms,
        "probability": place.marginal,
        "revenue_wei": str(round(place.revenue_wei)),
        "unserved": place.unserved,
    }
