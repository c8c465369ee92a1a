"""Adverts as bytes. The type is the market's, which knows nothing of wires, so its bounds are declared here."""

from __future__ import annotations

from typing import Annotated

from google.protobuf.message import DecodeError

from hypercluster.market.advert import Advert
from hypercluster.node.errors import WireError
from hypercluster.node.wire import wire_pb2 as pb
from hypercluster.node.wire.bounds import Each, Length, Range, declare
from hypercluster.node.wire.codec import plan_of
from hypercluster.node.wire.fields import (
    MAX_TOKENS,
    Address,
    CandidateCount,
    Dtypes,
    LayerStart,
    LayerStop,
    Milliseconds,
    ModelId,
    Number,
    Peer,
    RoleName,
    Tokens,
    Travels,
    Unix,
    Wei,
    Width,
    check_range,
    to_texts,
)
from hypercluster.node.wire.messages import MOST_PARKED

MAX_ADDR = 256
MOST_NEIGHBOURS = 160
"""bytes: 16 of them"""

RULES = declare(
    Advert,
    {
        "peer": Peer,
        "model_id": ModelId,
        "layer_start": LayerStart,
        "layer_stop": LayerStop,
        "price_wei": Wei,
        "prompt_price_wei": Wei,
        "cost_ms": Milliseconds,
        "prompt_ms": Milliseconds,
        "operator": Address,
        "capacity": Tokens,
        "free": Annotated[int, Range(0, MAX_TOKENS)],
        "session_tokens": Tokens,
        "max_top_k": CandidateCount,
        "sequence": Number,
        "issued": Unix,
        "expires": Unix,
        "width": Width,
        "addrs": Annotated[tuple[str, ...], Length(0, 8), Each(Length(0, MAX_ADDR)), Travels(list, to_texts)],
        "direct": Annotated[str, Length(0, MAX_ADDR)],
        "wire_dtypes": Dtypes,
        "features": Annotated[tuple[str, ...], Length(0, 16), Each(Length(1, 32)), Travels(list, to_texts)],
        "role": RoleName,
        "reserve_wei": Wei,
        "cached_price_wei": Wei,
        "parked_seconds": Annotated[int, Range(0, MOST_PARKED)],
        "neighbours": Annotated[bytes, Length(0, MOST_NEIGHBOURS)],
    },
)
_PLAN = plan_of(Advert, pb.Advert.DESCRIPTOR)


def encode_advert(advert: Advert) -> bytes:
    """The bytes that are signed and gossiped. Raises WireError naming the field that is out of bounds."""
    RULES.check(advert)
    _check_together(advert)
    return pb.Advert(**_PLAN.write(advert)).SerializeToString()


def decode_advert(body: bytes) -> Advert:
    """The advert in `body`; the signature is network.adverts' business. Raises WireError naming a wrong field."""
    try:
        message = pb.Advert.FromString(body)
    except DecodeError:
        raise WireError("advert", "is no protobuf Advert") from None
    advert: Advert = _PLAN.read(message)
    _check_together(advert)
    return advert


def _check_together(advert: Advert) -> None:
    check_range(advert.layer_start, advert.layer_stop)
    if advert.free > advert.capacity:
        raise WireError("free", f"is {advert.free}, above the capacity {advert.capacity}")
    if advert.reserve_wei > advert.session_tokens * max(advert.price_wei, advert.prompt_price_wei):
        raise WireError("reserve_wei", "is more than a whole session costs")
    if advert.cached_price_wei > max(advert.price_wei, advert.prompt_price_wei):
        raise WireError("cached_price_wei", "is more than a token costs that is computed")
    if advert.expires <= advert.issued:
        raise WireError("expires", "is not after issued")
