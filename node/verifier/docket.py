"""What a verifier knows of cases from the chain's events: who opened them, which have no committee, where it sits.

Blocks may have been replaced since they were read, and cases are told apart by their numbers alone: so the last ones
are read again at every look, and a seat is only good for the receipt, and the committee, that it was taken for.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from hypercluster.market.chain import Chain
from hypercluster.market.chain.disputes import CaseOpened, CaseResolved, CommitteeDrawn
from hypercluster.market.chain.logs import again_from
from hypercluster.market.ledger import Duty, DutyPhase, Ledger
from hypercluster.node.threads import Threads

log = logging.getLogger(__name__)


class Docket:
    """The cases of one chain, as far as they concern one verifier.

    Args:
        node: our node key's address.
        model_id: of the model that is here; we can say nothing of others.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        node: str,
        ledger: Ledger,
        model_id: str,
        on_chain: Threads,
        in_thread: Threads,
    ) -> None:
        self._chain, self._disputes, self._ledger = chain, chain.disputes, ledger
        self._node, self._model_id = node, model_id
        self._on_chain, self._in_thread = on_chain, in_thread
        self._watching = trio.Lock()
        self._next_block: int | None = None
        self._looked = -math.inf
        self._open: list[Duty] | None = None
        """our seats with work left, as the ledger has them; None: to be read"""
        self._writes = 0
        """into the ledger so far"""
        self._foreign: set[int] = set()
        self._receipts: dict[int, bytes] = {}
        self.undrawn: dict[int, CaseOpened] = {}
        """those about our model that have no committee yet"""
        self.accusers: dict[int, str] = {}
        """addresses of who opened the cases that are not closed"""
        self.benches: dict[int, tuple[str, ...]] = {}
        """committees of those"""

    def is_foreign(self, case_id: int) -> bool:
        """Whether it is about a model that is not here."""
        return case_id in self._foreign

    async def duties(self) -> list[Duty]:
        """Our seats with work left; nobody else writes them."""
        if self._open is not None:
            return list(self._open)
        before = self._writes
        found = await self._duties(open_only=True)
        if self._writes == before:
            self._open = found
        return list(found)

    async def save(self, duty: Duty) -> None:
        """Write a seat down; durable when this returns."""
        await self._write(self._ledger.trust.save_duty, duty)

    async def drop(self, duty: Duty, why: str) -> None:
        """Forget a seat that the chain knows no more."""
        log.warning("the seat in case %d is dropped: %s", duty.case_id, why)
        await self._write(self._ledger.trust.drop_duty, duty)

    async def _write(self, write: Callable[[Duty], None], duty: Duty) -> None:
        try:
            await self._in_thread(write, duty)
        finally:
            self._open = None
            self._writes += 1

    async def look(self, *, within: float = 0.0, tip_within: float = 0.0) -> None:
        """Take note of new cases and of committees that we are on, unless that was done `within` some seconds; by a
        latest block that was the latest `tip_within` some seconds (Rpc.tip).

        Whoever waits here for somebody else's look has it then, so strangers cost one look in so much time at most.
        Raises ChainError.
        """
        async with self._watching:
            if trio.current_time() > self._looked + within:
                await self._read_events(tip_within)
                self._looked = trio.current_time()

    async def _read_events(self, tip_within: float) -> None:
        start = self._next_block
        if start is None:
            head = await self._on_chain(self._chain.block_number)
            start = max(self._chain.deployment.block, head - self._disputes.lookback_blocks)
        else:
            start = max(self._chain.deployment.block, again_from(start))
        events, next_block = await self._on_chain(self._disputes.events_from, start, within=tip_within)
        seats: dict[int, Duty] = {}
        if any(isinstance(event, CommitteeDrawn) for event in events):
            seats = {each.case_id: each for each in await self._duties()}
        for event in events:
            if isinstance(event, CaseOpened):
                self._opened(event)
            elif isinstance(event, CommitteeDrawn):
                self.undrawn.pop(event.case_id, None)
                self.benches[event.case_id] = event.members
                await self._drawn(event, seats.get(event.case_id))
            elif isinstance(event, CaseResolved):
                for known in (self.accusers, self.benches, self.undrawn, self._receipts):
                    known.pop(event.case_id, None)
        self._next_block = next_block

    def _opened(self, event: CaseOpened) -> None:
        self.accusers[event.case_id] = event.accuser
        self._receipts[event.case_id] = event.receipt_hash
        if event.model_id.hex() == self._model_id:
            self._foreign.discard(event.case_id)
            self.undrawn[event.case_id] = event
        else:
            # We may be drawn for it all the same, and can say nothing then.
            self._foreign.add(event.case_id)
            self.undrawn.pop(event.case_id, None)

    async def _drawn(self, event: CommitteeDrawn, known: Duty | None) -> None:
        if self._node not in event.members:
            if known is not None and known.phase not in (DutyPhase.RESOLVED, DutyPhase.MISSED):
                await self.drop(known, "another committee was drawn")
            return
        members, seat = list(event.members), event.members.index(self._node)
        receipt = self._receipts.get(event.case_id)
        if known is not None and known.members == members and receipt in (None, known.receipt_hash):
            return
        case = await self._on_chain(self._disputes.cases.state, event.case_id)
        if known is None or known.receipt_hash != case.receipt_hash:
            log.warning("drawn into the committee of case %d", event.case_id)
            await self.save(
                Duty(
                    contract=self._disputes.cases.address,
                    chain_id=self._chain.chain_id,
                    case_id=event.case_id,
                    seat=seat,
                    members=members,
                    node=case.node,
                    receipt_hash=case.receipt_hash,
                    stage_hash=case.stage_hash,
                    phase=DutyPhase.DRAWN,
                    vote=None,
                    fingerprint=bytes(32),
                    reveal_deadline=0,
                    salt=secrets.token_bytes(32),
                    commit_deadline=event.commit_deadline,
                )
            )
        elif known.members != members:
            # A committee of other members: whoever had committed has to do it again.
            again = DutyPhase.JUDGED if known.phase == DutyPhase.COMMITTED else DutyPhase(known.phase)
            await self.save(replace(known, seat=seat, members=members, phase=again))

    async def _duties(self, *, open_only: bool = False) -> list[Duty]:
        of = self._disputes.cases.address, self._chain.chain_id
        return await self._in_thread(partial(self._ledger.trust.duties, *of, open_only=open_only))
