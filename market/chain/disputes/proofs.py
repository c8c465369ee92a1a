"""DisputeProofs: two statements of one node key that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence

from hypercluster.market.chain.contract import Contract
from hypercluster.market.chain.disputes.statements import receipt_row, signature_row, verdict_row
from hypercluster.market.chain.sender import Mined, Sender
from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.signing import checksum
from hypercluster.market.trust.receipt import Receipt, Verdict


class Proofs(Contract):
    """The contract of proofs. Methods that take a sender return when the transaction is mined.

    All of those raise Reverted, InsufficientFunds, NodeUnreachable, TransactionTimeout, TransactionReplaced.
    Signatures have 64 bytes (EIP-2098), or InvalidSignature is raised.
    """

    artifact_name = "DisputeProofs"

    def prove_equivocation(
        self, sender: Sender, first: Receipt, first_signature: bytes, second: Receipt, second_signature: bytes
    ) -> Mined:
        """Show two different receipts of one node for one step of a stage, for a reward.

        Raises InvalidAmount for receipts of two stages.
        """
        if first.stage != second.stage:
            raise InvalidAmount("Two receipts contradict each other only in one stage.")
        rows = [
            receipt_row(first),
            signature_row(first_signature),
            receipt_row(second),
            signature_row(second_signature),
        ]
        return self._send(
            sender, "to prove an equivocation", "proveEquivocation", first.stage.struct_hash(), *rows
        )

    def prove_contradiction(
        self,
        sender: Sender,
        first: Verdict,
        first_signature: bytes,
        second: Verdict,
        second_signature: bytes,
        row: int,
        first_row: tuple[bytes, Sequence[bytes]],
        second_row: tuple[bytes, Sequence[bytes]],
    ) -> Mined:
        """Show two verdicts of one verifier that pass different outputs of one input, for a reward.

        Args:
            row: number of a row of output that differs.
            first_row: that row under the first verdict's ``out_root``, with its Merkle proof.
            second_row: the same of the second.
        """
        signed = [
            verdict_row(first),
            signature_row(first_signature),
            verdict_row(second),
            signature_row(second_signature),
        ]
        rows = [first_row[0], list(first_row[1]), second_row[0], list(second_row[1])]
        return self._send(sender, "to prove a contradiction", "proveContradiction", *signed, row, *rows)

    def is_equivocator(self, node: str, stage_hash: bytes, seq: int) -> bool:
        """Say whether a node was punished for two receipts of a step."""
        return bool(self._read("isEquivocator", checksum(node), stage_hash, seq))

    def is_contradictor(self, node: str, in_root: bytes) -> bool:
        """Say whether a verifier was punished for two passes of an input."""
        return bool(self._read("isContradictor", checksum(node), in_root))
