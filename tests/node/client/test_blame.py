"""Whose doing a failure is: every code is judged, and a client's own doing is nobody's fault."""

from __future__ import annotations

import pytest

from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.blame import MOST_TRIES, REFUSALS, Then, judge
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.errors import ErrorCode


def refused(code: ErrorCode) -> HopFailed:
    return HopFailed("peer", "No.", code, How.REFUSED)


def test_b1_every_refusal_is_judged_and_only_its_own_failure_is_held_against_a_provider() -> None:
    """B1: what a client did itself, or what is nobody's doing, is no evidence and forgets nobody."""
    assert set(REFUSALS) == set(ErrorCode)
    for code in ErrorCode:
        found = judge(refused(code), absent=False, clock_confirmed=False, tried=0)
        assert (found.evidence is not None) == (code in (ErrorCode.INTERNAL, ErrorCode.ENGINE_FAILED)), code
        assert not found.forget


@pytest.mark.parametrize("code", [ErrorCode.TIMEOUT, ErrorCode.UNKNOWN_SESSION])
def test_b2_a_session_that_ended_through_us_is_opened_again(code: ErrorCode) -> None:
    """B2: also when the connection is found lost after an absence."""
    assert judge(refused(code), absent=False, clock_confirmed=False, tried=0).then is Then.REOPEN
    lost = HopFailed("peer", "Lost.", how=How.LOST)
    assert judge(lost, absent=True, clock_confirmed=False, tried=0).then is Then.REOPEN
    assert judge(lost, absent=True, clock_confirmed=False, tried=0).evidence is None


def test_b2_who_is_cut_off_from_everybody_blames_nobody_and_tries_again_a_little_later() -> None:
    """B2's kind: one connection lost is the provider's doing, all of them at once are more likely ours."""
    lost = HopFailed("peer", "The connection is lost.", how=How.LOST)
    found = judge(lost, absent=False, alone=True, clock_confirmed=False, tried=0)
    assert (found.then, found.evidence, found.forget) == (Then.REST, None, False)
    told = lost.through_us()
    assert (told.peer, told.how) == ("peer", How.LOST)
    assert "cut off" in str(told)
    broke = HopFailed("peer", "Not signed.", ErrorCode.BAD_SIGNATURE)
    assert judge(broke, absent=False, alone=True, clock_confirmed=False, tried=0).evidence is not None


def test_a_lost_connection_and_a_broken_answer_are_evidence() -> None:
    lost = judge(HopFailed("peer", "Lost.", how=How.LOST), absent=False, clock_confirmed=False, tried=0)
    assert (lost.then, lost.evidence, lost.forget) == (Then.LEAVE, Evidence.DEATH, True)
    late = HopFailed("peer", "Late.", ErrorCode.TIMEOUT, How.LOST)
    assert judge(late, absent=False, clock_confirmed=False, tried=0).evidence is Evidence.SILENCE
    broke = HopFailed("peer", "Not signed.", ErrorCode.BAD_SIGNATURE)
    assert judge(broke, absent=False, clock_confirmed=False, tried=0).evidence is Evidence.WRONG


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        (ErrorCode.BAD_SHAPE, Evidence.WRONG),
        (ErrorCode.NOT_FINITE, Evidence.WRONG),
        (ErrorCode.BAD_SIGNATURE, Evidence.WRONG),
        (ErrorCode.INTERNAL, Evidence.REFUSAL),
        (ErrorCode.TOO_LONG, Evidence.REFUSAL),
    ],
)
def test_an_answer_that_does_not_hold_is_wrong_or_a_refusal_and_never_a_lie(
    code: ErrorCode, seen: Evidence
) -> None:
    """A lie is what was looked into or contradicts itself; nothing that a single answer shows is one."""
    broke = HopFailed("peer", "Hm.", code)
    assert judge(broke, absent=False, clock_confirmed=False, tried=0).evidence is seen


def test_a_wrong_date_is_evidence_only_where_another_provider_confirms_our_clock() -> None:
    dated = HopFailed("peer", "Dated wrongly.", ErrorCode.BAD_SIGNATURE, How.DATED)
    assert judge(dated, absent=False, clock_confirmed=False, tried=0).evidence is None
    assert judge(dated, absent=False, clock_confirmed=True, tried=0).evidence is Evidence.REFUSAL


def test_other_chances_end() -> None:
    for code in ErrorCode:
        found = judge(refused(code), absent=False, clock_confirmed=False, tried=MOST_TRIES)
        assert found.then in (Then.LEAVE, Then.REST)
    moved = judge(refused(ErrorCode.PRICE_TOO_LOW), absent=False, clock_confirmed=False, tried=1)
    assert moved.evidence is Evidence.REFUSAL, "it does not stand by the price that it named when asked"


def test_a_failure_is_told_in_one_word_its_code_or_how_it_ended() -> None:
    assert refused(ErrorCode.FULL).word == "full"
    assert refused(ErrorCode.INTERNAL).word == "internal"
    assert HopFailed("peer", "Lost.", how=How.LOST).word == "lost"
    assert HopFailed("peer", "Late.", ErrorCode.TIMEOUT, How.LOST).word == "timeout"
    assert HopFailed("peer", "Old.", how=How.EXPIRED).word == "expired"
