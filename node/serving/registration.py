"""How a node gets to serve: stake, the operator's word for the node key, and coin for the key's gas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.market.money.units import format_hct
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from hypercluster.market.chain import Chain, Sender

GAS_MONEY_WEI = 5 * 10**16


class TooPoor(NodeError):
    """The operator does not hold what is to be staked."""


@dataclass(frozen=True)
class Registration:
    """An operator, its node and its active stake in wei."""

    operator: str
    node: str
    active_wei: int


def register(chain: Chain, operator: Sender, node: LocalAccount, stake: int | None) -> Registration:
    """Stake, authorise the node key and send it coin for gas; what is done already is left out.

    Args:
        chain: where the registry is.
        operator: holds the stake.
        node: the key that serves.
        stake: wei to add; None for what is missing to what the registry asks for.

    Raises:
        TooPoor: before anything is sent.
        ChainError: a transaction failed.
    """
    import coincurve

    amount = stake
    if amount is None:
        amount = max(0, chain.staking.minimum - chain.staking.stake_of(operator.address).active)
    held = chain.token.balance(operator.address)
    if held < amount:
        raise TooPoor(
            f"The operator {operator.address} holds {format_hct(held)} HCT and {format_hct(amount)} are to be staked; "
            "send it HCT (on a local testnet: hc-testnet fund)."
        )
    if amount:
        chain.staking.stake(operator, amount)
    if chain.staking.operator_of(node.address) != operator.address:
        chain.staking.authorize(operator, coincurve.PrivateKey(bytes(node.key)))
    if chain.balance(node.address) < GAS_MONEY_WEI // 2:
        operator.transact("to send the node key coin for gas", node.address, "0x", GAS_MONEY_WEI)
    active = chain.staking.stake_of(operator.address).active
    return Registration(operator.address, node.address, active)
