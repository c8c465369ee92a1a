"""What is other on rollups: fees for data on the chain beneath, and block numbers that are not the chain's own."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from eth_utils.crypto import keccak

from hypercluster.market.errors import ChainError

if TYPE_CHECKING:
    from hypercluster.market.chain.rpc import Rpc

ARBITRUM_SYSTEM = "0x0000000000000000000000000000000000000064"
OP_FEES = "0x420000000000000000000000000000000000000F"
_L1_FEE = keccak(b"getL1Fee(bytes)")[:4]


def check_supported(rpc: Rpc) -> None:
    """Raise ChainError for a chain on which disputes cannot be decided by chance."""
    if _has_code(rpc, ARBITRUM_SYSTEM):
        raise ChainError(
            "Arbitrum chains are not supported: contracts see block numbers of the chain beneath there, and one "
            "constant for randomness, so whoever wants could choose a committee. Deploy on an L1 or an OP Stack chain."
        )


def has_data_fee(rpc: Rpc) -> bool:
    """Whether it is a chain of the OP Stack, where data costs beside gas. Raises NodeUnreachable."""
    return _has_code(rpc, OP_FEES)


def data_fee(rpc: Rpc, size: int) -> int:
    """What a transaction of `size` bytes that do not compress costs there beside its gas, in wei of the chain's coin.

    Raises ChainError.
    """
    data = secrets.token_bytes(size)
    padded = data.ljust((size + 31) // 32 * 32, b"\0")
    call = _L1_FEE + (32).to_bytes(32, "big") + size.to_bytes(32, "big") + padded
    with rpc.clear_errors("to name its fee for data"):
        answer = rpc.web3.eth.call({"to": rpc.web3.to_checksum_address(OP_FEES), "data": "0x" + call.hex()})  # type: ignore[typeddict-item]
    return int.from_bytes(bytes(answer)[:32], "big")


def _has_code(rpc: Rpc, address: str) -> bool:
    with rpc.clear_errors("to show a contract's code"):
        return bool(rpc.web3.eth.get_code(rpc.web3.to_checksum_address(address)))
