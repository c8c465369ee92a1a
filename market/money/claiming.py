"""What a payee should send to the chain now: vouchers that are worth many times their gas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypercluster.market.money.units import COIN, one


@dataclass(frozen=True, slots=True)
class ClaimCost:
    """What a claim of several channels costs: once, and per channel, in wei of the chain's own coin."""

    base_wei: int
    row_wei: int

    def of(self, channels: int) -> int:
        """For so many channels in one transaction; nothing for none."""
        return self.base_wei + self.row_wei * channels if channels else 0


HCT_PER_COIN = 1_000
MULTIPLE = 10
CLAIM_BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRule:
    """When a payee claims.

    Attributes:
        hct_per_coin: how many HCT one coin of the chain is worth, a rate set by the operator.
        multiple: claim what is worth this many times its gas; 0 claims everything at once.
    """

    hct_per_coin: int = HCT_PER_COIN
    multiple: int = MULTIPLE

    def chosen(self, owed: Sequence[int], cost: ClaimCost, *, last: bool = False) -> list[int]:
        """Indices into `owed` (wei by channel) of what should be claimed now, the most first; none if it should wait.

        A channel with less than its own share of the gas stays out, so that many small ones hold up no large one.
        With `last` everything worth more than its gas is claimed: nobody will be there to do it later.
        """
        order = sorted((i for i, wei in enumerate(owed) if wei > 0), key=lambda i: -owed[i])
        if not self.multiple:
            return order
        times = 1 if last else self.multiple
        best = count = total = 0
        for taken, index in enumerate(order, 1):
            total += owed[index]
            if total - times * self.worth(cost.of(taken)) > best:
                best, count = total - times * self.worth(cost.of(taken)), taken
        return order[:count]

    def worth(self, coin_wei: int) -> int:
        """Wei of HCT that so many wei of the chain's coin are worth."""
        return coin_wei * self.hct_per_coin * one() // COIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is owed and what claiming all of it costs, amounts in wei of HCT but for `gas_coin_wei`."""

    owed_wei: int
    channels: int
    gas_coin_wei: int
    rule: ClaimRule
    due: bool
    """a running node claims some or all of it by itself now"""

    @classmethod
    def of(cls, owed: Sequence[int], cost: ClaimCost, rule: ClaimRule) -> Outlook:
        """The outlook for channels that owe so much each, in wei."""
        some = [wei for wei in owed if wei > 0]
        return cls(
            owed_wei=sum(some),
            channels=len(some),
            gas_coin_wei=cost.of(len(some)),
            rule=rule,
            due=bool(rule.chosen(some, cost)),
        )

    @property
    def gas_wei(self) -> int:
        """The gas, in HCT at the operator's rate."""
        return self.rule.worth(self.gas_coin_wei)

    @property
    def net_wei(self) -> int:
        """What is left after the gas; below 0 for a claim that loses money."""
        return self.owed_wei - self.gas_wei
