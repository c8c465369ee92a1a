"""StakingRegistry: an operator's stake, and the node keys it answers for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import coincurve

from hypercluster.market.chain.contract import Contract, somebody
from hypercluster.market.chain.dues import Owed
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Mined, Sender
from hypercluster.market.chain.token import Token
from hypercluster.market.money.signing import (
    address_bytes,
    address_of,
    checksum,
    domain_separator,
    keccak,
    sign_compact,
    word,
)
from hypercluster.market.money.units import check_wei

CONSENT_SECONDS = 3600
_AUTHORIZE_TYPE = keccak(b"Authorize(address operator,address nodeKey,uint256 deadline)")


@dataclass(frozen=True)
class Stake:
    """An operator's stake in wei; ``thawing`` may be withdrawn from ``thaw_end`` on (unix seconds)."""

    active: int
    thawing: int
    thaw_end: int


class Staking(Contract):
    """The registry. Amounts in wei; methods that take a sender return when the transaction is mined."""

    artifact_name = "StakingRegistry"

    def __init__(self, rpc: Rpc, address: str, token: Token) -> None:
        super().__init__(rpc, address)
        self.token = token

    @cached_property
    def minimum(self) -> int:
        """Share that makes a node key eligible, as long as three quarters of it are behind the key."""
        return int(self._read("minStake"))

    @property
    def floor(self) -> int:
        """Backing that a key with a share of the minimum needs to stay eligible: the rest is room for fines."""
        return -(-3 * self.minimum // 4)

    @cached_property
    def session_stake(self) -> int:
        """Backing for each session that a node key offers, at least 1."""
        return int(self._read("sessionStake"))

    @cached_property
    def unbonding_seconds(self) -> int:
        """How long stake thaws."""
        return int(self._read("unbonding"))

    def slashers(self) -> list[str]:
        """Return all contracts that may slash; none before they are set."""
        return [checksum(contract) for contract in self._read("slashers")]

    def stake_of(self, operator: str) -> Stake:
        """Return an operator's stake."""
        return Stake(*self._read("stakes", checksum(operator)))

    def committed_by(self, operator: str) -> int:
        """Return how much of its stake an operator has tied to node keys; a slash can leave less active than that."""
        return int(self._read("committed", checksum(operator)))

    def share_of(self, node: str) -> int:
        """Return the stake that its operator tied to a node key, 0 for one that does not work."""
        return int(self._read("shareOf", checksum(node)))

    def backing_of(self, node: str) -> int:
        """Return the active stake behind a node key: its share, or less where less is active than is tied to keys."""
        return int(self._read("backingOf", checksum(node)))

    def reward_of(self, reporter: str) -> Owed:
        """Return what a reporter of faults may claim, and when."""
        return Owed(*self._read("rewards", checksum(reporter)))

    def operator_of(self, node: str) -> str | None:
        """Return the operator that answers for a node key's address, or None."""
        return somebody(self._read("operatorOf", checksum(node)))

    def answers_for(self, node: str) -> str | None:
        """Return the operator that answers for what a node key signs or signed, after a revocation too; or None."""
        return somebody(self._read("answersFor", checksum(node)))

    def is_eligible(self, node: str) -> bool:
        """Say whether a node key may serve: the minimum is tied to it, and three quarters of that are still there."""
        return bool(self._read("isEligible", checksum(node)))

    def backings(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Return for each (node, operator) the active stake behind the node key, in one call.

        0 where it may not serve: another operator or none answers for it, or it is not eligible.
        """
        standings = self._read("standings", [checksum(node) for node, _ in pairs])
        return [
            backing if eligible and somebody(owner) == checksum(operator) else 0
            for (_, operator), (owner, backing, eligible) in zip(pairs, standings, strict=True)
        ]

    def stake(self, sender: Sender, amount: int) -> Mined:
        """Stake HCT, with a permit in the same transaction."""
        with sender.permits:
            permit = self.token.permit(sender, self.address, check_wei(amount))
            return self._send(sender, "to stake", "stakeWithPermit", amount, *permit)

    def unstake(self, sender: Sender, amount: int) -> Mined:
        """Let active stake thaw; what thaws already starts over."""
        return self._send(sender, "to unstake", "unstake", check_wei(amount))

    def cancel_unstake(self, sender: Sender) -> Mined:
        """Turn thawing stake into active stake again."""
        return self._send(sender, "to cancel unstaking", "cancelUnstake")

    def withdraw(self, sender: Sender) -> Mined:
        """Take thawed stake back."""
        return self._send(sender, "to withdraw stake", "withdraw")

    def consent(self, node_key: coincurve.PrivateKey, operator: str, deadline: int) -> bytes:
        """Sign, with the node key, that ``operator`` may answer for it until ``deadline``; 64 bytes."""
        separator = domain_separator("HyperCluster StakingRegistry", "1", self.rpc.chain_id, self.address)
        accounts = [address_bytes(a).rjust(32, b"\0") for a in (checksum(operator), address_of(node_key))]
        struct = keccak(_AUTHORIZE_TYPE + b"".join(accounts) + word(deadline))
        return sign_compact(node_key, keccak(b"\x19\x01" + separator + struct))

    def authorize(self, sender: Sender, node_key: coincurve.PrivateKey, share: int | None = None) -> Mined:
        """Make the sender answer for a node key that is at hand, and tie ``share`` of its stake to it.

        None ties the minimum. Raises Reverted (StakeCommitted) where less is active and tied to no other key.
        """
        deadline = self.rpc.timestamp() + CONSENT_SECONDS
        signature = self.consent(node_key, sender.address, deadline)
        share = max(1, self.minimum) if share is None else share
        return self.authorize_consented(sender, address_of(node_key), share, deadline, signature)

    def authorize_consented(
        self, sender: Sender, node: str, share: int, deadline: int, signature: bytes
    ) -> Mined:
        """Make the sender answer for a node key that consented elsewhere, see :meth:`consent`."""
        arguments = checksum(node), check_wei(share), deadline, signature
        return self._send(sender, "to authorise a node key", "authorize", *arguments)

    def reshare(self, sender: Sender, node: str, share: int) -> Mined:
        """Tie another share of the sender's stake to one of its node keys; less than before is always possible."""
        arguments = checksum(node), check_wei(share)
        return self._send(sender, "to change the share of a node key", "reshare", *arguments)

    def revoke(self, sender: Sender, node: str) -> Mined:
        """End the work of a node key and free its share; what it signed stays the operator's."""
        return self._send(sender, "to revoke a node key", "revoke", checksum(node))

    def set_slashers(self, sender: Sender, contracts: Sequence[str]) -> Mined:
        """Name all contracts that may slash; the deployer can do it once, and `deploy` does."""
        return self._send(
            sender, "to set the slashers", "setSlashers", [checksum(each) for each in contracts]
        )

    def slash(self, sender: Sender, operator: str, requested: int, reporter: str, reward: int) -> Mined:
        """Take stake from an operator (slashers only); part of it becomes the reporter's reward."""
        arguments = checksum(operator), check_wei(requested), checksum(reporter), check_wei(reward)
        return self._send(sender, "to slash", "slash", *arguments)

    def claim_rewards(self, sender: Sender) -> Mined:
        """Take those rewards of one's reports that have waited long enough."""
        return self._send(sender, "to claim rewards", "claimRewards")
