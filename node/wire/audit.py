"""The messages of recalls and audits."""

from __future__ import annotations

from typing import Annotated

from hypercluster.market.trust.receipt import Finding
from hypercluster.node.errors import WireError
from hypercluster.node.wire.bounds import Length, Range, message
from hypercluster.node.wire.fields import MAX_ROWS, Bytes32, Number, Profile, Signature, Tolerance, Unix, Wei
from hypercluster.node.wire.messages import Open
from hypercluster.node.wire.records import AuditStep, StageRecord

RECALL_PROTOCOL = "/hypercluster/recall/2.0.0"
AUDIT_PROTOCOL = "/hypercluster/audit/3.0.0"

MOST_RECALLED = 4096
"""steps in one answer, which ends earlier where they are long"""

Measure = Annotated[float, Range(0, 1.7976931348623157e308)]
"""of a difference: finite"""


@message
class Recall:
    """Client to provider: show a step of a stage of mine again."""

    stage_hash: Bytes32
    seq: Annotated[int, Range(0, (1 << 32) - 1)]
    count: Annotated[int, Range(0, MOST_RECALLED)] = 0
    """how many from there on; 0 is one"""


@message
class Recalled:
    """Provider to client: a step, its receipt, and the hash of the receipt before. Of several each is one message."""

    step: AuditStep
    previous: Bytes32


@message
class AuditOpen:
    """First message of an audit: what was served and who pays; in a case the stage, and nobody pays."""

    opening: Open
    job: Bytes32
    """random, part of the verdict"""
    profile: Profile
    """backend profile of the provider that is audited"""
    case_id: Number = 0
    stage: StageRecord | None = None
    proof: Annotated[bytes, Length(0, 64)] = b""
    """in a case: signature of the accuser's account over `delivery_hash`, 64 bytes; empty from anybody else"""

    def __post_init__(self) -> None:
        if len(self.proof) not in (0, 64):
            raise WireError("proof", f"has {len(self.proof)} bytes, not 64")
        if (self.case_id != 0) != (self.stage is not None):
            raise WireError("stage", "is named in a case, and only there")


@message
class AuditEnd:
    """That was all: what is the verdict?"""


@message
class AuditVerdict:
    """What the verifier found, signed by its node key over the EIP-712 Verdict."""

    finding: Finding
    median_error: Measure
    max_error: Measure
    agreement: Measure
    exact: bool
    tolerance: Tolerance
    """of activations, part of the verdict"""
    fingerprint: Annotated[bytes, Length(0, 16 + 8 * MAX_ROWS)]
    """of its own outputs, see market.trust.fingerprint"""
    issued: Unix
    signature: Signature
    billed_wei: Wei = 0
