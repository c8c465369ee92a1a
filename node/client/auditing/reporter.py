"""A client's proofs and demands on chain, for which nobody else is needed."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.chain.disputes import (
    ContradictionProven,
    Demanded,
    DemandStatus,
    EquivocationProven,
    Withheld,
)
from hypercluster.market.errors import NodeUnreachable, Reverted, TransactionReplaced, TransactionTimeout
from hypercluster.node.evidence.transcript import Held, Transcript
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.opinion import SignedVerdict
    from hypercluster.node.client.auditing.recall import Equivocation

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 6 * 3600.0
"""for a chain that does not answer while a bond hangs on something"""
MOST_PAUSE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Ruling:
    """How a case ended: `slashed_wei` was taken from the accused."""

    case_id: int | None
    outcome: str
    slashed_wei: int


class Reporter:
    """Takes proofs and demands to the chain, for which nobody else is needed.

    Args:
        sender: pays bonds and gas, and gets bonds and rewards; unlocked when it is first needed.
    """

    def __init__(self, *, chain: Chain, sender: Callable[[], Sender]) -> None:
        self._disputes = chain.disputes
        self._unlock = sender
        self._sender: Sender | None = None
        self._on_chain = Threads(2)

    async def prove_equivocation(self, proof: Equivocation) -> Ruling:
        """Have a node slashed that signed two receipts for one step. Raises MarketError."""
        mined = await self._send(
            self._disputes.proofs.prove_equivocation,
            proof.first,
            proof.first_signature,
            proof.second,
            proof.second_signature,
        )
        found = next(e for e in self._disputes.events_in(mined) if isinstance(e, EquivocationProven))
        return Ruling(None, "equivocation", found.taken)

    async def prove_contradiction(
        self,
        first: SignedVerdict,
        second: SignedVerdict,
        row: int,
        first_row: tuple[bytes, list[bytes]],
        second_row: tuple[bytes, list[bytes]],
    ) -> Ruling:
        """Have a verifier slashed that passed two outputs for one input that differ by far in `row`: the row of
        each with its Merkle proof. Raises MarketError.
        """
        mined = await self._send(
            self._disputes.proofs.prove_contradiction,
            first.verdict,
            first.signature,
            second.verdict,
            second.signature,
            row,
            first_row,
            second_row,
        )
        found = next(e for e in self._disputes.events_in(mined) if isinstance(e, ContradictionProven))
        return Ruling(None, "contradiction", found.taken)

    async def demand(self, transcript: Transcript | Held, *, output: bool, row: int) -> Ruling:
        """Make a provider show a row of its last step on chain, or lose stake; returns when either has happened.

        Raises MarketError.
        """
        receipt, signature = transcript.receipts(self._disputes.domain)[-1]
        mined = await self._send(
            partial(self._disputes.demands.demand, output=output, row=row), receipt, signature
        )
        demanded = next(e for e in self._disputes.events_in(mined) if isinstance(e, Demanded))
        return await self.see_demand(demanded)

    async def see_demand(self, demanded: Demanded) -> Ruling:
        """Wait until a demand was served or its time is over, and end it then.

        A chain that does not answer for a while ends nothing: a bond hangs on it. Raises MarketError.
        """
        demand_id = demanded.demand_id
        while True:
            state = await self._patiently(partial(self._on_chain, self._disputes.demands.state, demand_id))
            if state.status is DemandStatus.SERVED:
                return Ruling(None, "served", 0)
            if state.status is DemandStatus.LAPSED:
                events, _ = await self._patiently(
                    partial(self._on_chain, self._disputes.events_from, demanded.block)
                )
                ended = (e for e in events if isinstance(e, Withheld) and e.demand_id == demand_id)
                return Ruling(None, "withheld", next(ended).taken)
            if time.time() > state.deadline:
                try:
                    await self._patiently(partial(self._send, self._disputes.demands.lapse, demand_id))
                except Reverted as error:
                    log.info("demand %d: %s", demand_id, error)
            await trio.sleep(LOOK_SECONDS)

    async def _patiently(self, act: Callable[[], Awaitable[T]], seconds: float = PATIENCE_SECONDS) -> T:
        """Do it, again and again for so long while the chain does not answer or loses track."""
        since, pause = trio.current_time(), LOOK_SECONDS
        while True:
            try:
                return await act()
            except (NodeUnreachable, TransactionTimeout, TransactionReplaced) as error:
                if trio.current_time() > since + seconds:
                    raise
                log.warning("a case waits for the chain: %s", error)
            await trio.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_SECONDS)

    async def _send(self, function: Callable[..., T], *arguments: object) -> T:
        return await self._on_chain(self._call, function, *arguments)

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        if self._sender is None:
            self._sender = self._unlock()
        return function(self._sender, *arguments)
