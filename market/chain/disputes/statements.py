"""What node keys sign, as the contracts of disputes take it."""

from __future__ import annotations

from hypercluster.market.errors import InvalidSignature
from hypercluster.market.money.signing import SIGNATURE_BYTES
from hypercluster.market.trust.receipt import Receipt, Stage, Verdict

Row = tuple[object, ...]


def stage_row(stage: Stage) -> Row:
    """The fields of struct Stage."""
    ids = stage.session, stage.nonce, stage.channel_id, stage.model_id
    return *ids, stage.layer_start, stage.layer_stop, stage.wire_dtype, stage.profile


def receipt_row(receipt: Receipt) -> Row:
    """The fields of struct Receipt, without its stage."""
    figures = receipt.seq, receipt.position, receipt.tokens, receipt.outputs
    return *figures, receipt.in_root, receipt.out_root, receipt.previous, receipt.issued


def verdict_row(verdict: Verdict) -> Row:
    """The fields of struct Verdict."""
    layers = verdict.model_id, verdict.layer_start, verdict.layer_stop
    rows = verdict.in_root, verdict.out_root, verdict.tokens, verdict.outputs
    said = int(verdict.finding), verdict.tolerance, verdict.fingerprint, verdict.job, verdict.issued
    return *layers, verdict.wire_dtype, verdict.tail, verdict.profile, *rows, *said


def signature_row(signature: bytes) -> Row:
    """The fields of struct Signature: r and vs. Raises InvalidSignature unless it has the 64 bytes of EIP-2098."""
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidSignature(f"The signature has {len(signature)} bytes, and a compact one has 64.")
    return signature[:32], signature[32:]


def signed_receipt(receipt: Receipt, signature: bytes) -> Row:
    """Stage, receipt and signature, with which cases and demands begin."""
    return stage_row(receipt.stage), receipt_row(receipt), signature_row(signature)
