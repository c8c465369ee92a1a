"""A stage and its steps as they were served: what receipts are over, transcripts keep and audits look at."""

from __future__ import annotations

from typing import Annotated

from hypercluster.market.trust.receipt import Stage, profile_hash
from hypercluster.node.errors import WireError
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire.bounds import Length, Range, message
from hypercluster.node.wire.fields import (
    Bytes16,
    Bytes32,
    CandidateCount,
    LayerStart,
    LayerStop,
    MaybePacked,
    MaybeRoot,
    ModelId,
    Packed,
    Peer,
    Position,
    Profile,
    Rows,
    Unix,
    Wei,
    check_range,
)
from hypercluster.node.wire.messages import Step, StepResult


@message
class StageRecord:
    """A stage with what its hash hides: the text of the profile, who served it, and the candidates asked for."""

    session: Bytes16
    nonce: Bytes16
    channel_id: Bytes32
    model_id: ModelId
    layer_start: LayerStart
    layer_stop: LayerStop
    wire_dtype: WireDtype
    profile: Profile
    peer: Peer
    client: Peer
    """peer id of the client"""
    top_k: CandidateCount

    def __post_init__(self) -> None:
        check_range(self.layer_start, self.layer_stop)

    @property
    def stage(self) -> Stage:
        """As receipts name it."""
        return Stage(
            session=self.session,
            nonce=self.nonce,
            channel_id=self.channel_id,
            model_id=bytes.fromhex(self.model_id),
            layer_start=self.layer_start,
            layer_stop=self.layer_stop,
            wire_dtype=int(self.wire_dtype),
            profile=profile_hash(self.profile),
        )


@message
class AuditStep:
    """A step as it was served; with its receipt, or with the voucher that pays for its audit."""

    seq: Annotated[int, Range(0, (1 << 32) - 1)]
    position: Position
    rows: Rows
    outputs: Rows
    """rows of output, at most as many as of input"""
    input: Packed
    output: Packed
    issued: Unix = 0
    receipt: Annotated[bytes, Length(0, 64)] = b""
    """signature of the receipt, 64 bytes, empty in a paid audit"""
    cumulative_wei: Wei = 0
    voucher: Annotated[bytes, Length(0, 64)] = b""
    """signature of the voucher, 64 bytes, empty in a case"""

    def __post_init__(self) -> None:
        if self.outputs > self.rows:
            raise WireError("outputs", f"are {self.outputs} of {self.rows} rows")
        for name, signature in (("receipt", self.receipt), ("voucher", self.voucher)):
            if len(signature) not in (0, 64):
                raise WireError(name, f"has {len(signature)} bytes, not 64")


@message
class StepRoots:
    """A step as its client knows it where rows went past the client: the roots that the receipt has, 32 bytes each, in
    place of rows that it never saw. Never sent to anybody: it stands in the client's own transcript.
    """

    seq: Annotated[int, Range(0, (1 << 32) - 1)]
    position: Position
    rows: Rows
    outputs: Rows
    input: MaybePacked
    output: MaybePacked
    in_root: MaybeRoot
    """empty where there are the rows"""
    out_root: MaybeRoot
    issued: Unix
    receipt: Annotated[bytes, Length(64)]

    def __post_init__(self) -> None:
        for name, rows, root in (
            ("in_root", self.input, self.in_root),
            ("out_root", self.output, self.out_root),
        ):
            if len(root) != (0 if rows else 32):
                raise WireError(name, f"has {len(root)} bytes, which is wrong here")


def answered(step: Step, result: StepResult) -> AuditStep | StepRoots:
    """What a client keeps of a step and its answer: all of it, or what went by it."""
    if step.input and result.output:
        return served(
            step, output=result.output, outputs=result.rows, issued=result.issued, receipt=result.receipt
        )
    return StepRoots(
        seq=step.seq,
        position=step.position,
        rows=step.rows,
        outputs=result.rows,
        input=step.input,
        output=result.output,
        in_root=result.in_root,
        out_root=result.out_root,
        issued=result.issued,
        receipt=result.receipt,
    )


def served(step: Step, *, output: bytes, outputs: int, issued: int, receipt: bytes = b"") -> AuditStep:
    """The record of a step and of what it was answered with: `outputs` packed rows, at `issued` (unix seconds).

    Provider and client both make it of the bytes that travel, so that both compute the same receipt.
    """
    return AuditStep(
        seq=step.seq,
        position=step.position,
        rows=step.rows,
        outputs=outputs,
        input=step.input,
        output=output,
        issued=issued,
        receipt=receipt,
    )
