"""HyperToken: balances, transfers, and EIP-2612 permits in place of approvals."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from eth_typing import Hash32

from hypercluster.market.chain.contract import Contract
from hypercluster.market.chain.sender import Mined, Sender
from hypercluster.market.money.signing import address_bytes, checksum, keccak, word
from hypercluster.market.money.units import check_wei

PERMIT_SECONDS = 3600
_PERMIT_TYPE = keccak(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")


class Permit(NamedTuple):
    """A signed EIP-2612 permit in the order the contracts take it; ``deadline`` in unix seconds."""

    deadline: int
    v: int
    r: bytes
    s: bytes


class Token(Contract):
    """The HCT contract. Amounts in wei; methods that take a sender return when the transaction is mined."""

    artifact_name = "HyperToken"

    @cached_property
    def _separator(self) -> bytes:
        return bytes(self._read("DOMAIN_SEPARATOR"))

    def balance(self, account: str) -> int:
        """Return what an account holds."""
        return int(self._read("balanceOf", checksum(account)))

    def supply(self) -> int:
        """Return how many wei of HCT exist."""
        return int(self._read("totalSupply"))

    def allowance(self, owner: str, spender: str) -> int:
        """Return what ``spender`` may take from ``owner``."""
        return int(self._read("allowance", checksum(owner), checksum(spender)))

    def transfer(self, sender: Sender, to: str, amount: int) -> Mined:
        """Send HCT."""
        return self._send(sender, "to transfer HCT", "transfer", checksum(to), check_wei(amount))

    def approve(self, sender: Sender, spender: str, amount: int) -> Mined:
        """Let ``spender`` take up to ``amount``."""
        return self._send(sender, "to approve a spender", "approve", checksum(spender), amount)

    def burn(self, sender: Sender, amount: int) -> Mined:
        """Destroy HCT of one's own."""
        return self._send(sender, "to burn HCT", "burn", check_wei(amount))

    def permit(self, owner: Sender, spender: str, amount: int) -> Permit:
        """Sign a permit for ``spender`` to take ``amount``, valid for an hour of the chain's time.

        Hold ``owner.permits`` until it was used: its nonce is the next one only. Raises ChainError.
        """
        owner.catch_up()  # a call that goes out again uses the permit that it was signed with
        nonce = int(self._read("nonces", owner.address))
        deadline = self.rpc.timestamp() + PERMIT_SECONDS
        accounts = [address_bytes(a).rjust(32, b"\0") for a in (owner.address, checksum(spender))]
        struct = keccak(_PERMIT_TYPE + b"".join(accounts) + word(amount) + word(nonce) + word(deadline))
        signed = owner.account.unsafe_sign_hash(Hash32(keccak(b"\x19\x01" + self._separator + struct)))
        return Permit(deadline, signed.v, word(signed.r), word(signed.s))
