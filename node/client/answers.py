"""What a client makes sure of in each answer of a provider, before anybody else sees it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypercluster.market.errors import MarketError
from hypercluster.node.client.exchanging import HopFailed, How, candidates_of, rows_of
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.evidence.receipts import CLOCK_SKEW, ReceiptChain
from hypercluster.node.identity import address_of_peer
from hypercluster.node.rows import (
    TopK,
    WireDtype,
    rows_root,
    unpack_activations,
)
from hypercluster.node.wire.messages import Step, StepResult
from hypercluster.node.wire.records import AuditStep, StepRoots, answered

if TYPE_CHECKING:
    from hypercluster.market.trust.receipt import Receipt
    from hypercluster.node.wire.codec import Message
    from hypercluster.node.wire.links import Rows


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a step: packed activations, candidates of the last stage, or None where the rows went on to the
    provider after; and the roots that the provider signed, 32 bytes each.
    """

    output: bytes | TopK | None
    in_root: bytes
    out_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What is expected of the answers of one session.

    Args:
        peer: the provider.
        top_k: candidates a row of the last stage.
    """

    peer: str
    is_last: bool
    width: int
    top_k: int
    n_vocab: int
    wire_dtype: WireDtype

    def of(self, result: Message, step: Step, receipts: ReceiptChain) -> tuple[Answer, AuditStep | StepRoots]:
        """The answer to a step, and what is kept of it, once its receipt has been taken into the chain.

        Raises HopFailed: it is none, or does not hold.
        """
        if not isinstance(result, StepResult) or result.seq != step.seq:
            raise HopFailed(self.peer, "it answered something else than this step.")
        output = self._output(result, step)
        if abs(result.issued - time.time()) > CLOCK_SKEW:
            raise HopFailed(
                self.peer,
                "its receipt is dated wrongly; is a clock wrong?",
                ErrorCode.BAD_SIGNATURE,
                How.DATED,
            )
        if bool(step.awaited) != bool(result.in_root):
            raise HopFailed(self.peer, "it did not say which rows it took.", ErrorCode.BAD_SHAPE)
        try:
            record = answered(step, result)
            receipt = receipts.next(record)
            receipts.accept(receipt, result.receipt, address_of_peer(self.peer))
        except (NodeError, MarketError) as error:
            code = error.code if isinstance(error, NodeError) else ErrorCode.BAD_SHAPE
            raise HopFailed(self.peer, str(error), code) from None
        return Answer(output, receipt.in_root, receipt.out_root), record

    def inherited(
        self, result: Message, begun: Sequence[AuditStep | StepRoots], receipts: ReceiptChain
    ) -> list[AuditStep | StepRoots]:
        """The steps that a session begins with, with the receipts that its first answer brings, which are taken into
        the chain. Takes its time.

        Raises HopFailed: they are not all signed.
        """
        signed = result.inherited if isinstance(result, StepResult) else b""
        if not isinstance(result, StepResult) or len(signed) != 64 * len(begun):
            raise HopFailed(self.peer, "it did not sign for what the session begins with.")
        node, steps = address_of_peer(self.peer), list[AuditStep | StepRoots]()
        try:
            for place, step in enumerate(begun):
                receipt = signed[64 * place : 64 * (place + 1)]
                steps.append(replace(step, issued=result.issued, receipt=receipt))
                receipts.accept(receipts.next(steps[-1]), receipt, node)
        except (NodeError, MarketError) as error:
            code = error.code if isinstance(error, NodeError) else ErrorCode.BAD_SHAPE
            raise HopFailed(self.peer, str(error), code) from None
        return steps

    def shown(self, rows: Rows, receipt: Receipt) -> bytes:
        """The packed rows that the provider shows, if they are those of its receipt. Raises HopFailed."""
        try:
            fitting = rows.rows == receipt.outputs and rows_root(rows.data, rows.rows) == receipt.out_root
        except MarketError:
            fitting = False
        if not fitting:
            raise HopFailed(
                self.peer, "it shows other rows than those that it signed for.", ErrorCode.BAD_SIGNATURE
            )
        try:
            unpack_activations(rows.data, rows.rows, self.width, self.wire_dtype)
        except NodeError as error:
            raise HopFailed(self.peer, str(error), error.code) from None
        return rows.data

    def _output(self, result: StepResult, step: Step) -> bytes | TopK | None:
        if self.is_last:
            wanted = step.rows if step.all_outputs else 1
            return candidates_of(result, self.peer, wanted, self.top_k, self.n_vocab)
        if result.output or not step.onward:
            return rows_of(result, self.peer, step.rows, self.width, self.wire_dtype)
        if result.rows != step.rows:
            raise HopFailed(
                self.peer, f"it answered for {result.rows} rows, not {step.rows}.", ErrorCode.BAD_SHAPE
            )
        return None
