"""Rumours for tests, signed as those are that nodes and verifiers give rise to."""

from __future__ import annotations

import time
from typing import Any

import coincurve

from hypercluster.market.trust.receipt import (
    NO_RECEIPT,
    DisputeDomain,
    Finding,
    Receipt,
    Verdict,
    profile_hash,
)
from hypercluster.node.evidence.rumour import contradiction, testified
from hypercluster.node.identity import peer_of_key
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire.records import StageRecord
from hypercluster.node.wire.rumours import Rumour, Testimony
from tests.node.helpers.offers import MODEL, OPERATOR

DOMAIN = DisputeDomain("0x" + "44" * 20, 31337)
WITNESS = "0x" + "55" * 20


def stage_of(key: bytes, **changes: Any) -> StageRecord:
    fields: dict[str, Any] = {
        "session": b"s" * 16,
        "nonce": b"n" * 16,
        "channel_id": b"c" * 32,
        "model_id": MODEL,
        "layer_start": 0,
        "layer_stop": 4,
        "wire_dtype": WireDtype.F32,
        "profile": "cpu",
        "peer": peer_of_key(key),
        "client": "client",
        "top_k": 0,
    }
    return StageRecord(**(fields | changes))


def receipt_of(record: StageRecord, **changes: Any) -> Receipt:
    fields: dict[str, Any] = {
        "stage": record.stage,
        "seq": 0,
        "position": 0,
        "tokens": 3,
        "outputs": 3,
        "in_root": b"i" * 32,
        "out_root": b"o" * 32,
        "previous": NO_RECEIPT,
        "issued": int(time.time()),
    }
    return Receipt(**(fields | changes))


def signed(receipt: Receipt, key: bytes) -> tuple[Receipt, bytes]:
    return receipt, DOMAIN.sign(coincurve.PrivateKey(key), receipt.struct_hash())


def twice(key: bytes, operator: str = OPERATOR, **changes: Any) -> Rumour:
    """The node of `key` signed one step over two outputs."""
    record = stage_of(key)
    first = signed(receipt_of(record), key)
    return contradiction(
        record, operator, first, signed(receipt_of(record, **{"out_root": b"x" * 32} | changes), key)
    )


def failed(
    key: bytes,
    verifier: bytes,
    operator: str = OPERATOR,
    witness: str = WITNESS,
    *,
    finding: Finding = Finding.FAIL,
    issued: int | None = None,
    **changes: Any,
) -> Rumour:
    """A verifier failed what the node of `key` signed; `changes` are the receipt's."""
    record = stage_of(key)
    receipt = receipt_of(record, **changes)
    verdict = Verdict(
        model_id=bytes.fromhex(MODEL),
        layer_start=record.layer_start,
        layer_stop=record.layer_stop,
        wire_dtype=int(record.wire_dtype),
        tail=False,
        profile=profile_hash(record.profile),
        in_root=b"i" * 32,
        out_root=b"o" * 32,
        tokens=3,
        outputs=3,
        finding=finding,
        tolerance=10_000,
        fingerprint=b"f" * 32,
        job=b"j" * 32,
        issued=int(time.time()) if issued is None else issued,
    )
    said = Testimony(
        witness=witness,
        verifier=peer_of_key(verifier),
        tail=False,
        tolerance=verdict.tolerance,
        fingerprint=verdict.fingerprint,
        job=verdict.job,
        issued=verdict.issued,
        signature=DOMAIN.sign(coincurve.PrivateKey(verifier), verdict.struct_hash()),
    )
    return testified(record, operator, signed(receipt, key), said)
