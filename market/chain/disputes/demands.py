"""DisputeDemands: single rows of a receipt, to be shown on chain in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hypercluster.market.chain.contract import Contract
from hypercluster.market.chain.disputes.cases import Cases
from hypercluster.market.chain.disputes.statements import signed_receipt
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Mined, Sender, Sent
from hypercluster.market.chain.token import Token
from hypercluster.market.money.signing import checksum
from hypercluster.market.trust.receipt import Receipt

_TOGETHER = 100


class DemandStatus(IntEnum):
    """Where a demand stands."""

    NONE = 0
    OPEN = 1
    SERVED = 2
    LAPSED = 3


@dataclass(frozen=True)
class Demand:
    """The chain's view of a demand: row ``row`` of the ``size`` rows under ``root``, until ``deadline`` (unix)."""

    demander: str
    row: int
    size: int
    status: DemandStatus
    node: str
    deadline: int
    root: bytes


class Demands(Contract):
    """The contract of demands. Methods that take a sender return when the transaction is mined.

    All of those raise Reverted, InsufficientFunds, NodeUnreachable, TransactionTimeout, TransactionReplaced.
    Signatures have 64 bytes (EIP-2098), or InvalidSignature is raised.
    """

    artifact_name = "DisputeDemands"

    def __init__(self, rpc: Rpc, address: str, token: Token, cases: Cases) -> None:
        super().__init__(rpc, address)
        self.token = token
        self._cases = cases  # where the terms are

    def demand(self, sender: Sender, receipt: Receipt, signature: bytes, *, output: bool, row: int) -> Mined:
        """Demand that a row of a receipt be shown, with a permit over the bond in the same transaction.

        The number of the demand is in the `Demanded` event: see `Disputes.events_in`.
        """
        with sender.permits:
            permit = self.token.permit(sender, self.address, self._cases.terms.demand_bond)
            arguments = *signed_receipt(receipt, signature), output, row, *permit
            return self._send(sender, "to demand a row", "demandWithPermit", *arguments)

    def serve(self, sender: Sender, demand_id: int, data: bytes, proof: Sequence[bytes]) -> Mined:
        """Show a demanded row with its Merkle proof; the bond goes to the node's operator."""
        return self._send(sender, "to serve a demand", "serve", demand_id, data, list(proof))

    def submit_serve(self, sender: Sender, demand_id: int, data: bytes, proof: Sequence[bytes]) -> Sent:
        """The same without waiting until it is mined; see `Sender.wait`."""
        return self._submit(sender, "to serve a demand", "serve", demand_id, data, list(proof))

    def lapse(self, sender: Sender, demand_id: int) -> Mined:
        """End a demand that was not served in time."""
        return self._send(sender, "to end a demand", "lapse", demand_id)

    def state(self, demand_id: int) -> Demand:
        """Return the chain's view of a demand."""
        return _demand(*self._read("demands", demand_id))

    def states(self, demand_ids: Sequence[int]) -> list[Demand]:
        """Return the same of several ones, a hundred in a request."""
        found: list[Demand] = []
        for start in range(0, len(demand_ids), _TOGETHER):
            calls = [("demands", each) for each in demand_ids[start : start + _TOGETHER]]
            found += [_demand(*values) for values in self._read_many(calls)]
        return found


def _demand(demander: str, row: int, size: int, status: int, node: str, deadline: int, root: bytes) -> Demand:
    return Demand(checksum(demander), row, size, DemandStatus(status), checksum(node), deadline, bytes(root))
