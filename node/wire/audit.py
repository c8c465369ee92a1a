"""The messages of recalls and audits, under the same rules as those of messages.py."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError

from hypercluster.market.trust.receipt import Finding, Stage, profile_hash
from hypercluster.node.errors import ErrorCode, WireError
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire import wire_pb2 as pb
from hypercluster.node.wire.messages import (
    MAX_ROWS,
    Message,
    Open,
    check,
    check_range,
    enum_of,
    from_wei,
    model_id_of,
    open_from_pb,
    open_to_pb,
    to_wei,
)
from hypercluster.node.wire.messages import decode as decode_message
from hypercluster.node.wire.messages import encode as encode_message

RECALL_PROTOCOL = "/hypercluster/recall/2.0.0"
AUDIT_PROTOCOL = "/hypercluster/audit/2.0.0"

MAX_FINGERPRINT = 16 + 8 * MAX_ROWS


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A stage with what its hash hides: the text of the profile, who served it, and the candidates asked for."""

    session: bytes
    nonce: bytes
    channel_id: bytes
    model_id: str
    layer_start: int
    layer_stop: int
    wire_dtype: WireDtype
    profile: str
    peer: str
    client: str
    """peer id of the client"""
    top_k: int

    def __post_init__(self) -> None:
        check(self)
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


@dataclass(frozen=True, slots=True)
class Recall:
    """Client to provider: show a step of a stage of mine again."""

    stage_hash: bytes
    seq: int

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class AuditStep:
    """A step as it was served, packed by node.rows; with its receipt, or with the voucher that pays for its audit."""

    seq: int
    position: int
    rows: int
    outputs: int
    """rows of output"""
    input: bytes
    output: bytes
    issued: int = 0
    receipt: bytes = b""
    """signature of the receipt, 64 bytes, empty in a paid audit"""
    cumulative_wei: int = 0
    voucher: bytes = b""
    """signature of the voucher, 64 bytes, empty in a case"""

    def __post_init__(self) -> None:
        # Of the bounds for other messages the one on receipts does not hold here.
        for name, low, high in (("seq", 0, 2**32 - 1), ("position", 0, 2**24), ("rows", 1, MAX_ROWS)):
            if not low <= getattr(self, name) <= high:
                raise WireError(name, f"is {getattr(self, name)}, outside {low} to {high}")
        if not (1 <= self.outputs <= self.rows and 0 <= self.issued < 2**40):
            raise WireError("outputs", f"are {self.outputs} of {self.rows} rows, or issued is no time")
        for name in ("input", "output"):
            if not getattr(self, name):
                raise WireError(name, "is empty")
        for name in ("receipt", "voucher"):
            if len(getattr(self, name)) not in (0, 64):
                raise WireError(name, f"has {len(getattr(self, name))} bytes, not 64")


@dataclass(frozen=True, slots=True)
class Recalled:
    """Provider to client: the step, its receipt, and the hash of the receipt before."""

    step: AuditStep
    previous: bytes

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class AuditOpen:
    """First message of an audit: what was served and who pays; in a case the stage, and nobody pays."""

    opening: Open
    job: bytes
    """32 random bytes, part of the verdict"""
    profile: str
    """backend profile of the provider that is audited"""
    case_id: int = 0
    stage: StageRecord | None = None

    def __post_init__(self) -> None:
        check(self)
        if (self.case_id != 0) != (self.stage is not None):
            raise WireError("stage", "is named in a case, and only there")


