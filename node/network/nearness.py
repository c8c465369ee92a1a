"""How far a provider is from those before and after it, as its advert tells: a few delays, in as few bytes.

What one end says counts for nothing by itself; see node.client.linking.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from functools import lru_cache

MOST_TOLD = 16
"""neighbours in one advert"""
_ENTRY = struct.Struct(">8sH")
ENTRY_BYTES = _ENTRY.size
MOST_MS = 2**16 - 1


@lru_cache(maxsize=4096)
def short_name(peer: str) -> bytes:
    """The first 8 bytes of SHA-256 of a peer id, which stand for it."""
    return hashlib.sha256(peer.encode()).digest()[:8]


def pack_delays(delays: Mapping[str, float]) -> bytes:
    """One-way delays in ms by peer id: 8 bytes for the peer and 2 for whole ms, rounded up, the nearest MOST_TOLD."""
    nearest = sorted((math.ceil(ms), short_name(peer)) for peer, ms in delays.items() if ms <= MOST_MS)
    return b"".join(_ENTRY.pack(name, ms) for ms, name in nearest[:MOST_TOLD])


def unpack_delays(data: bytes) -> dict[bytes, int]:
    """Delays by short name; bytes behind the last whole entry are ignored."""
    whole = len(data) - len(data) % ENTRY_BYTES
    return dict(_ENTRY.iter_unpack(data[:whole]))
