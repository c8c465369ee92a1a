"""A watch over what a client left, put together from settings, keys and a chain."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypercluster.market.errors import MarketError
from hypercluster.node.client.auditing.assembly import Auditing, client_transcripts, know_terms
from hypercluster.node.client.catching_up import CatchingUp
from hypercluster.node.client.joining import check_way_in
from hypercluster.node.client.watchtower import Finished, Watchtower
from hypercluster.node.errors import NodeError
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import PEERS, Settings
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.host import running_host
from hypercluster.node.network.membership import Membership
from hypercluster.node.network.memory import Memory

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.client.auditing.policy import Report
    from hypercluster.node.client.purse import Purse
    from hypercluster.node.shards.store import StoredModel

log = logging.getLogger(__name__)

PROGRAM = "hc-client watch"


async def watch(
    settings: Settings,
    chain: Chain,
    purse: Purse,
    auditing: Auditing,
    *,
    models: Callable[[str], StoredModel | None],
    on_finished: Callable[[Finished], None],
    on_report: Callable[[str, Report], None],
    once: bool,
    every: float,
) -> None:
    """Finish what is left of the client in a home, and what comes; with `once` what there is.

    It has an identity of its own in the network, so that it may run beside the client.

    Args:
        models: finds a model on this machine by its id; None where it is not here.
        on_finished: told of cases, demands and channels; may be called from a thread.
        on_report: told of audits and of which request they are.
        every: seconds between looks at the chain.

    Raises:
        NoBootstrap: the settings name no node to join through.
        NodeError, MarketError: the ledger cannot be opened.
    """
    check_way_in(settings)
    await know_terms(chain)
    with open_ledger(settings) as ledger:
        late = CatchingUp(settings, chain, purse, ledger, auditing, models, on_report, PROGRAM)

        async def audits() -> bool:
            try:
                return await late.work()
            except (NodeError, MarketError) as error:
                log.warning("audits could not be finished: %s", error)
                return not once

        async with running_host(secrets.token_bytes(32)) as host:
            membership = Membership(
                host,
                bootstrap=settings.bootstrap,
                mdns=settings.mdns,
                memory=Memory(settings.home / PEERS),
            )
            tower = Watchtower(
                chain=chain,
                wallet=purse.wallet,
                sender=purse.unlock,
                ledger=ledger,
                transcripts=client_transcripts(settings, chain),
                membership=membership,
                eligible=Eligibility(chain),
                tell=on_finished,
                every=every,
            )
            async with membership.running():
                await tower.work(once=once, also=audits)
