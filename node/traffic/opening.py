"""A market put together from settings, keys and models."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.client.joining import background, station
from hypercluster.node.traffic.market import Market

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.ledger import Ledger
    from hypercluster.node.client.auditing.assembly import Auditing
    from hypercluster.node.client.draft_model import Drafting
    from hypercluster.node.client.own_layers import Ends
    from hypercluster.node.client.purse import Purse
    from hypercluster.node.client.request import Wishes
    from hypercluster.node.home.settings import Settings
    from hypercluster.node.traffic.entries import NamedModel


log = logging.getLogger(__name__)

KEEP_DAYS = 30
HOUR = 3600.0


@asynccontextmanager
async def open_market(
    settings: Settings,
    chain: Chain,
    purse: Purse,
    models: Sequence[NamedModel],
    *,
    wishes: Wishes | None = None,
    auditing: Auditing | None = None,
    drafting: Drafting | None = None,
    own: Ends | None = None,
    seed: int | None = None,
    limit_wei: int | None = None,
) -> AsyncIterator[Market]:
    """A market in `models` that has joined the network, for as long as the block lasts.

    It needs no provider to begin with: a model that nobody serves is offered with a coverage of 0. Whoever opens it
    holds the wallet of the home meanwhile (node.home.lock). `limit_wei` is what all requests together may cost.

    Raises:
        NoBootstrap: the settings name no node to join through.
        NodeError, MarketError: a vocabulary or the ledger cannot be opened.
    """
    async with (
        station(
            settings,
            chain,
            purse,
            wishes=wishes,
            auditing=auditing,
            drafting=drafting,
            own=own,
            seed=seed,
        ) as place,
        background() as nursery,
    ):
        market = Market(place, nursery, limit_wei)
        nursery.start_soon(_forget, market.ledger)
        for named in models:
            await market.trade(named)
        try:
            yield market
        finally:
            with trio.CancelScope(shield=True):
                await market.close()


async def _forget(ledger: Ledger) -> None:
    """Once an hour, drop what is too old to be asked for, and what is more than the ledger may hold."""
    while True:
        await trio.sleep(60)  # a start has better things to do
        try:
            await trio.to_thread.run_sync(ledger.prune, datetime.now(UTC) - timedelta(days=KEEP_DAYS))
        except MarketError as error:
            log.warning("what is old could not be dropped: %s", error)
        await trio.sleep(HOUR)
