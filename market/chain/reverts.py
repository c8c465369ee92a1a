"""What a contract meant when it reverted: custom errors of our contracts decoded by their selectors."""

from __future__ import annotations

from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import abi_to_signature, collapse_if_tuple

from hypercluster.contracts import artifact
from hypercluster.market.errors import ChainError, InsufficientFunds, Reverted
from hypercluster.market.money.signing import checksum, keccak
from hypercluster.market.money.units import format_hct

CONTRACTS = (
    "HyperToken",
    "StakingRegistry",
    "PaymentChannels",
    "DisputeCases",
    "DisputeProofs",
    "DisputeDemands",
)
_BUILT_IN = {
    "Error(string)": ("Error", ["string"], ["reason"]),
    "Panic(uint256)": ("Panic", ["uint256"], ["code"]),
}


@cache
def _errors() -> dict[bytes, tuple[str, list[str], list[str]]]:
    known = {keccak(signature.encode())[:4]: error for signature, error in _BUILT_IN.items()}
    for contract in CONTRACTS:
        for entry in artifact(contract).abi:
            if entry["type"] == "error":
                types = [collapse_if_tuple(field) for field in entry["inputs"]]
                names = [field["name"] for field in entry["inputs"]]
                known[keccak(abi_to_signature(entry).encode())[:4]] = (entry["name"], types, names)  # type: ignore[arg-type]
    return known


def reverted(action: str, data: object, message: str) -> ChainError:
    """Return the exception for a revert while trying ``action`` (such as "to settle a channel").

    Args:
        action: what was tried.
        data: the revert's data as 0x hex, if the node gave it.
        message: the node's own words, used when the data tell nothing.
    """
    raw = _raw(data)
    if raw[:4] not in _errors():
        return Reverted(action, "Unknown", {"message": message, "data": "0x" + raw.hex()})
    name, types, names = _errors()[raw[:4]]
    try:
        values = decode(types, raw[4:])
    except (DecodingError, OverflowError):
        return Reverted(action, name, {"data": "0x" + raw.hex()})
    arguments: dict[str, Any] = {
        key: _readable(kind, value) for key, kind, value in zip(names, types, values, strict=True)
    }
    if name == "ERC20InsufficientBalance":
        return InsufficientFunds(
            f"Account {arguments['sender']} holds {format_hct(int(arguments['balance']))} HCT and needs "
            f"{format_hct(int(arguments['needed']))} HCT {action}."
        )
    return Reverted(action, name, arguments)


def _raw(data: object) -> bytes:
    """The bytes of a hex text; none of anything else that a chain's node may say."""
    try:
        return bytes.fromhex(data[2:]) if isinstance(data, str) and data.startswith("0x") else b""
    except ValueError:
        return b""


def _readable(kind: str, value: object) -> object:
    if kind == "address":
        return checksum(str(value))
    return "0x" + value.hex() if isinstance(value, bytes) else value
