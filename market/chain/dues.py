"""What disputes owe an account: rewards for proven faults, and credits from lost bonds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hypercluster.market.money.signing import checksum

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Mined, Sender
    from hypercluster.market.chain.contract import Contract


@dataclass(frozen=True)
class Owed:
    """What a contract owes an account, in wei: what can be claimed, and what still waits.

    From ``claimable_at`` on (unix seconds; 0 where nothing waits) some more of it can be claimed.
    """

    claimable: int
    waiting: int
    claimable_at: int

    @property
    def amount(self) -> int:
        """All of it."""
        return self.claimable + self.waiting


@dataclass(frozen=True)
class Due:
    """What one of the contracts owes; `ripe`: some of it can be claimed now."""

    name: Literal["rewards", "credits"]
    owed: Owed
    ripe: bool


def dues_of(chain: Chain, account: str) -> list[Due]:
    """Rewards and credits of an account. Raises ChainError."""
    # An idle chain's latest block is old; the next one will have the time of the clock.
    now = max(chain.timestamp(), int(time.time()))

    def due(name: Literal["rewards", "credits"], owed: Owed) -> Due:
        return Due(name, owed, bool(owed.claimable or (owed.waiting and owed.claimable_at <= now)))

    return [
        due("rewards", chain.staking.reward_of(account)),
        due("credits", chain.disputes.cases.credit_of(account)),
    ]


def claim(chain: Chain, sender: Sender, dues: Iterable[Due]) -> dict[str, int]:
    """Claim for the sender what is ripe. Returns the wei that were paid, by name. Raises ChainError."""
    paid: dict[str, int] = {}
    for due in dues:
        if due.ripe and due.name == "rewards":
            paid[due.name] = _paid(chain.staking, chain.staking.claim_rewards(sender))
        elif due.ripe:
            paid[due.name] = _paid(chain.disputes.cases, chain.disputes.cases.claim_credits(sender))
    return paid


def _paid(contract: Contract, mined: Mined) -> int:
    logged = [log for log in mined.logs if checksum(log["address"]) == contract.address]
    return sum(int(contract.decoded(log)[1]["amount"]) for log in logged)
