"""Tickets: by which a node knows a payer at the first bytes of a direct connection, before it computes anything.

Payer and node share a secret that neither ever sends: what ECDH makes of the key of one and the peer id of the
other. A dialler puts a ticket into the first message of its Noise handshake: a name that this node knows it by, and
a MAC over the ephemeral key of that handshake. So nobody can make one up, and one that was overheard is of no use
but for a handshake that fails. Whoever looks on learns that the same dialler came back, not who it is.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

import coincurve

from hypercluster.node.identity import public_key_of_peer
from hypercluster.node.network.rate import Rate

_NAME = 12
_MAC = 16
LENGTH = _NAME + _MAC
MOST = 10_000
"""payers that a node knows by their tickets; who came longest ago is forgotten first"""
PER_SECOND, BURST = 50.0, 200.0
"""turns that one ticket gives; more wait as strangers do"""


def ticket(key: bytes, peer: str, ephemeral: bytes) -> bytes:
    """What who has the 32-byte `key` shows to `peer`, in a handshake with that ephemeral key.

    Raises IdentityError if the peer id holds no key.
    """
    secret = _secret(key, peer)
    return _name(secret) + _mac(secret, ephemeral)


class Tickets:
    """The payers that the node with the 32-byte `key` knows by their tickets."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._secrets: dict[bytes, bytes] = {}
        self._rate = Rate(PER_SECOND, BURST)

    def learn(self, peer: str) -> None:
        """Know `peer` from now on. Raises IdentityError if its id holds no key."""
        secret = _secret(self._key, peer)
        name = _name(secret)
        self._secrets.pop(name, None)
        self._secrets[name] = secret
        if len(self._secrets) > MOST:
            del self._secrets[next(iter(self._secrets))]

    def holds(self, shown: bytes, ephemeral: bytes) -> bool:
        """Whether a payer made this ticket for a handshake with that ephemeral key, and came not too often."""
        secret = self._secrets.get(shown[:_NAME])
        if secret is None or not hmac.compare_digest(_mac(secret, ephemeral), shown[_NAME:]):
            return False
        return self._rate.allows(shown[:_NAME].hex())


@lru_cache(maxsize=1024)
def _secret(key: bytes, peer: str) -> bytes:
    return coincurve.PrivateKey(key).ecdh(public_key_of_peer(peer).format())


def _name(secret: bytes) -> bytes:
    return hashlib.sha256(b"hypercluster ticket name" + secret).digest()[:_NAME]


def _mac(secret: bytes, ephemeral: bytes) -> bytes:
    return hmac.digest(secret, ephemeral, hashlib.sha256)[:_MAC]
