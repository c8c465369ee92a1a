"""One secp256k1 key, three names: libp2p peer id, Ethereum address, public key.

A secp256k1 peer id carries its public key (libp2p peer-ids spec: identity multihash of the protobuf-encoded
key, base58), so each name yields the next without asking anybody. libp2p is imported only where it is needed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import base58
import coincurve

from hypercluster.market.money.signing import address_of
from hypercluster.node.errors import IdentityError

if TYPE_CHECKING:
    from libp2p.crypto.keys import KeyPair

# Identity multihash (0x00) of 37 bytes: protobuf field 1 = key type 2 (secp256k1), field 2 = 33 bytes.
_PREFIX = bytes.fromhex("002508021221")


def keypair(key: bytes) -> KeyPair:
    """The libp2p key pair of a 32-byte private key. Raises IdentityError if it is no secp256k1 key."""
    from libp2p.crypto.secp256k1 import create_new_key_pair

    _private(key)
    return create_new_key_pair(key)


def peer_of_key(key: bytes) -> str:
    """The peer id (base58) of a 32-byte private key. Raises IdentityError if it is no secp256k1 key."""
    return peer_of_public_key(_private(key).public_key)


def peer_of_public_key(public_key: coincurve.PublicKey) -> str:
    """The peer id (base58) of a public key."""
    return base58.b58encode(_PREFIX + public_key.format(compressed=True)).decode()


@lru_cache(maxsize=4096)
def public_key_of_peer(peer: str) -> coincurve.PublicKey:
    """The public key in a peer id. Raises IdentityError if it holds no secp256k1 key."""
    try:
        data = base58.b58decode(peer) if len(peer) <= 64 else b""
        if data[:6] != _PREFIX or len(data) != len(_PREFIX) + 33:
            raise ValueError
        return coincurve.PublicKey(data[6:])
    except ValueError:
        raise IdentityError(f"{peer[:64]!r} is not the peer id of a secp256k1 key.") from None


@lru_cache(maxsize=4096)
def address_of_peer(peer: str) -> str:
    """The EIP-55 Ethereum address of the key in a peer id. Raises IdentityError if it holds none."""
    return address_of(public_key_of_peer(peer))


def short_peer(peer: str) -> str:
    """A peer id as people tell them apart: its last eight characters, as the first ones are the same for all."""
    return "…" + peer[-8:]


def _private(key: bytes) -> coincurve.PrivateKey:
    try:
        if len(key) != 32:
            raise ValueError
        return coincurve.PrivateKey(key)
    except ValueError:
        raise IdentityError("A node key has 32 bytes and is below the order of secp256k1.") from None
