"""The chain of receipts of one stage: the provider signs it on, the client and every judge check it on."""

from __future__ import annotations

import coincurve

from hypercluster.market.errors import InvalidSignature
from hypercluster.market.trust.receipt import NO_RECEIPT, DisputeDomain, Receipt, Stage
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.rows import rows_root
from hypercluster.node.wire.records import AuditStep, StepRoots

CLOCK_SKEW = 60
"""seconds by which the moment in a receipt may differ from the client's clock"""


class BadReceipt(NodeError):
    """A receipt is missing, is for something else, or is signed by another key."""

    code = ErrorCode.BAD_SIGNATURE


class ReceiptChain:
    """Receipts of one stage, in order. Both ends compute them from the bytes that travelled, so that the signature
    alone goes over the wire.
    """

    def __init__(self, stage: Stage, domain: DisputeDomain) -> None:
        self.stage = stage
        self.domain = domain
        self.last: Receipt | None = None
        self.previous = NO_RECEIPT
        """struct hash of the last receipt, 32 bytes"""

    @property
    def next_seq(self) -> int:
        """Of the next step."""
        return 0 if self.last is None else self.last.seq + 1

    def next(self, step: AuditStep | StepRoots) -> Receipt:
        """The receipt of the next step, over its rows as they travelled; not yet in the chain.

        Raises BadProof if the data do not divide into the step's rows.
        """
        in_root = rows_root(step.input, step.rows) if step.input else _told(step, "in_root")
        out_root = rows_root(step.output, step.outputs) if step.output else _told(step, "out_root")
        return self.over(step.position, step.rows, step.outputs, in_root, out_root, step.issued)

    def over(
        self, position: int, tokens: int, outputs: int, in_root: bytes, out_root: bytes, issued: int
    ) -> Receipt:
        """The same of a step whose roots, 32 bytes each, are known."""
        return Receipt(
            self.stage,
            self.next_seq,
            position,
            tokens,
            outputs,
            in_root,
            out_root,
            self.previous,
            issued,
        )

    def sign(self, receipt: Receipt, key: coincurve.PrivateKey) -> bytes:
        """Sign the next receipt and go on from it; 64 bytes."""
        self.follow(receipt)
        return self.domain.sign(key, self.previous)

    def copy(self) -> ReceiptChain:
        """The chain as it is now, to go on from it apart."""
        copy = ReceiptChain(self.stage, self.domain)
        copy.last, copy.previous = self.last, self.previous
        return copy

    def follow(self, receipt: Receipt) -> None:
        """Go on from the next receipt, whoever signed it."""
        self.last, self.previous = receipt, receipt.struct_hash()

    def accept(self, receipt: Receipt, signature: bytes, node: str) -> None:
        """Go on from the next receipt if the node at Ethereum address `node` signed it. Raises BadReceipt."""
        struct_hash = receipt.struct_hash()
        try:
            signer = self.domain.recover(struct_hash, signature)
        except InvalidSignature as error:
            raise BadReceipt(f"The receipt of step {receipt.seq} cannot be read: {error}") from None
        if signer != node:
            raise BadReceipt(
                f"The receipt of step {receipt.seq} is not signed by {node} over what was sent and answered."
            )
        self.last, self.previous = receipt, struct_hash


def _told(step: AuditStep | StepRoots, root: str) -> bytes:
    """The root that stands in place of rows which are elsewhere. An AuditStep has its rows."""
    assert isinstance(step, StepRoots)
    return step.in_root if root == "in_root" else step.out_root
