"""Signed adverts: an offer that is worth something, because it names who made it and when it ends.

The node key signs keccak256(domain ++ encoded advert). The peer id inside the advert carries the same key, so
a reader needs nobody else to tell whether the advert is genuine; whether its maker may serve, the chain says.
"""

from __future__ import annotations

import time

import coincurve

from hypercluster.market.advert import Advert
from hypercluster.market.errors import MarketError
from hypercluster.market.money.signing import keccak, recover_compact, sign_compact
from hypercluster.node.errors import AdvertError, ForgedAdvert, IdentityError, Unfit
from hypercluster.node.identity import address_of_peer
from hypercluster.node.wire.adverts import decode_advert, encode_advert
from hypercluster.node.wire.messages import SignedAdvert

DOMAIN = b"hypercluster-advert-v1:"

CLOCK_SKEW = 30
"""seconds by which the clocks of two nodes may differ"""
MAX_LIFETIME = 3600
"""seconds an advert may live"""


def sign_advert(advert: Advert, key: bytes) -> SignedAdvert:
    """`advert` signed with the 32-byte node key it names. Raises WireError for a field out of bounds."""
    body = encode_advert(advert)
    return SignedAdvert(body, sign_compact(coincurve.PrivateKey(key), keccak(DOMAIN + body)))


def verify_advert(signed: SignedAdvert, now: float | None = None) -> Advert:
    """The advert in `signed`, if its own peer signed it and it holds at `now` (unix seconds, default: now).

    Raises ForgedAdvert for a wrong signature, AdvertError for one that is expired, post-dated or too long
    lived, and WireError for a field out of bounds.
    """
    advert = decode_advert(signed.body)
    try:
        signer = recover_compact(keccak(DOMAIN + signed.body), signed.signature)
        if signer != address_of_peer(advert.peer):
            raise ForgedAdvert(f"The advert of {advert.peer} is signed by another key.")
    except (MarketError, IdentityError) as error:
        raise ForgedAdvert(f"The advert's signature or peer id is invalid: {error}") from None
    check_fresh(advert, time.time() if now is None else now)
    return advert


def check_fresh(advert: Advert, now: float) -> None:
    """Raise AdvertError unless `advert` holds at `now` (unix seconds), give or take the clock skew."""
    if advert.expires <= now:
        raise AdvertError(
            f"The advert of {advert.peer} expired {now - advert.expires:.0f} s ago.", Unfit.EXPIRED
        )
    if advert.issued > now + CLOCK_SKEW:
        ahead = advert.issued - now
        raise AdvertError(
            f"The advert of {advert.peer} is dated {ahead:.0f} s in the future.", Unfit.POST_DATED
        )
    if advert.expires - advert.issued > MAX_LIFETIME:
        raise AdvertError(f"The advert of {advert.peer} lives longer than {MAX_LIFETIME} s.")
