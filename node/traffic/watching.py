"""Telling what happens to whoever looks on, and what is offered to the ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.threads import Threads
from hypercluster.node.traffic.happenings import AdvertChanged, Happening

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.ledger import Ledger
    from hypercluster.node.client.client import Client

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
WRITE_SECONDS = 600.0
"""after which offers are written down though none has changed; the ledger keeps one of an hour"""
_BEHIND = 256


class Watch:
    """Whoever follows hears of all that is told from then on; of what is too much for them they miss the rest."""

    def __init__(self) -> None:
        self._followers: set[trio.MemorySendChannel[Happening]] = set()

    def tell(self, happening: Happening) -> None:
        """Tell all who follow."""
        for follower in self._followers:
            try:
                follower.send_nowait(happening)
            except trio.WouldBlock:
                log.debug("somebody does not keep up with what happens")

    @contextmanager
    def followed(self) -> Iterator[trio.MemoryReceiveChannel[Happening]]:
        """What is told within the block."""
        told, untold = trio.open_memory_channel[Happening](_BEHIND)
        self._followers.add(told)
        try:
            with untold:
                yield untold
        finally:
            self._followers.discard(told)


async def watch_offers(client: Client, ledger: Ledger, watch: Watch) -> None:
    """Tell of each offer of a model that comes, changes or goes, and write the history down; never returns."""
    threads = Threads(1)
    model_id = client.model.model_id
    known: dict[str, Advert] = {}
    written = -WRITE_SECONDS
    while True:
        seen = {advert.peer: advert for advert in client.adverts()}
        changed = [peer for peer in seen.keys() | known.keys() if _offer(seen, peer) != _offer(known, peer)]
        if any(known.get(peer) != advert for peer, advert in seen.items()):
            # Each new advert says how many sessions are free.
            client.vacancies.wake()
        known = seen
        for peer in changed:
            watch.tell(AdvertChanged(model_id, peer, peer not in seen))
        if changed or trio.current_time() >= written + WRITE_SECONDS:
            try:
                await threads(ledger.adverts.seen, model_id, list(seen.values()), datetime.now(UTC))
                written = trio.current_time()
            except (MarketError, OSError) as error:
                log.warning("what is offered could not be written down: %s", error)
        await trio.sleep(LOOK_SECONDS)


def _offer(adverts: dict[str, Advert], peer: str) -> tuple[object, ...]:
    """What of a peer's advert is news to people: not its times, nor its sequence."""
    advert = adverts.get(peer)
    if advert is None:
        return ()
    return (
        advert.layer_start,
        advert.layer_stop,
        advert.price_wei,
        advert.prompt_price_wei,
        advert.capacity,
        advert.free,
        advert.session_tokens,
    )
