from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hypercluster.market.trust.reputation import (
    FAULT_HALF_LIVES,
    HALF_LIFE,
    MOST_GOOD,
    PRIOR_BAD,
    PRIOR_GOOD,
    BadReputation,
    Evidence,
    Reputation,
)

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

START = datetime(2026, 3, 1, tzinfo=UTC)
kinds = st.sampled_from(Evidence)
moments = st.integers(0, 10**7).map(lambda seconds: START + timedelta(seconds=seconds))
reputations = st.builds(Reputation, st.floats(0, MOST_GOOD), st.floats(0, 2000), moments)


def after(*evidence: Evidence, at: datetime = START) -> Reputation:
    reputation = Reputation(updated=at)
    for kind in evidence:
        reputation = reputation.noted(kind, at)
    return reputation


@given(reputations, moments, moments)
def test_evidence_only_fades_and_all_of_it_alike(
    reputation: Reputation, first: datetime, second: datetime
) -> None:
    earlier, later = sorted((first, second))
    sooner, afterwards = reputation.decayed(earlier), reputation.decayed(later)
    assert afterwards.good <= sooner.good <= reputation.good
    assert afterwards.bad <= sooner.bad <= reputation.bad
    if later > reputation.updated:
        left = 0.5 ** ((later - reputation.updated) / HALF_LIFE)
        assert afterwards.good == pytest.approx(reputation.good * left)
        assert afterwards.bad == pytest.approx(reputation.bad * left)
        assert afterwards.updated == later


@given(reputations, moments, moments)
def test_two_steps_of_decay_are_one(reputation: Reputation, first: datetime, second: datetime) -> None:
    earlier, later = sorted((first, second))
    once, twice = reputation.decayed(later), reputation.decayed(earlier).decayed(later)
    assert twice.good == pytest.approx(once.good)
    assert twice.bad == pytest.approx(once.bad)
    assert twice.updated == once.updated


def test_evidence_halves_in_a_half_life() -> None:
    reputation = Reputation(8.0, 4.0, START).decayed(START + HALF_LIFE)
    assert (reputation.good, reputation.bad) == (4.0, 2.0)
    assert Reputation(8.0, 4.0, START).decayed(START - HALF_LIFE) == Reputation(8.0, 4.0, START)


@given(reputations, st.lists(kinds, max_size=12).flatmap(lambda k: st.tuples(st.just(k), st.permutations(k))))
def test_the_order_of_evidence_within_a_moment_does_not_matter(
    reputation: Reputation, orders: tuple[list[Evidence], list[Evidence]]
) -> None:
    ends = []
    for order in orders:
        found = reputation
        for kind in order:
            found = found.noted(kind, reputation.updated)
        ends.append((found.good, found.bad))
    assert ends[0] == pytest.approx(ends[1])


@given(st.lists(st.tuples(kinds, moments), max_size=8))
def test_evidence_that_comes_late_counts_as_if_it_had_come_in_time(
    evidence: list[tuple[Evidence, datetime]],
) -> None:
    end = START + timedelta(seconds=10**7)

    def total(order: list[tuple[Evidence, datetime]]) -> Reputation:
        found = Reputation(updated=START)
        for kind, at in order:
            found = found.noted(kind, at)
        return found.decayed(end)

    in_time, backwards = (
        total(sorted(evidence, key=lambda pair: pair[1], reverse=turn)) for turn in (False, True)
    )
    assert backwards.good == pytest.approx(in_time.good)
    assert backwards.bad == pytest.approx(in_time.bad)


@given(reputations, kinds, moments)
def test_everything_stays_within_bounds(reputation: Reputation, kind: Evidence, at: datetime) -> None:
    noted = reputation.noted(kind, at)
    assert 0 <= noted.good <= MOST_GOOD
    assert 0 <= noted.bad < math.inf
    assert 0 < noted.reliability <= (PRIOR_GOOD + MOST_GOOD) / (PRIOR_GOOD + MOST_GOOD + PRIOR_BAD)
    assert math.exp(-noted.risk) == pytest.approx(noted.reliability)
    assert noted.risk > 0
    assert noted.distrusted == (PRIOR_BAD + noted.bad > PRIOR_GOOD + noted.good)


