"""The kinds of fields that messages are made of: each with its bound, and with how it travels if not as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from hypercluster.market.advert import MAX_LAYERS, Role
from hypercluster.market.errors import InvalidAddress
from hypercluster.market.money.signing import address_bytes, checksum
from hypercluster.market.money.voucher import ChannelDescriptor
from hypercluster.market.trust.receipt import MAX_PROFILE, MOST_TOLERANCE
from hypercluster.node.errors import ErrorCode, WireError
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire.bounds import MAX_FRAME, Each, Hex, Length, Range, declare

MAX_TOKENS = 1 << 24
MAX_ROWS = 1 << 16
MAX_TOP_K = 4096
MAX_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Travels:
    """How a field goes into protobuf, and back out of it; `back` gets the field's name for its WireError."""

    out: Callable[[Any], Any]
    back: Callable[[str, Any], Any]


def from_wei(amount: int) -> bytes:
    """An amount as it travels: big-endian, no leading zeros."""
    return amount.to_bytes((amount.bit_length() + 7) // 8, "big")


def to_wei(field: str, data: bytes) -> int:
    """The amount in at most 12 bytes. Raises WireError."""
    if len(data) > 12:
        raise WireError(field, f"has {len(data)} bytes, more than 12")
    return int.from_bytes(data, "big")


def _to_hex(field: str, data: bytes) -> str:
    return data.hex()


def _to_address(field: str, data: bytes) -> str:
    if len(data) != 20:
        raise WireError(field, f"has {len(data)} bytes, not the 20 of an address")
    return checksum(data)


def _from_dtypes(names: tuple[str, ...]) -> list[int]:
    return [WireDtype.named(name).value for name in names]


def _to_dtypes(field: str, numbers: Any) -> tuple[str, ...]:
    try:
        return tuple(WireDtype(number).name.lower() for number in numbers)
    except ValueError as error:
        raise WireError(field, f"holds something unknown: {error}", ErrorCode.UNSUPPORTED_VERSION) from None


def to_texts(field: str, texts: Any) -> tuple[str, ...]:
    """A repeated field as it is kept."""
    return tuple(texts)


_ROLES: dict[Role, int] = {"provider": 1, "verifier": 2}


def _to_role(field: str, number: int) -> Role:
    for role, value in _ROLES.items():
        if value == number:
            return role
    raise WireError(field, f"has the unknown value {number}", ErrorCode.UNSUPPORTED_VERSION)


class _IsAddress:
    """An Ethereum address in hex."""

    def check(self, field: str, value: Any) -> None:
        """Raise WireError unless it is one."""
        try:
            checksum(value)
        except InvalidAddress as error:
            raise WireError(field, f"is no address: {error}") from None


class _IsRole:
    """A role that there is."""

    def check(self, field: str, value: Any) -> None:
        """Raise WireError unless there is."""
        if value not in _ROLES:
            raise WireError(field, f'is "{value}", not provider or verifier')


class _IsDtype:
    """The name of a WireDtype."""

    def check(self, field: str, value: Any) -> None:
        """Raise WireError unless there is one of this name."""
        WireDtype.named(value)


Wei = Annotated[int, Range(0, (1 << 96) - 1), Travels(from_wei, to_wei)]
"""an amount, or a price per token"""
Number = Annotated[int, Range(0, (1 << 64) - 1)]
Unix = Annotated[int, Range(0, (1 << 40) - 1)]
"""seconds, UTC"""
Milliseconds = Annotated[float, Range(0, 1e9)]
Tokens = Annotated[int, Range(1, MAX_TOKENS)]
Position = Annotated[int, Range(0, MAX_TOKENS)]
Rows = Annotated[int, Range(1, MAX_ROWS)]
Tolerance = Annotated[int, Range(0, MOST_TOLERANCE)]
"""of a verdict, in millionths"""
Packed = Annotated[bytes, Length(1, MAX_FRAME)]
"""rows as node.rows packs them, as they are signed"""
MaybePacked = Annotated[bytes, Length(0, MAX_FRAME)]
"""the same, or nothing where they do not travel here"""
MaybeRoot = Annotated[bytes, Length(0, 32)]
"""Merkle root over such rows, 32 bytes, or nothing"""
LayerStart = Annotated[int, Range(0, MAX_LAYERS - 1)]
LayerStop = Annotated[int, Range(1, MAX_LAYERS)]
Width = Annotated[int, Range(1, 1 << 16)]
CandidateCount = Annotated[int, Range(0, MAX_TOP_K)]
Bytes16 = Annotated[bytes, Length(16)]
Bytes32 = Annotated[bytes, Length(32)]
Signature = Annotated[bytes, Length(64)]
"""EIP-2098, 64 bytes"""
ModelId = Annotated[str, Hex(32), Travels(bytes.fromhex, _to_hex)]
"""64 hex digits"""
Peer = Annotated[str, Length(1, 128)]
Profile = Annotated[str, Length(1, MAX_PROFILE)]
Sentence = Annotated[str, Length(0, MAX_MESSAGE)]
Address = Annotated[str, _IsAddress(), Travels(address_bytes, _to_address)]
"""an Ethereum address"""
RoleName = Annotated[str, _IsRole(), Travels(_ROLES.__getitem__, _to_role)]
Dtypes = Annotated[tuple[str, ...], Length(1, 4), Each(_IsDtype()), Travels(_from_dtypes, _to_dtypes)]

declare(ChannelDescriptor, {"payer": Address, "payee": Address, "signer": Address, "salt": Bytes32})


def check_range(start: int, stop: int) -> None:
    """Raise WireError unless the layers [start, stop) are a range."""
    if start >= stop:
        raise WireError("layer_stop", f"is {stop}, not above layer_start {start}")
