"""Keccak, addresses and EIP-2098 compact secp256k1 signatures over 32-byte digests (libsecp256k1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import coincurve
from eth_hash.backends.pysha3 import keccak256 as keccak

from hypercluster.market.errors import InvalidAddress, InvalidAmount, InvalidSignature

SIGNATURE_BYTES = 64
NOBODY = "0x" + "00" * 20
"""the zero address, which has no owner"""
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER = _ORDER // 2
_PARITY = 1 << 255
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)

__all__ = [
    "NOBODY",
    "SIGNATURE_BYTES",
    "SigningDomain",
    "address_bytes",
    "address_of",
    "checksum",
    "domain_separator",
    "keccak",
    "recover_compact",
    "sign_compact",
    "uint",
    "word",
]

_DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


def word(value: int) -> bytes:
    """Encode an unsigned integer as one ABI word, 32 bytes big-endian."""
    return value.to_bytes(32, "big")


def uint(value: int, bits: int) -> bytes:
    """Encode a number that a signed struct declares as uint``bits``, as one ABI word. Raises InvalidAmount."""
    if not 0 <= value < 1 << bits:
        raise InvalidAmount(f"{value} does not fit into the {bits} bits that there are for it.")
    return word(value)


@lru_cache(maxsize=4096)
def checksum(address: str | bytes) -> str:
    """Return an address, given as 20 bytes or as hex text, in EIP-55 form.

    Raises:
        InvalidAddress: it is neither, or its mixed case contradicts its EIP-55 checksum.
    """
    text = "0x" + address.hex() if isinstance(address, bytes) else address
    if not _ADDRESS.fullmatch(text):
        raise InvalidAddress(f"{text[:80]!r} is not an Ethereum address: give 0x and 40 hex digits.")
    canonical = _with_checksum(text[2:].lower())
    if text not in (canonical, text.lower(), "0x" + text[2:].upper()):
        raise InvalidAddress(f"{text} does not match its checksum: look for a mistyped digit.")
    return canonical


def _with_checksum(digits: str) -> str:
    """EIP-55: a letter is upper case where the digit of the hash at its place is 8 or more."""
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if mark >= "8" else digit for digit, mark in zip(digits, marks, strict=False)
    )


def address_bytes(address: str) -> bytes:
    """Return the 20 bytes of a hex address."""
    return bytes.fromhex(address[2:])


@lru_cache(maxsize=4096)
def _address_of_point(point: bytes) -> str:
    return checksum(keccak(point[1:])[12:])


def address_of(key: coincurve.PublicKey | coincurve.PrivateKey) -> str:
    """Return the EIP-55 Ethereum address of a secp256k1 key."""
    public = key.public_key if isinstance(key, coincurve.PrivateKey) else key
    return _address_of_point(public.format(compressed=False))


def sign_compact(key: coincurve.PrivateKey, digest: bytes) -> bytes:
    """Sign a 32-byte digest; returns the 64 bytes ``r || (parity << 255 | s)`` of EIP-2098, s always low."""
    signature = key.sign_recoverable(digest, hasher=None)
    if not signature[64]:
        return signature[:64]
    return signature[:32] + bytes([signature[32] | 0x80]) + signature[33:64]


def recover_compact(digest: bytes, signature: bytes) -> str:
    """Return the EIP-55 address whose key made a 64-byte EIP-2098 ``signature`` over ``digest``.

    Raises:
        InvalidSignature: wrong length, s in the upper half of the order (EIP-2), or no such key.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidSignature(f"The signature has {len(signature)} bytes, and a compact one has 64.")
    parity_and_s = int.from_bytes(signature[32:], "big")
    parity, s = parity_and_s >> 255, parity_and_s & (_PARITY - 1)
    if s > _HALF_ORDER:
        raise InvalidSignature("The signature is malleable: its s is above half the curve's order.")
    recoverable = signature[:32] + s.to_bytes(32, "big") + bytes([parity])
    try:
        key = coincurve.PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except Exception as error:  # coincurve raises a bare one for a signature of nobody
        raise InvalidSignature("The signature belongs to no key.") from error
    return _address_of_point(key.format(compressed=False))


def domain_separator(name: str, version: str, chain_id: int, contract: str) -> bytes:
    """Return the 32-byte EIP-712 domain separator of a contract on a chain."""
    return keccak(
        _DOMAIN_TYPE
        + keccak(name.encode())
        + keccak(version.encode())
        + word(chain_id)
        + address_bytes(contract).rjust(32, b"\0")
    )


@dataclass(frozen=True)
class SigningDomain:
    """The EIP-712 domain, under the name NAME, of a contract on a chain, or of several that share it.

    Raises:
        InvalidAddress: `contract` is no address.
    """

    NAME: ClassVar[str]
    VERSION: ClassVar[str] = "1"

    contract: str
    chain_id: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "contract", checksum(self.contract))

    @cached_property
    def separator(self) -> bytes:
        """The 32-byte domain separator, equal to the contracts' DOMAIN_SEPARATOR()."""
        return domain_separator(self.NAME, self.VERSION, self.chain_id, self.contract)

    @cached_property
    def _prefix(self) -> bytes:
        return b"\x19\x01" + self.separator