@dataclass(frozen=True, slots=True)
class AuditEnd:
    """That was all: what is the verdict?"""


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What the verifier found, signed by its node key over the EIP-712 Verdict."""

    finding: Finding
    median_error: float
    max_error: float
    agreement: float
    exact: bool
    fingerprint: bytes
    """of its own outputs, see market.fingerprint"""
    issued: int
    signature: bytes
    billed_wei: int = 0

    def __post_init__(self) -> None:
        check(self)
        if len(self.fingerprint) > MAX_FINGERPRINT:
            raise WireError("fingerprint", f"has {len(self.fingerprint)} bytes")
        for name in ("median_error", "max_error", "agreement"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise WireError(name, "is no measure of a difference")


AnyMessage: TypeAlias = (
    Message | StageRecord | Recall | Recalled | AuditOpen | AuditStep | AuditEnd | AuditVerdict
)


def encode(message: AnyMessage) -> bytes:
    """The bytes of the Frame that carries `message`, one of these or of node.wire, without the length prefix."""
    match message:
        case AuditStep():
            frame = pb.Frame(audit_step=_step_to_pb(message))
        case StageRecord():
            frame = pb.Frame(stage=_stage_to_pb(message))
        case Recall():
            frame = pb.Frame(recall=pb.Recall(stage=message.stage_hash, seq=message.seq))
        case Recalled():
            frame = pb.Frame(recalled=pb.Recalled(step=_step_to_pb(message.step), previous=message.previous))
        case AuditOpen():
            frame = pb.Frame(
                audit_open=pb.AuditOpen(
                    open=open_to_pb(message.opening),
                    job=message.job,
                    profile=message.profile,
                    case_id=message.case_id,
                    stage=_stage_to_pb(message.stage) if message.stage else None,
                )
            )
        case AuditEnd():
            frame = pb.Frame(audit_end=pb.AuditEnd())
        case AuditVerdict():
            frame = pb.Frame(
                verdict=pb.AuditVerdict(
                    finding=int(message.finding),
                    median_error=message.median_error,
                    max_error=message.max_error,
                    agreement=message.agreement,
                    exact=message.exact,
                    fingerprint=message.fingerprint,
                    issued=message.issued,
                    signature=message.signature,
                    billed=from_wei(message.billed_wei),
                )
            )
        case _:
            return encode_message(message)
    return frame.SerializeToString()


def decode(data: bytes) -> AnyMessage:
    """The message in the bytes of one Frame. Raises WireError naming the field that is wrong."""
    try:
        frame = pb.Frame.FromString(data)
    except DecodeError:
        raise WireError("frame", "is no protobuf Frame") from None
    match frame.WhichOneof("message"):
        case "audit_step":
            return _step_from_pb(frame.audit_step)
        case "stage":
            return _stage_from_pb(frame.stage)
        case "recall":
            return Recall(frame.recall.stage, frame.recall.seq)
        case "recalled":
            return Recalled(_step_from_pb(frame.recalled.step), frame.recalled.previous)
        case "audit_open":
            opened = frame.audit_open
            return AuditOpen(
                opening=open_from_pb(opened.open),
                job=opened.job,
                profile=opened.profile,
                case_id=opened.case_id,
                stage=_stage_from_pb(opened.stage) if opened.HasField("stage") else None,
            )
        case "audit_end":
            return AuditEnd()
        case "verdict":
            found = frame.verdict
            return AuditVerdict(
                finding=enum_of(Finding, "finding", found.finding),
                median_error=found.median_error,
                max_error=found.max_error,
                agreement=found.agreement,
                exact=found.exact,
                fingerprint=found.fingerprint,
                issued=found.issued,
                signature=found.signature,
                billed_wei=to_wei("billed_wei", found.billed),
            )
        case "advert" | None:
            raise WireError("frame", "holds no message of this version", ErrorCode.UNSUPPORTED_VERSION)
    return decode_message(data)


def _stage_to_pb(record: StageRecord) -> pb.StageRecord:
    return pb.StageRecord(
        session=record.session,
        nonce=record.nonce,
        channel_id=record.channel_id,
        model_id=bytes.fromhex(record.model_id),
        layer_start=record.layer_start,
        layer_stop=record.layer_stop,
        wire_dtype=record.wire_dtype.value,  # type: ignore[arg-type]
        profile=record.profile,
        peer=record.peer,
        client=record.client,
        top_k=record.top_k,
    )


def _stage_from_pb(message: pb.StageRecord) -> StageRecord:
    return StageRecord(
        session=message.session,
        nonce=message.nonce,
        channel_id=message.channel_id,
        model_id=model_id_of(message.model_id),
        layer_start=message.layer_start,
        layer_stop=message.layer_stop,
        wire_dtype=enum_of(WireDtype, "wire_dtype", message.wire_dtype),
        profile=message.profile,
        peer=message.peer,
        client=message.client,
        top_k=message.top_k,
    )


def _step_to_pb(step: AuditStep) -> pb.AuditStep:
    return pb.AuditStep(
        seq=step.seq,
        position=step.position,
        rows=step.rows,
        outputs=step.outputs,
        input=step.input,
        output=step.output,
        issued=step.issued,
        receipt=step.receipt,
        cumulative=from_wei(step.cumulative_wei),
        signature=step.voucher,
    )


def _step_from_pb(message: pb.AuditStep) -> AuditStep:
    return AuditStep(
        seq=message.seq,
        position=message.position,
        rows=message.rows,
        outputs=message.outputs,
        input=message.input,
        output=message.output,
        issued=message.issued,
        receipt=message.receipt,
        cumulative_wei=to_wei("cumulative_wei", message.cumulative),
        voucher=message.signature,
    )
