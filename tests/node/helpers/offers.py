"""Adverts for tests."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Sequence
from typing import Any

from hypercluster.market.advert import Advert
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.adverts import sign_advert
from hypercluster.node.wire.messages import SignedAdvert

MODEL = "ab" * 32
OPERATOR = "0x" + "11" * 20
_sequences = itertools.count(time.time_ns())


def advert_of(key: bytes, **changes: Any) -> Advert:
    now = int(time.time())
    fields: dict[str, Any] = {
        "peer": peer_of_key(key),
        "model_id": MODEL,
        "layer_start": 0,
        "layer_stop": 4,
        "price_wei": 100,
        "prompt_price_wei": 10,
        "cost_ms": 1.5,
        "prompt_ms": 0.5,
        "operator": OPERATOR,
        "capacity": 4,
        "free": 4,
        "session_tokens": 512,
        "max_top_k": 64,
        "sequence": next(_sequences),
        "issued": now,
        "expires": now + 60,
        "width": 64,
    }
    return Advert(**(fields | changes))


def offer_of(key: bytes, addrs: Sequence[str] = (), **changes: Any) -> SignedAdvert:
    return sign_advert(advert_of(key, addrs=tuple(addrs), **changes), key)


def new_key() -> bytes:
    return secrets.token_bytes(32)
