"""Vouchers and quotes: what a payer and a provider sign (EIP-712, hashes precomputed).

A voucher says "the payee of this channel may have ``cumulative`` wei in all". A quote freezes a provider's
prices for one session. Both live in the domain of one PaymentChannels contract on one chain, so neither is
worth anything elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import coincurve

from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.signing import (
    SigningDomain,
    address_bytes,
    checksum,
    keccak,
    recover_compact,
    sign_compact,
    uint,
    word,
)
from hypercluster.market.money.units import UINT96_MAX

DOMAIN_NAME = "HyperCluster PaymentChannels"

_VOUCHER_TYPE = keccak(b"Voucher(bytes32 channelId,uint96 cumulative)")
_QUOTE_TYPE = keccak(
    b"Quote(bytes16 session,bytes32 modelId,uint32 layerStart,uint32 layerStop,bytes32 channelId,"
    b"uint96 price,uint96 promptPrice,uint32 capacity,uint8 wireDtype,uint40 expires,uint96 cachedPrice)"
)


def charge(price_wei: int, prompt_price_wei: int, rows: int) -> int:
    """Return what a step of ``rows`` tokens costs, in wei.

    One row is a generated token and costs ``price_wei``. Several cost ``prompt_price_wei`` each and the price of one
    token at least: who sends a prompt pays for its rows, and nobody has a token for less by asking for two rows.
    """
    if rows < 1:
        raise InvalidAmount(f"A step has at least one token, not {rows}.")
    return price_wei if rows == 1 else max(price_wei, rows * prompt_price_wei)


@dataclass(frozen=True)
class ChannelDescriptor:
    """What names a channel: two accounts, the payer's session key and 32 bytes of salt.

    Addresses may be given as hex text or as 20 bytes and are kept in EIP-55 form.

    Raises:
        InvalidAddress: one of the addresses is none.
        InvalidAmount: the salt is not 32 bytes long.
    """

    payer: str
    payee: str
    signer: str
    salt: bytes

    def __post_init__(self) -> None:
        for field in ("payer", "payee", "signer"):
            object.__setattr__(self, field, checksum(getattr(self, field)))
        if len(self.salt) != 32:
            raise InvalidAmount(f"The salt of a channel has 32 bytes, not {len(self.salt)}.")

    def channel_id(self, contract: str, chain_id: int) -> bytes:
        """Return keccak256(abi.encode(payer, payee, signer, salt, contract, chain id)), 32 bytes."""
        accounts = [address_bytes(a).rjust(32, b"\0") for a in (self.payer, self.payee, self.signer)]
        home = address_bytes(checksum(contract)).rjust(32, b"\0")
        return keccak(b"".join(accounts) + self.salt + home + word(chain_id))


TAG = slice(22, 26)


def channel_salt(node: str, moment_ms: int) -> bytes:
    """Return a salt, 32 bytes, for a channel that pays for the work of one node of an operator.

    Each node keeps books of its own, so two nodes of one operator must not share a channel. The salt names the
    node by the first four bytes of its address; behind them a moment (unix ms) keeps channels apart, also after
    the ledger was lost. The leading zeros make calldata cheap.
    """
    return bytes(22) + node_tag(node) + moment_ms.to_bytes(6, "big")


def node_tag(node: str) -> bytes:
    """Return the four bytes by which a salt names a node."""
    return address_bytes(checksum(node))[:4]


@dataclass(frozen=True)
class Quote:
    """The terms of one session, frozen by the provider's signature until ``expires`` (unix seconds, UTC).

    Layers are the half-open range [layer_start, layer_stop); prices are wei per token; capacity is in tokens.
    """

    session: bytes
    model_id: bytes
    layer_start: int
    layer_stop: int
    channel_id: bytes
    price_wei: int
    prompt_price_wei: int
    capacity: int
    wire_dtype: int
    expires: int
    cached_price_wei: int = 0
    """for each token that a parked session holds already"""

    def struct_hash(self) -> bytes:
        """Return the EIP-712 hashStruct of this quote, 32 bytes."""
        if (len(self.session), len(self.model_id), len(self.channel_id)) != (16, 32, 32):
            raise InvalidAmount(
                "A quote names a session of 16 bytes, a model and a channel of 32 bytes each."
            )
        numbers = (
            (self.price_wei, 96),
            (self.prompt_price_wei, 96),
            (self.capacity, 32),
            (self.wire_dtype, 8),
            (self.expires, 40),
            (self.cached_price_wei, 96),
        )
        return keccak(
            _QUOTE_TYPE
            + self.session.ljust(32, b"\0")
            + self.model_id
            + uint(self.layer_start, 32)
            + uint(self.layer_stop, 32)
            + self.channel_id
            + b"".join(uint(value, bits) for value, bits in numbers)
        )


@dataclass(frozen=True)
class VoucherDomain(SigningDomain):
    """The EIP-712 domain of one PaymentChannels contract; signs and recovers vouchers and quotes."""

    NAME = DOMAIN_NAME

    def channel_id(self, descriptor: ChannelDescriptor) -> bytes:
        """Return the 32-byte id of a channel in this domain's contract."""
        return descriptor.channel_id(self.contract, self.chain_id)

    def digest(self, channel_id: bytes, cumulative: int) -> bytes:
        """Return the 32 bytes that a voucher's signature covers; ``cumulative`` in wei.

        Raises:
            InvalidAmount: the channel id is not 32 bytes, or the amount not a uint96.
        """
        if len(channel_id) != 32 or not 0 <= cumulative <= UINT96_MAX:
            raise InvalidAmount(
                "A voucher names a channel by 32 bytes and an amount from 0 to 2**96 - 1 wei."
            )
        return keccak(self._prefix + keccak(_VOUCHER_TYPE + channel_id + cumulative.to_bytes(32, "big")))

    def sign(self, key: coincurve.PrivateKey, channel_id: bytes, cumulative: int) -> bytes:
        """Sign a voucher over ``cumulative`` wei; returns 64 bytes (EIP-2098).

        Raises:
            InvalidAmount: see :meth:`digest`.
        """
        return sign_compact(key, self.digest(channel_id, cumulative))

    def recover(self, channel_id: bytes, cumulative: int, signature: bytes) -> str:
        """Return the EIP-55 address that signed a voucher.

        Raises:
            InvalidSignature: malformed, malleable, or nobody's.
            InvalidAmount: see :meth:`digest`.
        """
        return recover_compact(self.digest(channel_id, cumulative), signature)

    def sign_quote(self, key: coincurve.PrivateKey, quote: Quote) -> bytes:
        """Sign a quote with the provider's node key; returns 64 bytes (EIP-2098)."""
        return sign_compact(key, keccak(self._prefix + quote.struct_hash()))

    def recover_quote(self, quote: Quote, signature: bytes) -> str:
        """Return the EIP-55 address that signed a quote.

        Raises:
            InvalidSignature: malformed, malleable, or nobody's.
        """
        return recover_compact(keccak(self._prefix + quote.struct_hash()), signature)
