"""An advert counts if its own peer signed it and it is of today."""

from __future__ import annotations

import time
from dataclasses import replace

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.money.signing import keccak, sign_compact
from hypercluster.node.errors import AdvertError, ForgedAdvert, WireError
from hypercluster.node.network.adverts import CLOCK_SKEW, DOMAIN, MAX_LIFETIME, sign_advert, verify_advert
from hypercluster.node.wire.adverts import encode_advert
from hypercluster.node.wire.messages import SignedAdvert
from tests.node.helpers.offers import advert_of, new_key, offer_of

KEY = b"k" * 32


def test_round_trip() -> None:
    advert = advert_of(KEY, addrs=("/ip4/127.0.0.1/tcp/4001",), direct="/ip4/127.0.0.1/tcp/4002")
    got = verify_advert(sign_advert(advert, KEY))
    assert replace(got, operator=advert.operator) == advert


def test_signed_by_another_key() -> None:
    with pytest.raises(ForgedAdvert, match="another key"):
        verify_advert(sign_advert(advert_of(KEY), new_key()))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_noticed(index: int, flip: int) -> None:
    signed = offer_of(KEY)
    body = bytearray(signed.body)
    body[index % len(body)] ^= flip
    with pytest.raises((AdvertError, WireError)):
        verify_advert(SignedAdvert(bytes(body), signed.signature))


@given(st.binary(min_size=64, max_size=64))
def test_any_other_signature_is_noticed(signature: bytes) -> None:
    with pytest.raises(ForgedAdvert):
        verify_advert(SignedAdvert(offer_of(KEY).body, signature))


def test_a_signature_for_something_else() -> None:
    body = encode_advert(advert_of(KEY))
    bare = sign_compact(coincurve.PrivateKey(KEY), keccak(body))
    with pytest.raises(ForgedAdvert):
        verify_advert(SignedAdvert(body, bare))
    assert verify_advert(SignedAdvert(body, sign_compact(coincurve.PrivateKey(KEY), keccak(DOMAIN + body))))


def test_a_peer_that_is_no_key() -> None:
    body = encode_advert(replace(advert_of(KEY), peer="QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"))
    with pytest.raises(ForgedAdvert):
        verify_advert(SignedAdvert(body, sign_compact(coincurve.PrivateKey(KEY), keccak(DOMAIN + body))))


def test_time() -> None:
    now = time.time()
    signed = offer_of(KEY, issued=int(now), expires=int(now) + 60)
    verify_advert(signed, now - CLOCK_SKEW + 2)
    verify_advert(signed, now + 58)
    with pytest.raises(AdvertError, match="expired"):
        verify_advert(signed, now + 61)
    with pytest.raises(AdvertError, match="future"):
        verify_advert(signed, now - CLOCK_SKEW - 2)
    with pytest.raises(AdvertError, match="longer"):
        verify_advert(offer_of(KEY, issued=int(now), expires=int(now) + MAX_LIFETIME + 1))


def test_what_is_out_of_bounds_is_not_signed() -> None:
    with pytest.raises(WireError):
        offer_of(KEY, free=5)
