"""Slander: many names of one stake gain nothing over one, nobody is distrusted for words, and true ones are of use."""

from __future__ import annotations

import numpy as np
import pytest

from hypercluster.market.economics.simulation.slander import RULES, Slandered, _risk, slander
from hypercluster.market.trust.reputation import Reputation

OURS = "by stake, bounded"


def run(rule: str, names: int, stake: float) -> Slandered:
    return slander(RULES[rule], names, stake, requests=60, seed=0)


def test_where_every_word_is_believed_one_slanderer_stops_all_honest_operators() -> None:
    assert run("every word believed", 1, 0.001).honest == 0
    assert run("each name counts one", 100, 0.001).honest == 0


def test_by_stake_a_hundred_names_do_what_one_stake_does_and_distrust_nobody() -> None:
    assert run(OURS, 10, 0.05) == run(OURS, 100, 0.05)
    before, majority = run(OURS, 0, 0.0), run(OURS, 100, 0.9)
    assert majority.distrusted == majority.nobody == 0
    assert majority.honest > 0.6 * before.honest
    assert run(OURS, 10, 0.05).honest > 0.9 * before.honest


def test_what_is_true_of_cheats_is_of_use_to_who_was_not_cheated_yet() -> None:
    shared, alone = (
        sum(slander(RULES[rule], 0, 0.0, requests=60, seed=seed).cheated for seed in range(6))
        for rule in (OURS, "nothing is shared")
    )
    assert shared < 0.7 * alone


def test_the_risk_of_many_is_that_of_each() -> None:
    good, bad = np.array([0.0, 3.0, 40.0]), np.array([0.0, 384.0, 2.0])
    # What nothing is known of is as available as a stranger is.
    known = [Reputation(g, b).risk - Reputation(answered=0.0).risk for g, b in zip(good, bad, strict=True)]
    found = _risk(good, bad) - _risk(np.zeros(1), np.zeros(1))
    assert found.tolist() == pytest.approx(known)
