"""Receipts and verdicts against eth-account's own EIP-712 encoder, and signatures that must not count."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import coincurve
import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.errors import InvalidAmount, InvalidSignature
from hypercluster.market.money.signing import address_of, keccak
from hypercluster.market.trust.receipt import NO_RECEIPT, DisputeDomain, Finding, Receipt, Stage, Verdict

KEY = coincurve.PrivateKey(bytes(31) + b"\x07")
DOMAIN = DisputeDomain("0x" + "11" * 20, 31337)

STAGE = [
    ("session", "bytes16"),
    ("nonce", "bytes16"),
    ("channelId", "bytes32"),
    ("modelId", "bytes32"),
    ("layerStart", "uint32"),
    ("layerStop", "uint32"),
    ("wireDtype", "uint8"),
    ("profile", "bytes32"),
]
RECEIPT = [
    ("stage", "Stage"),
    ("seq", "uint32"),
    ("position", "uint32"),
    ("tokens", "uint32"),
    ("outputs", "uint32"),
    ("inRoot", "bytes32"),
    ("outRoot", "bytes32"),
    ("previous", "bytes32"),
    ("issued", "uint40"),
]
VERDICT = [
    ("modelId", "bytes32"),
    ("layerStart", "uint32"),
    ("layerStop", "uint32"),
    ("wireDtype", "uint8"),
    ("tail", "bool"),
    ("profile", "bytes32"),
    ("inRoot", "bytes32"),
    ("outRoot", "bytes32"),
    ("tokens", "uint32"),
    ("outputs", "uint32"),
    ("finding", "uint8"),
    ("tolerance", "uint32"),
    ("fingerprint", "bytes32"),
    ("job", "bytes32"),
    ("issued", "uint40"),
]

hashes = st.binary(min_size=32, max_size=32)
uint32 = st.integers(0, 2**32 - 1)
stages = st.builds(
    Stage,
    session=st.binary(min_size=16, max_size=16),
    nonce=st.binary(min_size=16, max_size=16),
    channel_id=hashes,
    model_id=hashes,
    layer_start=uint32,
    layer_stop=uint32,
    wire_dtype=st.integers(0, 255),
    profile=hashes,
)
receipts = st.builds(
    Receipt,
    stage=stages,
    seq=uint32,
    position=uint32,
    tokens=uint32,
    outputs=uint32,
    in_root=hashes,
    out_root=hashes,
    previous=hashes,
    issued=st.integers(0, 2**40 - 1),
)
verdicts = st.builds(
    Verdict,
    model_id=hashes,
    layer_start=uint32,
    layer_stop=uint32,
    wire_dtype=st.integers(0, 255),
    tail=st.booleans(),
    profile=hashes,
    in_root=hashes,
    out_root=hashes,
    tokens=uint32,
    outputs=uint32,
    finding=st.sampled_from(Finding),
    tolerance=uint32,
    fingerprint=hashes,
    job=hashes,
    issued=st.integers(0, 2**40 - 1),
)


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def message(value: Any) -> dict[str, Any]:
    """A dataclass as the generic encoder takes it."""
    return {
        camel(name): message_of(field) if isinstance(field, dict) else field
        for name, field in asdict(value).items()
    }


def message_of(fields: dict[str, Any]) -> dict[str, Any]:
    return {camel(name): field for name, field in fields.items()}


def generic_digest(kind: str, value: Any) -> bytes:
    domain = {
        "name": "HyperCluster Disputes",
        "version": "1",
        "chainId": DOMAIN.chain_id,
        "verifyingContract": DOMAIN.contract,
    }
    types = {"Receipt": {"Stage": STAGE, "Receipt": RECEIPT}, "Verdict": {"Verdict": VERDICT}}[kind]
    shaped = {name: [{"name": n, "type": t} for n, t in members] for name, members in types.items()}
    fields = message(value)
    if "finding" in fields:
        fields["finding"] = int(fields["finding"])
    signable = encode_typed_data(domain, shaped, fields)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


@given(receipts)
def test_a_receipt_hashes_as_eip_712_says(receipt: Receipt) -> None:
    assert DOMAIN.digest(receipt.struct_hash()) == generic_digest("Receipt", receipt)


@given(verdicts)
def test_a_verdict_hashes_as_eip_712_says(verdict: Verdict) -> None:
    assert DOMAIN.digest(verdict.struct_hash()) == generic_digest("Verdict", verdict)


def receipt(**changes: Any) -> Receipt:
    stage = Stage(bytes(16), bytes(16), bytes(32), bytes(32), 0, 4, 1, bytes(32))
    return replace(Receipt(stage, 0, 0, 1, 1, b"i" * 32, b"o" * 32, NO_RECEIPT, 1_700_000_000), **changes)


def test_a_signature_names_its_signer() -> None:
    signed = receipt().struct_hash()
    signature = DOMAIN.sign(KEY, signed)
    assert len(signature) == 64
    assert DOMAIN.recover(signed, signature) == address_of(KEY)


@pytest.mark.parametrize(
    "other",
    [DisputeDomain(DOMAIN.contract, 1), DisputeDomain("0x" + "22" * 20, DOMAIN.chain_id)],
    ids=["another chain", "another contract"],
)
def test_a_receipt_is_worth_nothing_elsewhere(other: DisputeDomain) -> None:
    signed = receipt().struct_hash()
    assert other.recover(signed, DOMAIN.sign(KEY, signed)) != address_of(KEY)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_truncated_signature_is_refused(length: int) -> None:
    signed = receipt().struct_hash()
    with pytest.raises(InvalidSignature):
        DOMAIN.recover(signed, (DOMAIN.sign(KEY, signed) + b"\0")[:length])


@pytest.mark.parametrize(
    "changes", [{"seq": 2**32}, {"issued": 2**40}, {"tokens": -1}, {"in_root": b""}, {"previous": bytes(31)}]
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidAmount):
        receipt(**changes).struct_hash()


def test_a_stage_of_wrong_lengths_is_refused() -> None:
    with pytest.raises(InvalidAmount, match="16 bytes"):
        Stage(bytes(15), bytes(16), bytes(32), bytes(32), 0, 4, 1, bytes(32))
    with pytest.raises(InvalidAmount, match="32 bytes"):
        Stage(bytes(16), bytes(16), bytes(31), bytes(32), 0, 4, 1, bytes(32))
