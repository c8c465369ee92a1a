"""Disputes on chain: proofs of faults, cases before committees of verifiers, and demands for rows.

Three contracts, one module for each: `cases`, `proofs`, `demands`. `events` are what happens in them, `terms` what
faults cost and how long everything takes, `statements` the structs that they share. `Disputes` holds them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from web3.types import FilterParams, LogReceipt

from hypercluster.market.chain.contract import Contract
from hypercluster.market.chain.disputes.cases import Case, Cases, Phase, commitment_of
from hypercluster.market.chain.disputes.demands import Demand, Demands, DemandStatus
from hypercluster.market.chain.disputes.events import (
    CaseOpened,
    CaseResolved,
    Committed,
    CommitteeDrawn,
    ContradictionProven,
    CreditsClaimed,
    Delisted,
    Demanded,
    DisputeEvent,
    DrawGoesOn,
    Enlisted,
    EquivocationProven,
    Outcome,
    Revealed,
    Served,
    Vote,
    Withheld,
    dispute_event,
)
from hypercluster.market.chain.disputes.proofs import Proofs
from hypercluster.market.chain.disputes.terms import LOCAL_TERMS, DisputeTerms
from hypercluster.market.chain.logs import logs_of
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Mined
from hypercluster.market.chain.token import Token
from hypercluster.market.trust.receipt import DisputeDomain

__all__ = [
    "LOCAL_TERMS",
    "Case",
    "CaseOpened",
    "CaseResolved",
    "Cases",
    "Committed",
    "CommitteeDrawn",
    "ContradictionProven",
    "CreditsClaimed",
    "Delisted",
    "Demand",
    "DemandStatus",
    "Demanded",
    "Demands",
    "DisputeEvent",
    "DisputeTerms",
    "Disputes",
    "DrawGoesOn",
    "Enlisted",
    "EquivocationProven",
    "Outcome",
    "Phase",
    "Proofs",
    "Revealed",
    "Served",
    "Vote",
    "Withheld",
    "commitment_of",
]


class Disputes:
    """The contracts of disputes, and what happens in them in one order.

    Args:
        rpc: the node.
        cases, proofs, demands: addresses of the three contracts.
        token: the token of bonds.
    """

    def __init__(self, rpc: Rpc, cases: str, proofs: str, demands: str, token: Token) -> None:
        self.rpc = rpc
        self.cases = Cases(rpc, cases, token)
        self.proofs = Proofs(rpc, proofs)
        self.demands = Demands(rpc, demands, token, self.cases)
        self.domain = DisputeDomain(self.cases.address, rpc.chain_id)
        """The EIP-712 domain in which receipts and verdicts are signed for all three."""

    @property
    def terms(self) -> DisputeTerms:
        """What faults cost and how long everything takes."""
        return self.cases.terms

    @property
    def keep_seconds(self) -> int:
        """How long after its issue rows of a receipt can be asked for, so how long a node keeps what it is about.

        An accuser keeps it for `DisputeTerms.longest_seconds`.
        """
        return self.terms.single_seconds

    @property
    def lookback_blocks(self) -> int:
        """How many blocks back a case may have been opened that is still open. Asks the chain some dozen times."""
        return self.blocks_of(self.terms.case_seconds)

    def blocks_of(self, seconds: float) -> int:
        """How many of the latest blocks are not older than so many seconds. Asks the chain some dozen times."""
        now, newest = self.rpc.timestamp(), self.rpc.block_number()
        low, high = 0, newest
        while low < high:
            middle = (low + high) // 2
            if self._timestamp(middle) < now - seconds:
                low = middle + 1
            else:
                high = middle
        return newest - low

    def events_in(self, receipt: Mined) -> list[DisputeEvent]:
        """Return the events of a transaction."""
        return self._parsed(log for log in receipt.logs if log["address"] in self._contracts)

    def events_from(self, from_block: int, *, within: float = 0.0) -> tuple[list[DisputeEvent], int]:
        """Return everything that happened from a block on, in order, and the block to read from the next time.

        `within` as in Rpc.tip.
        """
        tip = self.rpc.tip(within=within)
        next_block = tip[0] + 1
        logs = logs_of(self.rpc, from_block, tip, [self._query])
        return self._parsed(logs), max(next_block, from_block)

    @cached_property
    def _query(self) -> FilterParams:
        return {"address": [self.rpc.web3.to_checksum_address(address) for address in self._contracts]}

    @cached_property
    def _contracts(self) -> dict[str, Contract]:
        return {contract.address: contract for contract in (self.cases, self.proofs, self.demands)}

    def _parsed(self, logs: Iterable[LogReceipt]) -> list[DisputeEvent]:
        events = []
        for log in logs:
            name, values = self._contracts[log["address"]].decoded(log)
            event = dispute_event(name, int(log["blockNumber"]), int(log["logIndex"]), values)
            if event is not None:
                events.append(event)
        return sorted(events, key=lambda event: (event.block, event.index))

    def _timestamp(self, block: int) -> int:
        with self.rpc.clear_errors("to show a block"):
            return int(self.rpc.web3.eth.get_block(block)["timestamp"])
