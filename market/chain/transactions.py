"""Calls on their way to the chain, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from web3.types import LogReceipt, TxParams


@dataclass(frozen=True)
class Mined:
    """A mined transaction: gas in units, ``cost_wei`` in the chain's coin, ``contract`` if it created one."""

    transaction: str
    block: int
    gas_used: int
    cost_wei: int
    logs: tuple[LogReceipt, ...]
    contract: str | None


@dataclass(frozen=True)
class Version:
    """A call as it was signed once: the transaction's hash and its bytes."""

    transaction: bytes
    raw: bytes


@dataclass(eq=False)
class Sent:
    """A call that was sent for `nonce` and is not known to be mined; `versions` differ in their fees alone."""

    nonce: int
    action: str
    call: TxParams
    versions: list[Version] = field(default_factory=list)
    missed: int = 0
    """looks in a row at which its nonce was used and nobody knew it"""

    @property
    def transaction(self) -> bytes:
        """Hash of the latest version."""
        return self.versions[-1].transaction


def hexed(transaction: bytes) -> str:
    """A transaction's hash as 0x hex."""
    return "0x" + transaction.hex()
