"""The message of a rumour: evidence against an operator that whoever gets it can check."""

from __future__ import annotations

from typing import Annotated

from hypercluster.market.trust.receipt import Stage
from hypercluster.node.errors import WireError
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire.bounds import Range, message
from hypercluster.node.wire.fields import (
    Address,
    Bytes16,
    Bytes32,
    LayerStart,
    LayerStop,
    ModelId,
    Peer,
    Position,
    Rows,
    Signature,
    Tolerance,
    Unix,
    check_range,
)


@message
class SignedReceipt:
    """A receipt of a stage that is named beside it, signed by the node that served."""

    seq: Annotated[int, Range(0, (1 << 32) - 1)]
    position: Position
    tokens: Rows
    outputs: Rows
    in_root: Bytes32
    out_root: Bytes32
    previous: Bytes32
    issued: Unix
    signature: Signature


@message
class Testimony:
    """A failing verdict over the rows of the receipt beside it, signed by a verifier."""

    witness: Address
    """operator of the verifier"""
    verifier: Peer
    tail: bool
    tolerance: Tolerance
    fingerprint: Bytes32
    job: Bytes32
    issued: Unix
    signature: Signature


@message
class Rumour:
    """What a node signed about one stage, and either the same step signed otherwise or what a verifier found."""

    operator: Address
    peer: Peer
    """the accused node, and the operator that answers for it"""
    session: Bytes16
    nonce: Bytes16
    channel_id: Bytes32
    model_id: ModelId
    layer_start: LayerStart
    layer_stop: LayerStop
    wire_dtype: WireDtype
    profile: Bytes32
    """SHA-256 of the text"""
    receipt: SignedReceipt
    other: SignedReceipt | None = None
    testimony: Testimony | None = None

    def __post_init__(self) -> None:
        check_range(self.layer_start, self.layer_stop)
        if (self.other is None) == (self.testimony is None):
            raise WireError("testimony", "or another receipt is there, and never both")

    @property
    def stage(self) -> Stage:
        """As the receipts name it."""
        return Stage(
            session=self.session,
            nonce=self.nonce,
            channel_id=self.channel_id,
            model_id=bytes.fromhex(self.model_id),
            layer_start=self.layer_start,
            layer_stop=self.layer_stop,
            wire_dtype=int(self.wire_dtype),
            profile=self.profile,
        )
