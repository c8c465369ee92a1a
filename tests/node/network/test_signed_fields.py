"""Everything that is signed: with any field changed the digest is another, and the signature nobody's or another's.

The structs are found, not listed: a new one without an example here, and a new field that is not hashed, fail.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import coincurve
import pytest

import hypercluster.market
import hypercluster.node.evidence
from hypercluster.market.advert import Advert
from hypercluster.market.errors import InvalidAmount, InvalidSignature
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import ChannelDescriptor, Quote, VoucherDomain
from hypercluster.market.trust.receipt import DisputeDomain, Finding, Receipt, Stage, Verdict
from hypercluster.node.errors import ForgedAdvert
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.adverts import sign_advert, verify_advert
from hypercluster.node.wire.adverts import encode_advert
from hypercluster.node.wire.messages import SignedAdvert

KEY = coincurve.PrivateKey(b"\x07" * 32)
CONTRACT = "0x" + "11" * 20
STAGE = Stage(b"s" * 16, b"n" * 16, b"c" * 32, b"m" * 32, 4, 8, 2, b"p" * 32)
EXAMPLES: dict[type, Any] = {
    Stage: STAGE,
    Receipt: Receipt(STAGE, 3, 40, 5, 5, b"i" * 32, b"o" * 32, b"b" * 32, 1_900_000_000),
    Verdict: Verdict(
        model_id=b"m" * 32,
        layer_start=4,
        layer_stop=8,
        wire_dtype=2,
        tail=False,
        profile=b"p" * 32,
        in_root=b"i" * 32,
        out_root=b"o" * 32,
        tokens=5,
        outputs=5,
        finding=Finding.PASS,
        tolerance=100,
        fingerprint=b"f" * 32,
        job=b"j" * 32,
        issued=1_900_000_000,
    ),
    Quote: Quote(b"s" * 16, b"m" * 32, 4, 8, b"c" * 32, 10**12, 10**11, 256, 2, 1_900_000_000),
}


def signed_kinds() -> set[type]:
    """All dataclasses with an EIP-712 hash."""
    found = set()
    for package in (hypercluster.market, hypercluster.node.evidence):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            for kind in vars(importlib.import_module(module.name)).values():
                if isinstance(kind, type) and is_dataclass(kind) and hasattr(kind, "struct_hash"):
                    found.add(kind)
    return found


def changes(value: Any) -> Iterator[Any]:
    """Other values of the same kind: every bit of a number's lowest byte, first and last bit of bytes, each field."""
    match value:
        case bool():
            yield not value
        case Enum():
            yield from (each for each in type(value) if each is not value)
        case int():
            yield from (value ^ 1 << bit for bit in range(8))
        case float():
            yield value * 2
        case bytes():
            yield bytes([value[0] ^ 128]) + value[1:]
            yield value[:-1] + bytes([value[-1] ^ 1])
        case str():
            yield value + "x"
            yield value[::-1]
        case tuple():
            yield (*value, "/ip4/9.9.9.9/tcp/9")
        case _:
            for field in fields(value):
                for changed in changes(getattr(value, field.name)):
                    yield replace(value, **{field.name: changed})


def test_there_is_an_example_of_everything_that_is_hashed_to_be_signed() -> None:
    assert signed_kinds() == set(EXAMPLES)


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_no_field_can_be_changed_under_a_signature(kind: type) -> None:
    domain, said = DisputeDomain(CONTRACT, 31337), EXAMPLES[kind]
    signature, signer = domain.sign(KEY, said.struct_hash()), address_of(KEY)
    assert domain.recover(said.struct_hash(), signature) == signer
    touched = set()
    for field in fields(said):
        for changed in changes(getattr(said, field.name)):
            other = replace(said, **{field.name: changed})
            with suppress(InvalidAmount, InvalidSignature):
                assert other.struct_hash() != said.struct_hash(), field.name
                assert domain.recover(other.struct_hash(), signature) != signer, field.name
            touched.add(field.name)
    assert touched == {field.name for field in fields(kind)}
    for elsewhere in (DisputeDomain("0x" + "12" * 20, 31337), DisputeDomain(CONTRACT, 1)):
        assert elsewhere.digest(said.struct_hash()) != domain.digest(said.struct_hash())


def test_a_voucher_is_for_one_channel_one_amount_and_one_contract() -> None:
    domain = VoucherDomain(CONTRACT, 31337)
    channel = ChannelDescriptor(CONTRACT, "0x" + "22" * 20, address_of(KEY), b"x" * 32)
    ids = {domain.channel_id(channel)}
    for field in fields(channel):
        value: Any = getattr(channel, field.name)
        other: Any = value[:-1] + b"y" if isinstance(value, bytes) else "0x" + "33" * 20
        ids.add(domain.channel_id(replace(channel, **{field.name: other})))
    ids |= {channel.channel_id("0x" + "12" * 20, 31337), channel.channel_id(CONTRACT, 1)}
    assert len(ids) == 1 + len(fields(channel)) + 2
    signature = domain.sign(KEY, b"c" * 32, 1000)
    others = [(changed, 1000) for changed in changes(b"c" * 32)]
    others += [(b"c" * 32, amount) for amount in (0, 999, 1001, 1000 << 8, 2**96 - 1)]
    for channel_id, amount in others:
        with suppress(InvalidSignature):
            assert domain.recover(channel_id, amount, signature) != address_of(KEY)
    for elsewhere in (VoucherDomain("0x" + "12" * 20, 31337), VoucherDomain(CONTRACT, 1)):
        assert elsewhere.digest(b"c" * 32, 1000) != domain.digest(b"c" * 32, 1000)


def test_no_field_of_an_advert_can_be_changed_under_its_signature() -> None:
    numbers = {"layer_start": 2, "layer_stop": 6, "price_wei": 40, "prompt_price_wei": 10, "cost_ms": 1.5}
    numbers |= {"prompt_ms": 0.5, "capacity": 400, "free": 200, "session_tokens": 1000, "max_top_k": 64}
    numbers |= {
        "sequence": 7,
        "issued": 1_900_000_000,
        "expires": 1_900_000_100,
        "width": 64,
        "reserve_wei": 9,
    }
    names = {"peer": peer_of_key(KEY.secret), "model_id": "ab" * 32, "operator": address_of(KEY)}
    lists = {"addrs": ("/ip4/1.2.3.4/tcp/1",), "direct": "/ip4/1.2.3.4/tcp/2", "features": ("one",)}
    near = b"12345678" + bytes(2)
    advert = Advert(**numbers, **names, **lists, neighbours=near)  # type: ignore[arg-type]
    signed = sign_advert(advert, KEY.secret)
    assert verify_advert(signed, now=1_900_000_001) == advert
    other: dict[str, list[Any]] = {
        "peer": [peer_of_key(b"\x08" * 32)],
        "model_id": ["ac" * 32],
        "operator": ["0x" + "22" * 20],
        "direct": ["", "/ip4/1.2.3.4/tcp/3"],
        "wire_dtypes": [("f16",), ("f32", "f16")],
        "features": [(), ("two",)],
        "role": ["verifier"],
    }
    for field in fields(Advert):
        tried = 0
        for changed in other.get(field.name) or changes(getattr(advert, field.name)):
            try:
                body = encode_advert(replace(advert, **{field.name: changed}))
            except Exception:  # noqa: BLE001 - out of bounds: nobody can send it
                continue
            assert body != signed.body, field.name
            with pytest.raises(ForgedAdvert):
                verify_advert(SignedAdvert(body, signed.signature), now=1_900_000_001)
            tried += 1
        assert tried, field.name
