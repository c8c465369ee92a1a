"""When a payee claims: what is worth many times its gas, channel by channel."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.money.claiming import ClaimCost, ClaimRule, Outlook

COST = ClaimCost(10**15, 0)


def test_o1_claiming_waits_until_it_is_worth_its_gas() -> None:
    """O1: the rule by which a node claims by itself."""
    assert ClaimRule(hct_per_coin=1).chosen([10**16], COST) == []
    assert ClaimRule(hct_per_coin=1).chosen([10**16 + 1], COST) == [0]
    assert ClaimRule(hct_per_coin=2).chosen([2 * 10**16 + 1], COST) == [0]
    assert ClaimRule(hct_per_coin=1).chosen([10**15 + 1], COST, last=True) == [0]
    assert ClaimRule(hct_per_coin=1).chosen([10**15], COST, last=True) == []
    assert ClaimRule(hct_per_coin=0).chosen([0], COST, last=True) == []
    assert ClaimRule(multiple=0).chosen([1, 0, 2], COST) == [2, 0]


def test_o1_small_change_does_not_hold_up_what_is_worth_its_gas() -> None:
    """O1: one channel with much is claimed although a hundred with next to nothing would eat it up."""
    rule, cost = ClaimRule(hct_per_coin=1, multiple=10), ClaimCost(100, 50)
    owed = [3] * 100 + [10_000]
    assert rule.chosen(owed, cost) == [100]
    assert Outlook.of(owed, cost, rule).due
    assert not Outlook.of(owed[:100], cost, rule).due


def test_o1_the_outlook_says_what_is_left_after_the_gas() -> None:
    """O1: gas in coin and in HCT, and the net."""
    rule = ClaimRule(hct_per_coin=3, multiple=10)
    outlook = Outlook.of([500, 0, 250], ClaimCost(100, 50), rule)
    assert (outlook.owed_wei, outlook.channels) == (750, 2)
    assert (outlook.gas_coin_wei, outlook.gas_wei, outlook.net_wei) == (200, 600, 150)
    assert not outlook.due
    assert Outlook.of([], ClaimCost(100, 50), rule).gas_coin_wei == 0


@given(
    st.lists(st.integers(0, 1000), max_size=7), st.integers(0, 300), st.integers(0, 100), st.integers(1, 5)
)
def test_no_other_choice_of_channels_would_bring_more(
    owed: list[int], base: int, row: int, multiple: int
) -> None:
    rule, cost = ClaimRule(hct_per_coin=1, multiple=multiple), ClaimCost(base, row)

    def worth(chosen: list[int]) -> int:
        return sum(owed[i] for i in chosen) - multiple * cost.of(len(chosen))

    best = max(
        worth(list(subset)) for n in range(len(owed) + 1) for subset in combinations(range(len(owed)), n)
    )
    assert worth(rule.chosen(owed, cost)) == best
