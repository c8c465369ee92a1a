"""Typed evidence: what each kind weighs, how it is forgotten, and what never follows from it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hypercluster.market.trust.reputation import (
    MOST_GOOD,
    PRIOR_AVAILABLE,
    PRIOR_BAD,
    PRIOR_GOOD,
    BadReputation,
    Evidence,
    Reputation,
    Tally,
)
from hypercluster.market.trust.standing import Standing

START = datetime(2026, 3, 1, tzinfo=UTC)
OPERATOR = "0x" + "22" * 20
UNAVAILABLE = (Evidence.DEATH, Evidence.SILENCE, Evidence.REFUSAL, Evidence.LATENCY_LIE)
kinds = st.sampled_from(Evidence)
moments = st.integers(0, 10**7).map(lambda seconds: START + timedelta(seconds=seconds))
tallies = st.builds(Tally, st.floats(0, 40), moments)
weights = st.floats(0, 2000)
reputations = st.builds(
    Reputation, st.floats(0, MOST_GOOD), weights, st.floats(0, MOST_GOOD), weights, st.floats(0.05, 0.95)
)


def after(*evidence: Evidence) -> Reputation:
    """A reputation of one node of one operator, just after the evidence came in."""
    found: dict[Evidence, Tally] = {}
    for kind in evidence:
        found[kind] = found.get(kind, Tally()).noted(kind, START)
    counts = {kind: tally.count for kind, tally in found.items()}
    return Reputation.of(counts, counts)


@given(kinds, tallies, moments, moments)
def test_each_kind_decays_in_its_own_time_and_lies_never(
    kind: Evidence, tally: Tally, first: datetime, second: datetime
) -> None:
    earlier, later = sorted((first, second))
    sooner, afterwards = tally.decayed(kind, earlier), tally.decayed(kind, later)
    assert afterwards.count <= sooner.count <= tally.count
    assert tally.decayed(kind, earlier).decayed(kind, later).count == pytest.approx(afterwards.count)
    if kind is Evidence.LIE:
        assert afterwards.count == tally.count
    elif later > tally.updated:
        assert kind.half_life is not None
        assert afterwards.count == pytest.approx(
            tally.count * 0.5 ** ((later - tally.updated) / kind.half_life)
        )


def test_only_lies_are_forever() -> None:
    assert [kind for kind in Evidence if kind.half_life is None] == [Evidence.LIE]
    decade = START + timedelta(days=3653)
    caught = Tally().noted(Evidence.LIE, START).decayed(Evidence.LIE, decade)
    assert Reputation.of({Evidence.LIE: caught.count, Evidence.AUDIT_PASSED: MOST_GOOD}, {}).distrusted
    wrong = Tally().noted(Evidence.WRONG, START).decayed(Evidence.WRONG, START + timedelta(days=30))
    assert not Reputation.of({Evidence.WRONG: wrong.count}, {}).distrusted


@given(
    kinds,
    st.lists(moments, min_size=1, max_size=8).flatmap(lambda at: st.tuples(st.just(at), st.permutations(at))),
)
def test_the_order_in_which_evidence_comes_in_does_not_matter(
    kind: Evidence, orders: tuple[list[datetime], list[datetime]]
) -> None:
    def total(order: list[datetime]) -> float:
        found = Tally()
        for at in order:
            found = found.noted(kind, at)
        return found.decayed(kind, START + timedelta(days=200)).count

    one, other = map(total, orders)
    assert one == pytest.approx(other)


@given(kinds, tallies, moments)
def test_a_moment_before_turns_no_clock_back(kind: Evidence, tally: Tally, at: datetime) -> None:
    noted = tally.noted(kind, at)
    assert noted.updated == max(tally.updated, at)
    assert noted.count >= tally.decayed(kind, at).count or noted.count == kind.most
    assert noted.count <= max(kind.most, tally.count) + 1


@given(st.lists(st.sampled_from(UNAVAILABLE), max_size=60))
def test_deaths_silences_and_refusals_alone_distrust_nobody(seen: list[Evidence]) -> None:
    """A node that was killed ten times by accident is as honest as before, however often it died."""
    found = after(*seen)
    assert found.reliability == Reputation().reliability
    assert not found.distrusted
    assert found.availability <= PRIOR_AVAILABLE
    assert found.risk >= Reputation().risk


def test_ten_deaths_are_all_but_forgotten_after_an_afternoon() -> None:
    tally = Tally()
    for minute in range(10):
        tally = tally.noted(Evidence.DEATH, START + timedelta(minutes=minute))
    assert after(*[Evidence.DEATH] * 10).silent
    later = tally.decayed(Evidence.DEATH, START + timedelta(hours=6)).count
    assert Reputation.of({}, {Evidence.DEATH: later}).availability > 0.88


def test_one_silence_makes_a_stranger_unlikely_to_answer_and_hardly_touches_a_record() -> None:
    assert after(Evidence.SILENCE).silent
    assert not after(*[Evidence.SERVED] * 40, Evidence.SILENCE).silent
    assert not after(Evidence.DEATH).silent


def test_one_lie_outweighs_the_best_record_and_a_wrong_result_does_not() -> None:
    best = [Evidence.AUDIT_PASSED] * 60
    assert after(*best).good == MOST_GOOD
    assert after(*best, Evidence.LIE).distrusted
    assert after(Evidence.WRONG).distrusted
    assert not after(*[Evidence.AUDIT_PASSED] * 20, Evidence.WRONG).distrusted
    assert after(*best, *[Evidence.WRONG] * 6).distrusted


def test_a_passed_audit_is_worth_ten_served_sessions_and_a_grey_one_nothing() -> None:
    assert after(*[Evidence.SERVED] * 10).good == pytest.approx(after(Evidence.AUDIT_PASSED).good)
    assert after(Evidence.AUDIT_GREY) == after()


@given(reputations)
def test_everything_stays_within_bounds(reputation: Reputation) -> None:
    assert 0 < reputation.reliability < 1
    assert 0 < reputation.availability < 1
    assert reputation.risk > 0
    assert reputation.distrusted == (PRIOR_BAD + reputation.bad > PRIOR_GOOD + reputation.good)
    heard = Reputation(reputation.good, reputation.bad, heard=4.0)
    assert heard.distrusted == reputation.distrusted, "what others say distrusts nobody"
    assert heard.risk > Reputation(reputation.good, reputation.bad).risk


@given(reputations, st.floats(0.01, 0.999))
def test_the_credible_interval_is_that_of_the_beta_distribution(reputation: Reputation, level: float) -> None:
    low, high = reputation.credible_interval(level)
    beta = stats.beta(PRIOR_GOOD + reputation.good, PRIOR_BAD + reputation.bad)
    assert 0 < low < high < 1
    assert beta.cdf(high) - beta.cdf(low) == pytest.approx(level)
    assert beta.mean() == pytest.approx(reputation.reliability)


@given(st.lists(reputations, min_size=1, max_size=6))
def test_risks_of_hops_add_up_to_the_risk_of_the_path(hops: list[Reputation]) -> None:
    total = sum(hop.risk for hop in hops)
    assert math.exp(-total) == pytest.approx(math.prod(hop.reliability * hop.availability for hop in hops))


@pytest.mark.parametrize(
    "values", [{"good": -1.0}, {"bad": math.nan}, {"failed": math.inf}, {"heard": -0.1}, {"expected": 1.0}]
)
def test_amounts_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadReputation):
        Reputation(**values)


@pytest.mark.parametrize("values", [(-1.0, START), (math.nan, START), (1.0, START.replace(tzinfo=None))])
def test_tallies_that_make_no_sense_are_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(BadReputation):
        Tally(*values)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, math.nan])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(BadReputation, match="between 0 and 1"):
        Reputation().credible_interval(level)


def test_any_zone_will_do() -> None:
    elsewhere = timezone(timedelta(hours=9))
    moved = Tally(1.0, START.astimezone(elsewhere))
    assert moved.decayed(Evidence.WRONG, START + timedelta(days=7)).count == pytest.approx(0.5)


# --- an operator and its nodes -------------------------------------------------------------------------------------


def standing(**nodes: dict[Evidence, float]) -> Standing:
    return Standing.adding_up(OPERATOR, nodes, START)


def test_a_broken_machine_of_ten_leaves_the_nine_others_as_they_were() -> None:
    good = {Evidence.SERVED: 20.0}
    ten = standing(
        **{f"node{i}": good for i in range(9)}, broken={Evidence.DEATH: 30.0, Evidence.SILENCE: 4.0}
    )
    alone = standing(node0=good)
    assert ten.of("broken").silent
    for i in range(9):
        assert ten.of(f"node{i}").availability == pytest.approx(alone.of("node0").availability, abs=0.02)
    assert ten.reputation.availability > 0.85, "nor is a tenth one unlikely to answer"
    assert not ten.reputation.distrusted


def test_a_lie_of_one_machine_takes_all() -> None:
    ten = standing(**{f"node{i}": {Evidence.AUDIT_PASSED: 5.0} for i in range(9)}, liar={Evidence.LIE: 1.0})
    assert all(ten.of(peer).distrusted for peer in ("node0", "liar", "never met"))


def test_names_that_were_all_silent_speak_of_the_next_name() -> None:
    """Fifty node keys of one stake are not fifty chances."""
    ten = standing(**{f"honeypot{i}": {Evidence.SILENCE: 1.0} for i in range(10)})
    assert ten.of("honeypot10").silent
    assert ten.of("honeypot10").risk > Reputation().risk + 1
    assert not ten.reputation.distrusted


def test_a_stranger_has_the_prior() -> None:
    assert standing().reputation == Reputation()
