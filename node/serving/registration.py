"""How a node gets to serve: stake, the operator's word for the node key, a share of the stake, and coin for gas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.market.money.units import format_coin, format_hct
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from hypercluster.market.chain import Chain, Sender

GAS_MONEY_WEI = 5 * 10**16


class TooPoor(NodeError):
    """The operator does not hold what is to be staked, or has not staked what is to stand behind the node."""


class KeyTaken(NodeError):
    """Another operator answers for the node key, for good."""


class NotCarried(NodeError):
    """The stake behind a node does not carry what it is to offer."""


@dataclass(frozen=True)
class Registration:
    """An operator and its active stake, its node and the share of it (wei), and the sessions which that carries.

    `added` says what was done, a clause each; nothing where all was in place.
    """

    operator: str
    node: str
    active_wei: int
    share_wei: int
    sessions: int
    added: tuple[str, ...] = ()


def register(
    chain: Chain,
    operator: Sender,
    node: LocalAccount,
    stake: int | None = None,
    *,
    share: int | None = None,
    sessions: int | None = None,
) -> Registration:
    """Stake, tie a share of it to the node key, and send that coin for gas; what is in place already is left out.

    Args:
        chain: where the registry is.
        operator: holds the stake.
        node: the key that serves.
        stake: wei to add; None for what is missing to the share.
        share: wei of the stake behind the node; None for what it has and what is added, the minimum at least.
        sessions: raises the share to what so many sessions need.

    Raises:
        TooPoor, NotCarried, KeyTaken: before anything is sent.
        ChainError: a transaction failed.
    """
    import coincurve

    staking = chain.staking
    other = staking.answers_for(node.address)
    if other not in (None, operator.address):
        raise KeyTaken(
            f"The operator {other} answers for the node key {node.address}, and nobody else ever can: make another "
            "node key (move node.json away, then init)."
        )
    ours = staking.operator_of(node.address) == operator.address
    before = staking.share_of(node.address) if ours else 0
    wanted = max(staking.minimum, before + (stake or 0)) if share is None else share
    if wanted < staking.minimum:
        raise NotCarried(
            f"{format_hct(staking.minimum)} HCT at least must stand behind a node, not {format_hct(wanted)}; to end "
            "its work, revoke it."
        )
    wanted = max(wanted, 1, (sessions or 0) * staking.session_stake)
    others = staking.committed_by(operator.address) - before
    active = staking.stake_of(operator.address).active
    missing = max(0, others + wanted - active)
    amount = missing if stake is None else stake
    _check(chain, operator.address, amount, missing, wanted, others)
    added = []
    if amount:
        staking.stake(operator, amount)
        added.append(f"{format_hct(amount)} HCT staked")
    if not ours:
        staking.authorize(operator, coincurve.PrivateKey(bytes(node.key)), wanted)
        added.append("node key authorised")
    elif wanted != before:
        staking.reshare(operator, node.address, wanted)
        added.append(f"its share was {format_hct(before)} HCT")
    if chain.balance(node.address) < GAS_MONEY_WEI // 2:
        operator.transact("to send the node key coin for gas", node.address, "0x", GAS_MONEY_WEI)
        added.append(f"{format_coin(GAS_MONEY_WEI)} coin for gas sent")
    carried = staking.backing_of(node.address) // staking.session_stake
    return Registration(operator.address, node.address, active + amount, wanted, carried, tuple(added))


def check_carried(chain: Chain, node: str, operator: str, sessions: int, program: str) -> None:
    """Check that the stake behind a node carries `sessions`. Raises NotCarried, ChainError."""
    staking = chain.staking
    (backing,) = staking.backings([(node, operator)])
    needed = sessions * staking.session_stake
    if not backing:
        raise NotCarried(
            f"The node key {node} may not serve: {format_hct(staking.minimum)} HCT of the stake of {operator} have to "
            f"be tied to it, and {format_hct(staking.floor)} of them to be left. Run {program} register, which adds "
            "what is missing."
        )
    if backing < needed:
        raise NotCarried(
            f"The stake behind this node, {format_hct(backing)} HCT, carries {backing // staking.session_stake} "
            f"sessions, and {sessions} are to be offered: run {program} register --share {format_hct(needed)}, or "
            "offer fewer."
        )


def _check(chain: Chain, operator: str, amount: int, missing: int, wanted: int, others: int) -> None:
    held = chain.token.balance(operator)
    if held < amount:
        raise TooPoor(
            f"The operator {operator} holds {format_hct(held)} HCT and {format_hct(amount)} are to be staked; "
            "send it HCT (on a local testnet: hc-testnet fund)."
        )
    if amount < missing:
        tied = f", and {format_hct(others)} HCT are tied to other node keys" if others else ""
        raise TooPoor(
            f"{format_hct(wanted)} HCT of the stake are to stand behind this node{tied}: stake {format_hct(missing)} "
            f"more, not {format_hct(amount)}, or free what keys have that you use no more (hc-provider revoke --node)."
        )
