"""Finishes what a client left on chain when it was closed: cases, demands for rows, channels that are closing.

It pays nobody and signs no voucher, so it needs neither the session key nor the wallet for itself: other programs of
the home may run meanwhile. Whatever both do is done once, as the contracts see to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError, NodeUnreachable
from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.reporter import Reporter
from hypercluster.node.client.auditing.resuming import LeftOpen, evidence_of
from hypercluster.node.client.closing import WITHDRAWN, push_on
from hypercluster.node.errors import NodeError
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Sender
    from hypercluster.market.chain.disputes import CaseOpened, Demanded
    from hypercluster.market.ledger import Ledger, OutgoingChannel
    from hypercluster.node.evidence.transcript_store import TranscriptStore
    from hypercluster.node.network.eligibility import Eligible
    from hypercluster.node.network.membership import Membership

log = logging.getLogger(__name__)

AGAIN_SECONDS = 600.0
"""after which what failed is tried again"""
MARGIN = 2
"""times the longest that anything can be open: how far back what was left is looked for"""


@dataclass(frozen=True, slots=True)
class Finished:
    """What was finished: a "case", a "demand" or a "channel", its number or id, and how it ended; `slashed_wei` was
    taken from whom it was about.
    """

    what: str
    which: str
    outcome: str
    slashed_wei: int = 0


class Watchtower:
    """Watches over the disputes and channels of one wallet.

    Args:
        wallet: its address; `sender` unlocks it when something has to be sent or signed.
        membership: of a host that is in the network; evidence is handed over through it.
        tell: told of everything that was finished.
        every: seconds between looks at the chain.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        wallet: str,
        sender: Callable[[], Sender],
        ledger: Ledger,
        transcripts: TranscriptStore,
        membership: Membership,
        eligible: Eligible,
        tell: Callable[[Finished], None],
        every: float,
    ) -> None:
        self._chain, self._wallet, self._unlock = chain, wallet, sender
        self._ledger, self._transcripts = ledger, transcripts
        self._membership, self._eligible, self._tell = membership, eligible, tell
        self._every = every
        self._left = LeftOpen(chain, wallet, MARGIN * chain.disputes.terms.longest_seconds)
        self._on_chain = Threads(2, abandon=True)
        self._accusers: dict[str, Accuser] = {}
        self._followed: set[tuple[str, int]] = set()
        self._not_before: dict[tuple[str, int], float] = {}
        """moments (trio's clock) of what failed"""
        self._sender: Sender | None = None
        self._unlocking = Lock()

    async def work(self, *, once: bool, also: Callable[[], Awaitable[bool]]) -> None:
        """Finish what there is and what comes, or with `once` what there is.

        `also` is called at every look, and says whether there is more for it to do. Never raises for chain, disk or
        peers.
        """
        async with trio.open_nursery() as nursery:
            while True:
                waits = await also()  # which may open cases
                waits |= await self._round(nursery)
                if once and not waits and not self._followed:
                    break
                await trio.sleep(self._every)
            nursery.cancel_scope.cancel()

    async def _round(self, nursery: trio.Nursery) -> bool:
        """Take up what is open, and do what is due on channels; whether something is left to wait for."""
        try:
            await self._on_chain(self._left.look)
            closing = await self._on_chain(self._push_channels)
        except MarketError as error:
            log.warning("what is left on chain could not be looked at: %s", error)
            return True
        for case in self._left.cases.values():
            self._follow(nursery, ("case", case.case_id), partial(self._case, nursery, case))
        for demanded in self._left.demands.values():
            self._follow(nursery, ("demand", demanded.demand_id), partial(self._demand, demanded))
        return closing

    def _follow(
        self, nursery: trio.Nursery, which: tuple[str, int], act: Callable[[], Awaitable[Finished]]
    ) -> None:
        if which not in self._followed and trio.current_time() >= self._not_before.get(which, 0.0):
            self._followed.add(which)
            nursery.start_soon(self._see_to, which, act)

    async def _see_to(self, which: tuple[str, int], act: Callable[[], Awaitable[Finished]]) -> None:
        what, number = which
        log.warning("%s %d is open: it is seen through", what, number)
        try:
            self._tell(await act())
        except (NodeError, MarketError) as error:
            log.warning("%s %d could not be seen through: %s", what, number, error)
            self._not_before[which] = trio.current_time() + AGAIN_SECONDS
        finally:
            self._followed.discard(which)

    async def _case(self, nursery: trio.Nursery, case: CaseOpened) -> Finished:
        transcript = await self._on_chain(evidence_of, case, self._transcripts)
        accuser = await self._accuser_for(case.model_id.hex(), nursery)
        ruling = await accuser.go_on(case.case_id, transcript)
        return Finished("case", str(ruling.case_id), ruling.outcome, ruling.slashed_wei)

    async def _demand(self, demanded: Demanded) -> Finished:
        ruling = await Reporter(chain=self._chain, sender=self._wallet_sender).see_demand(demanded)
        return Finished("demand", str(demanded.demand_id), ruling.outcome, ruling.slashed_wei)

    async def _accuser_for(self, model_id: str, nursery: trio.Nursery) -> Accuser:
        """Hands evidence over to verifiers of that model."""
        if model_id not in self._accusers:
            discovery = Discovery(self._membership, OrderBook(model_id, self._eligible))
            self._accusers[model_id] = Accuser(
                chain=self._chain,
                sender=self._wallet_sender,
                host=self._membership.host,
                discovery=discovery,
            )
            await self._membership.follow(discovery)
            nursery.start_soon(_following, discovery)
        return self._accusers[model_id]

    def _push_channels(self) -> bool:
        """Withdraw from channels whose grace period is over; whether others are still closing. Raises MarketError."""
        waits, now = False, time.time()
        for row in self._ledger.payer.channels(self._chain.channels.domain, ended=False):
            state = self._chain.channels.state(row.channel_id)
            waits |= state.open and state.close_at > now
            if state.closed or (state.open and 0 < state.close_at <= now):
                waits |= self._push(row)
        return waits

    def _push(self, row: OutgoingChannel) -> bool:
        """Whether something is left to wait for."""
        channel = "0x" + row.channel_id.hex()
        try:
            done, close_at = push_on(self._chain, self._wallet_sender(), self._ledger, row)
        except NodeUnreachable:
            raise
        except MarketError as error:
            # The others are withdrawn all the same.
            log.warning("channel %s: %s", channel, error)
            return False
        if done == WITHDRAWN:
            self._tell(Finished("channel", channel, done))
        ended = self._ledger.payer.channel(row.channel_id)
        return bool(close_at) or (ended is not None and not ended.ended)

    def _wallet_sender(self) -> Sender:
        """One for all that is sent from here. Called in threads."""
        with self._unlocking:
            if self._sender is None:
                self._sender = self._unlock()
            return self._sender


async def _following(discovery: Discovery) -> None:
    async with discovery.following():
        await trio.sleep_forever()
