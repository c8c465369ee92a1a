"""Receipts and verdicts: what providers and verifiers sign about their work (EIP-712, hashes precomputed).

A receipt says "for this step of this stage I got these inputs and gave these outputs". Each holds the hash of
the one before, so the last one stands for all. A verdict says "I ran these inputs and found those outputs so".
Both live in the domain of one set of dispute contracts on one chain, named by its contract of cases.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import coincurve

from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.signing import (
    SigningDomain,
    keccak,
    recover_compact,
    sign_compact,
    uint,
)

DOMAIN_NAME = "HyperCluster Disputes"
NO_RECEIPT = bytes(32)
"""``previous`` of the first receipt of a stage"""
MILLIONTHS = 1_000_000
MOST_TOLERANCE = MILLIONTHS // 10
"""that a verdict may claim, in millionths: the contract takes more for this"""
MAX_PROFILE = 1024
"""characters of a backend profile"""

_STAGE_FIELDS = (
    b"Stage(bytes16 session,bytes16 nonce,bytes32 channelId,bytes32 modelId,uint32 layerStart,uint32 layerStop,"
    b"uint8 wireDtype,bytes32 profile)"
)
_STAGE_TYPE = keccak(_STAGE_FIELDS)
_RECEIPT_TYPE = keccak(
    b"Receipt(Stage stage,uint32 seq,uint32 position,uint32 tokens,uint32 outputs,bytes32 inRoot,bytes32 outRoot,"
    b"bytes32 previous,uint40 issued)" + _STAGE_FIELDS
)
_RECEIPT_NUMBERS = struct.Struct(">28xI28xI28xI28xI")
"""four numbers of 32 bits as words of the ABI"""
_VERDICT_TYPE = keccak(
    b"Verdict(bytes32 modelId,uint32 layerStart,uint32 layerStop,uint8 wireDtype,bool tail,bytes32 profile,"
    b"bytes32 inRoot,bytes32 outRoot,uint32 tokens,uint32 outputs,uint8 finding,uint32 tolerance,"
    b"bytes32 fingerprint,bytes32 job,uint40 issued)"
)


class Finding(IntEnum):
    """What an audit found: within the bounds, between them (which punishes nobody), or beyond them."""

    PASS = 1
    GREY = 2
    FAIL = 3


@dataclass(frozen=True)
class Stage:
    """One stage of one session, as both sides named it when the session opened.

    Attributes:
        session: the client's 16 random bytes.
        nonce: the provider's 16 random bytes: a client alone cannot make two sessions that look like one, and so
            cannot trick a provider into two receipts for the same step.
        channel_id: 32 bytes, the channel that pays for it.
        model_id: 32 bytes.
        layer_start, layer_stop: half-open range; within a session it names the stage.
        wire_dtype: number of node.rows.WireDtype, how rows are encoded.
        profile: SHA-256 of the provider's backend profile.
    """

    session: bytes
    nonce: bytes
    channel_id: bytes
    model_id: bytes
    layer_start: int
    layer_stop: int
    wire_dtype: int
    profile: bytes

    def __post_init__(self) -> None:
        if (len(self.session), len(self.nonce)) != (16, 16):
            raise InvalidAmount("A stage names a session and a nonce of 16 bytes each.")
        if {len(self.channel_id), len(self.model_id), len(self.profile)} != {32}:
            raise InvalidAmount("A stage names a channel, a model and a profile by 32 bytes each.")

    @cached_property
    def _hash(self) -> bytes:
        return keccak(
            _STAGE_TYPE
            + self.session.ljust(32, b"\0")
            + self.nonce.ljust(32, b"\0")
            + self.channel_id
            + self.model_id
            + uint(self.layer_start, 32)
            + uint(self.layer_stop, 32)
            + uint(self.wire_dtype, 8)
            + self.profile
        )

    def struct_hash(self) -> bytes:
        """Return the EIP-712 hashStruct, 32 bytes, computed once."""
        return self._hash


@dataclass(frozen=True)
class Receipt:
    """One step of a stage.

    Attributes:
        seq: number of the step, from 0.
        position: tokens in the session before it.
        tokens: rows of input.
        outputs: rows of output; fewer than ``tokens`` where the last stage gave only the last row.
        in_root, out_root: `hypercluster.market.trust.merkle.root` over the rows as they travelled.
        previous: struct hash of the receipt before, 32 zero bytes for the first.
        issued: unix seconds (UTC).
    """

    stage: Stage
    seq: int
    position: int
    tokens: int
    outputs: int
    in_root: bytes
    out_root: bytes
    previous: bytes
    issued: int

    def struct_hash(self) -> bytes:
        """Return the EIP-712 hashStruct, 32 bytes. Raises InvalidAmount for a field that does not fit."""
        hashes = self.in_root + self.out_root + self.previous
        if len(hashes) != 96 or len(self.in_root) != 32 or len(self.out_root) != 32:
            raise InvalidAmount("A receipt holds three hashes of 32 bytes each.")
        try:
            numbers = _RECEIPT_NUMBERS.pack(self.seq, self.position, self.tokens, self.outputs)
        except struct.error:
            raise InvalidAmount("A number of a receipt does not fit into 32 bits.") from None
        return keccak(_RECEIPT_TYPE + self.stage.struct_hash() + numbers + hashes + uint(self.issued, 40))


@dataclass(frozen=True)
class Verdict:
    """What a verifier found for one transcript: all inputs and outputs of a stage up to some step.

    Attributes:
        model_id: 32 bytes.
        layer_start, layer_stop: half-open range.
        wire_dtype: how the rows are encoded.
        tail: whether the outputs are candidates with logits, not activations.
        profile: SHA-256 of the backend profile that the outputs are said to come from, as in `Stage`.
        in_root, out_root: over all rows of the transcript, whatever the steps they came in.
        tokens, outputs: how many rows of each.
        finding: see `Finding`.
        tolerance: how far a row of activations may be from the verifier's own to pass, in millionths of the latter's
            length.
        fingerprint: SHA-256 of the fingerprint of what the verifier computed itself.
        job: 32 bytes that the client chose for this audit.
        issued: unix seconds (UTC).
    """

    model_id: bytes
    layer_start: int
    layer_stop: int
    wire_dtype: int
    tail: bool
    profile: bytes
    in_root: bytes
    out_root: bytes
    tokens: int
    outputs: int
    finding: Finding
    tolerance: int
    fingerprint: bytes
    job: bytes
    issued: int

    @property
    def question(self) -> bytes:
        """A hash, 32 bytes, of what two contradictory verdicts have in common: all that was asked, not the answer."""
        return keccak(
            self.model_id
            + uint(self.layer_start, 32)
            + uint(self.layer_stop, 32)
            + uint(self.wire_dtype, 8)
            + uint(int(self.tail), 8)
            + self.in_root
            + uint(self.tokens, 32)
            + uint(self.outputs, 32)
        )

    def struct_hash(self) -> bytes:
        """Return the EIP-712 hashStruct, 32 bytes. Raises InvalidAmount for a field that does not fit."""
        hashes = self.model_id, self.profile, self.in_root, self.out_root, self.fingerprint, self.job
        if {len(each) for each in hashes} != {32}:
            raise InvalidAmount("A verdict holds six hashes of 32 bytes each.")
        return keccak(
            _VERDICT_TYPE
            + self.model_id
            + uint(self.layer_start, 32)
            + uint(self.layer_stop, 32)
            + uint(self.wire_dtype, 8)
            + uint(int(self.tail), 8)
            + self.profile
            + self.in_root
            + self.out_root
            + uint(self.tokens, 32)
            + uint(self.outputs, 32)
            + uint(self.finding, 8)
            + uint(self.tolerance, 32)
            + self.fingerprint
            + self.job
            + uint(self.issued, 40)
        )


@dataclass(frozen=True)
class DisputeDomain(SigningDomain):
    """The EIP-712 domain of one contract of cases, and of proofs and demands beside it; signs and recovers receipts and
    verdicts.
    """

    NAME = DOMAIN_NAME

    def digest(self, struct_hash: bytes) -> bytes:
        """Return the 32 bytes that a signature over a receipt or verdict of this struct hash covers."""
        return keccak(self._prefix + struct_hash)

    def sign(self, key: coincurve.PrivateKey, struct_hash: bytes) -> bytes:
        """Sign a receipt or verdict, given by its struct hash; returns 64 bytes (EIP-2098)."""
        return sign_compact(key, self.digest(struct_hash))

    def recover(self, struct_hash: bytes, signature: bytes) -> str:
        """Return the EIP-55 address that signed a receipt or verdict.

        Raises:
            InvalidSignature: malformed, malleable, or nobody's.
        """
        return recover_compact(self.digest(struct_hash), signature)


def profile_hash(text: str) -> bytes:
    """SHA-256 of a profile, 32 bytes, as receipts hold it."""
    return hashlib.sha256(text.encode()).digest()
