"""What a path keeps to where it can: nobody fails a request twice, few are tried at once, nobody gets it all; and what
only one operator can serve is served all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.graph import Node, NoPath
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.shares import Shares
from hypercluster.node.client.request import Wishes
from hypercluster.node.client.rules import Rules, path_by_rules

CHEAPEST = MarketParameters(alpha=1.0, risk_weight=0.0)
FREELY = Wishes(market=CHEAPEST)


def node(name: str, start: int, stop: int, price: int, operator: str = "") -> Node:
    return Node(name, start, stop, price, 0.0, operator=operator or name)


def taken(
    nodes: list[Node], rules: Rules, wishes: Wishes = FREELY, layers: int = 2
) -> tuple[list[str], tuple[str, ...]]:
    path = path_by_rules(
        lambda out: [each for each in nodes if each.owner not in out],
        layers,
        wishes,
        rules,
        np.random.default_rng(0),
    )
    return path.ids, path.waived


def owners(*names: str) -> frozenset[str]:
    return frozenset(names)


def left_alone(why: str) -> dict[str, Any]:
    return {why: owners("cheap")}


WHOLE = [node("cheap", 0, 2, 1), node("fair", 0, 2, 10), node("dear", 0, 2, 100)]


@pytest.mark.parametrize("why", ["failed", "resting", "crowded", "untried"])
def test_who_is_to_be_left_alone_is_on_no_path_while_others_serve(why: str) -> None:
    rules = Rules(trial=False, **left_alone(why))
    assert taken(WHOLE, rules) == (["fair"], ())


@pytest.mark.parametrize("why", ["failed", "resting", "crowded"])
def test_what_only_one_operator_serves_it_serves(why: str) -> None:
    name = "requests" if why == "crowded" else why
    assert taken(WHOLE[:1], Rules(**left_alone(why))) == (["cheap"], (name,))


def test_the_weightier_rule_is_kept_where_both_cannot_be() -> None:
    rules = Rules(failed=owners("cheap"), crowded=owners("fair"))
    assert taken(WHOLE[:2], rules) == (["fair"], ("requests",))
    rules = Rules(failed=owners("cheap"), untried=owners("fair"), trial=False)
    assert taken(WHOLE[:2], rules) == (["fair"], ("untried",))


def test_one_newcomer_is_tried_and_never_two_while_those_known_are_free() -> None:
    """At 1 wei a token newcomers are on a path in a trial only, and one of them at a time."""
    known = [node("head", 0, 1, 50), node("tail", 1, 2, 50)]
    new = [node("new head", 0, 1, 1), node("new tail", 1, 2, 2)]
    untried = owners("new head", "new tail")
    assert taken([*known, *new], Rules(untried=untried, trial=False)) == (["head", "tail"], ())
    assert taken([*known, *new], Rules(untried=untried, trial=True)) == (["new head", "tail"], ())
    # Whom another request is trying now is not tried by this one as well.
    rules = Rules(untried=untried, trying=owners("new head"), trial=True)
    assert taken([*known, *new], rules) == (["head", "new tail"], ())
    # Where nobody known serves a layer, the newcomer does.
    assert taken([known[0], *new], Rules(untried=untried, trial=False)) == (
        ["head", "new tail"],
        ("untried",),
    )
    # Among newcomers alone there is nobody to prefer.
    assert taken(new, Rules(untried=untried, trial=False)) == (["new head", "new tail"], ())


def test_a_preferred_newcomer_is_taken_and_a_failed_one_is_not() -> None:
    wishes = Wishes(market=CHEAPEST, prefer=("cheap",))
    assert taken(WHOLE, Rules(untried=owners("cheap"), trial=False), wishes) == (["cheap"], ())
    assert taken(WHOLE, Rules(failed=owners("cheap")), wishes) == (["fair"], ())


def test_a_limit_of_the_price_is_kept_before_any_share() -> None:
    wishes = Wishes(market=CHEAPEST, max_price_wei=5)
    assert taken(WHOLE, Rules(crowded=owners("cheap")), wishes) == (["cheap"], ("requests",))


def test_who_offers_the_longest_session_shuts_nobody_out_when_it_is_left_alone() -> None:
    lengths = {"cheap": 1 << 20, "fair": 100, "dear": 100}

    def candidates(out: object) -> list[Node]:
        some = [each for each in WHOLE if each.owner not in out]  # type: ignore[operator]
        longest = max(lengths[each.id] for each in some)
        return [each for each in some if lengths[each.id] == longest]

    path = path_by_rules(candidates, 2, FREELY, Rules(failed=owners("cheap")), np.random.default_rng(0))
    assert (path.ids, path.waived) == (["fair"], ())


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 5), st.sampled_from("ABCD")),
        max_size=8,
    ),
    *[st.frozensets(st.sampled_from("ABCD")) for _ in range(5)],
    st.booleans(),
    st.sampled_from([0.5, 1.0]),
)
def test_rules_refuse_nothing_and_what_is_not_waived_holds(
    offers: list[tuple[int, int, int, str]],
    failed: frozenset[str],
    resting: frozenset[str],
    untried: frozenset[str],
    trying: frozenset[str],
    crowded: frozenset[str],
    trial: bool,
    hops: float,
) -> None:
    nodes = [
        node(f"n{i}", start, min(3, start + size), price, owner)
        for i, (start, size, price, owner) in enumerate(offers)
    ]
    wishes = Wishes(market=CHEAPEST, shares=Shares(hops=hops))
    rules = Rules(
        failed=failed, resting=resting, untried=untried, trying=trying, crowded=crowded, trial=trial
    )
    try:
        free, _ = taken(nodes, Rules(), Wishes(market=CHEAPEST, shares=Shares(hops=1.0)), 3)
    except NoPath:
        with pytest.raises(NoPath):
            taken(nodes, rules, wishes, 3)
        return
    ids, waived = taken(nodes, rules, wishes, 3)
    on_path = [each.owner for each in nodes if each.id in ids]
    for name, whom in {"failed": failed, "resting": resting, "trying": trying, "requests": crowded}.items():
        assert name in waived or not whom & set(on_path)
    if "hops" not in waived:
        most = max(1, int(hops * len(on_path)))
        assert all(on_path.count(owner) <= most for owner in on_path)
    known = {each.owner for each in nodes} - untried
    if known and "newcomers" not in waived:
        assert sum(owner in untried for owner in on_path) <= 1
    if not (failed or resting or untried or trying or crowded) and hops == 1.0:
        assert ids == free
