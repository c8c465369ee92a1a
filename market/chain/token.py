"""The token that pays, ours or another: balances, transfers, and EIP-2612 permits or approvals."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from eth_typing import Hash32

from hypercluster.market.chain.contract import Contract
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Mined, Sender
from hypercluster.market.errors import ChainError, NodeUnreachable
from hypercluster.market.money.signing import address_bytes, checksum, keccak, word
from hypercluster.market.money.units import Unit, check_wei, readable_symbol

PERMIT_SECONDS = 3600
_PERMIT_TYPE = keccak(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")


class Permit(NamedTuple):
    """A signed EIP-2612 permit in the order the contracts take it; ``deadline`` in unix seconds."""

    deadline: int
    v: int
    r: bytes
    s: bytes


NO_PERMIT = Permit(0, 0, bytes(32), bytes(32))
"""what stands where a permit would, for tokens that have none"""


class Token(Contract):
    """HCT, or another ERC-20. Amounts in wei; methods that take a sender return when the transaction is mined."""

    artifact_name = "HyperToken"

    def __init__(self, rpc: Rpc, address: str) -> None:
        super().__init__(rpc, address)
        self._permits: bool | None = None

    @cached_property
    def _separator(self) -> bytes:
        return bytes(self._read("DOMAIN_SEPARATOR"))

    @cached_property
    def decimals(self) -> int:
        """How many decimals amounts of it are written with."""
        return int(self._read("decimals"))

    @cached_property
    def symbol(self) -> str:
        """What amounts of it are written with, as far as people can be shown it."""
        try:
            return readable_symbol(str(self._read("symbol")))
        except NodeUnreachable:
            raise
        except ChainError:  # an ERC-20 need not have one, and the first ones have bytes instead of a text
            return readable_symbol("")

    @property
    def unit(self) -> Unit:
        """What amounts of it are counted and written in."""
        return Unit(self.decimals, self.symbol)

    def balance(self, account: str) -> int:
        """Return what an account holds."""
        return int(self._read("balanceOf", checksum(account)))

    def supply(self) -> int:
        """Return how many wei of it exist."""
        return int(self._read("totalSupply"))

    def allowance(self, owner: str, spender: str) -> int:
        """Return what ``spender`` may take from ``owner``."""
        return int(self._read("allowance", checksum(owner), checksum(spender)))

    def transfer(self, sender: Sender, to: str, amount: int) -> Mined:
        """Send some of it."""
        return self._send(sender, "to transfer HCT", "transfer", checksum(to), check_wei(amount))

    def approve(self, sender: Sender, spender: str, amount: int) -> Mined:
        """Let ``spender`` take up to ``amount``."""
        return self._send(sender, "to approve a spender", "approve", checksum(spender), amount)

    def burn(self, sender: Sender, amount: int) -> Mined:
        """Destroy HCT of one's own."""
        return self._send(sender, "to burn HCT", "burn", check_wei(amount))

    def permit(self, owner: Sender, spender: str, amount: int) -> Permit:
        """Let ``spender`` take ``amount``: by a permit, valid for an hour of the chain's time, or by an approval.

        A token that knows no permits is asked to approve, in a transaction of its own, and an empty permit comes back,
        which our contracts pass over. Hold ``owner.permits`` until it was used: a permit's nonce is the next one only,
        and an approval stands for one call. Raises ChainError.
        """
        owner.catch_up()  # a call that goes out again uses the permit that it was signed with
        if self._permits is None:
            self._permits = self._takes_permits(owner, spender)
        if self._permits:
            return self._signed(owner, spender, amount)
        allowed = self.allowance(owner.address, spender)
        if allowed < amount:
            if allowed:
                self.approve(owner, spender, 0)  # some tokens change no approval that is in use
            self.approve(owner, spender, amount)
        return NO_PERMIT

    def _takes_permits(self, owner: Sender, spender: str) -> bool:
        """Whether the token takes a permit as EIP-2612 has it; asked with one, which changes nothing."""
        try:
            permit = self._signed(owner, spender, 0)
            self._read("permit", owner.address, checksum(spender), 0, *permit)
        except NodeUnreachable:
            raise
        except ChainError:
            return False
        return True

    def _signed(self, owner: Sender, spender: str, amount: int) -> Permit:
        nonce = int(self._read("nonces", owner.address))
        deadline = self.rpc.timestamp() + PERMIT_SECONDS
        accounts = [address_bytes(a).rjust(32, b"\0") for a in (owner.address, checksum(spender))]
        struct = keccak(_PERMIT_TYPE + b"".join(accounts) + word(amount) + word(nonce) + word(deadline))
        signed = owner.account.unsafe_sign_hash(Hash32(keccak(b"\x19\x01" + self._separator + struct)))
        return Permit(deadline, signed.v, word(signed.r), word(signed.s))