@given(reputations)
def test_good_evidence_raises_reliability_and_bad_evidence_lowers_it(reputation: Reputation) -> None:
    for kind in Evidence:
        good, bad = kind.weight
        noted = reputation.noted(kind, reputation.updated).reliability
        if bad:
            assert noted < reputation.reliability
        elif good and reputation.good < MOST_GOOD - good:
            assert noted > reputation.reliability
        elif not good:
            assert noted == reputation.reliability


@given(st.integers(0, 2000), st.floats(0, FAULT_HALF_LIVES - 0.001))
def test_one_proven_fault_outweighs_any_record_for_three_half_lives(passed: int, half_lives: float) -> None:
    good = after(*[Evidence.AUDIT_PASSED] * min(passed, 60), *[Evidence.SERVED] * (passed % 7))
    assert not good.distrusted
    caught = good.noted(Evidence.AUDIT_FAILED, START)
    # It may even go on being praised.
    praised = caught.decayed(START + half_lives * HALF_LIFE)
    for _ in range(50):
        praised = praised.noted(Evidence.AUDIT_PASSED, praised.updated)
    assert caught.distrusted
    assert praised.distrusted


def test_a_fault_is_forgiven_in_the_end() -> None:
    caught = after(Evidence.AUDIT_FAILED)
    assert caught.decayed(START + 5.5 * HALF_LIFE).distrusted
    assert not caught.decayed(START + 5.6 * HALF_LIFE).distrusted


def test_what_each_kind_is_worth() -> None:
    assert after().reliability == 0.9
    assert after(*[Evidence.SERVED] * 10).good == pytest.approx(after(Evidence.AUDIT_PASSED).good)
    assert after(Evidence.AUDIT_GREY) == after()
    assert after(Evidence.RECEIPT_WRONG).distrusted
    assert not after(*[Evidence.AUDIT_PASSED] * 20, Evidence.RECEIPT_WRONG).distrusted
    assert not after(*[Evidence.SESSION_FAILED] * 8).distrusted
    assert after(*[Evidence.SESSION_FAILED] * 9).distrusted


@given(reputations, st.floats(0.01, 0.999))
def test_the_credible_interval_is_that_of_the_beta_distribution(reputation: Reputation, level: float) -> None:
    low, high = reputation.credible_interval(level)
    beta = stats.beta(PRIOR_GOOD + reputation.good, PRIOR_BAD + reputation.bad)
    assert (low, high) == pytest.approx(beta.interval(level), rel=1e-6, abs=1e-12)
    assert beta.cdf(high) - beta.cdf(low) == pytest.approx(level)
    assert beta.mean() == pytest.approx(reputation.reliability)


def test_more_evidence_narrows_the_interval() -> None:
    low, high = after().credible_interval()
    closer = after(*[Evidence.AUDIT_PASSED] * 30).credible_interval()
    assert closer[1] - closer[0] < high - low


@given(st.lists(reputations, min_size=1, max_size=6))
def test_risks_of_hops_add_up_to_the_risk_of_the_path(hops: list[Reputation]) -> None:
    honest = math.prod(hop.reliability for hop in hops)
    assert math.exp(-sum(hop.risk for hop in hops)) == pytest.approx(honest)


@pytest.mark.parametrize(
    "values", [(-1.0, 0.0), (0.0, math.nan), (math.inf, 0.0), (0.0, 0.0, datetime(2026, 1, 1))]
)
def test_senseless_evidence_is_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(BadReputation):
        Reputation(*values)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, math.nan])
def test_senseless_levels_are_refused(level: float) -> None:
    with pytest.raises(BadReputation, match="between 0 and 1"):
        Reputation().credible_interval(level)


def test_time_zones_are_only_names_of_moments() -> None:
    elsewhere = timezone(timedelta(hours=9))
    moved = Reputation(1.0, 1.0, START.astimezone(elsewhere))
    assert moved.decayed(START + HALF_LIFE).good == 0.5
