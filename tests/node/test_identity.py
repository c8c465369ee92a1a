"""Peer id, address and public key of one node key agree with libp2p and with eth-account."""

from __future__ import annotations

import subprocess
import sys

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.peer.id import ID

from hypercluster.node.errors import IdentityError
from hypercluster.node.identity import (
    address_of_peer,
    keypair,
    peer_of_key,
    peer_of_public_key,
    public_key_of_peer,
)

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEYS = st.integers(1, ORDER - 1).map(lambda n: n.to_bytes(32, "big"))


@settings(max_examples=25, deadline=None)
@given(KEYS)
def test_the_three_names_agree(key: bytes) -> None:
    peer = peer_of_key(key)
    assert peer == ID.from_pubkey(keypair(key).public_key).to_base58()
    assert address_of_peer(peer) == Account.from_key(key).address
    assert peer_of_public_key(public_key_of_peer(peer)) == peer


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"\0" * 32, ORDER.to_bytes(32, "big"), b"\xff" * 32])
def test_no_key(key: bytes) -> None:
    with pytest.raises(IdentityError):
        peer_of_key(key)


@pytest.mark.parametrize(
    "peer",
    [
        "",
        "0OIl",
        "hello",
        "x" * 10_000,
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
    ],
)
def test_no_peer(peer: str) -> None:
    with pytest.raises(IdentityError):
        address_of_peer(peer)


def test_wire_and_identity_do_not_import_libp2p() -> None:
    rooms = ("errors", "identity", "wire.messages", "wire.audit", "wire.framing", "network.adverts")
    modules = ", ".join(f"hypercluster.node.{room}" for room in (*rooms, "network.orderbook"))
    code = f"import sys, {modules}; sys.exit('libp2p' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
