"""Headers of blocks as the chain hashes them: a contract that knows a block's hash believes what such a header says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rlp  # type: ignore[import-untyped]

from hypercluster.market.errors import ChainError
from hypercluster.market.money.signing import keccak

if TYPE_CHECKING:
    from hypercluster.market.chain.rpc import Rpc

_FIELDS = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)
"""what Ethereum's headers hold, in their order; a chain that is behind lacks the last ones"""
_NUMBERS = frozenset(
    (
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "baseFeePerGas",
        "blobGasUsed",
        "excessBlobGas",
    )
)


def header_of(rpc: Rpc, number: int) -> bytes:
    """Return the header of a block in RLP, some 600 bytes, whose Keccak-256 is the block's hash.

    Raises:
        ChainError: there is no such block, or its header has other fields than those of Ethereum.
        NodeUnreachable: no answer.
    """
    with rpc.clear_errors("to show a block"):
        block = rpc.raw_block(hex(number))
    if block is None:
        raise ChainError(f"The node at {rpc.place} does not show block {number}: try again, or use another.")
    header = header_in(block)
    if header is None:
        raise ChainError(
            f"Block {number} of chain {rpc.chain_id} has no header like those of Ethereum: no committee can be drawn "
            "on this chain."
        )
    return header


def header_in(block: dict[str, Any]) -> bytes | None:
    """Return the header in what a node answers for a block, None where its hash is not that of the block."""
    try:
        header: bytes = rlp.encode(
            [_field(name, block[name]) for name in _FIELDS if block.get(name) is not None]
        )
        return header if keccak(header) == bytes.fromhex(block["hash"][2:]) else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _field(name: str, value: str) -> bytes:
    if name in _NUMBERS:
        number = int(value, 16)
        return number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes.fromhex(value[2:])
