"""What disputes owe an account: rewards for proven faults, and credits from lost bonds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Sender


@dataclass(frozen=True)
class Due:
    """An amount in wei, 0 for none; `claimable_at` is a Unix time, None with none; `ripe`: it can be claimed now."""

    name: Literal["rewards", "credits"]
    amount: int
    claimable_at: int | None
    ripe: bool


def dues_of(chain: Chain, account: str) -> list[Due]:
    """Rewards and credits of an account. Raises ChainError."""
    # An idle chain's latest block is old; the next one will have the time of the clock.
    now = max(chain.timestamp(), int(time.time()))
    reward, credit = chain.staking.reward_of(account), chain.disputes.cases.credit_of(account)

    def due(name: Literal["rewards", "credits"], amount: int, at: int) -> Due:
        return Due(name, amount, at if amount else None, bool(amount) and at <= now)

    return [
        due("rewards", reward.amount, reward.claimable_at),
        due("credits", credit.amount, credit.claimable_at),
    ]


def claim(chain: Chain, sender: Sender, dues: Iterable[Due]) -> None:
    """Claim for the sender what is ripe. Raises ChainError."""
    for due in dues:
        if due.ripe and due.name == "rewards":
            chain.staking.claim_rewards(sender)
        elif due.ripe:
            chain.disputes.cases.claim_credits(sender)
