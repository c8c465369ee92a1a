"""What a case pays, and that honest work is the best reply under the default terms."""

from itertools import combinations_with_replacement
from math import comb

import pytest

from hypercluster.market.chain.disputes.terms import DisputeTerms
from hypercluster.market.economics.court import (
    Outcome,
    Vote,
    captured,
    escaped,
    expected_vote,
    false_accusation,
    majority,
    payoffs,
    seated,
    thrown,
)
from hypercluster.market.money.units import HCT

TERMS = DisputeTerms()
INN, G, GREY, U, SILENT = Vote.INNOCENT, Vote.GUILTY, Vote.GREY, Vote.UNSERVED, Vote.SILENT
WORK = 0.05


@pytest.mark.parametrize(
    ("votes", "outcome", "accuser", "members"),
    [
        ([G] * 5, Outcome.GUILTY, 10, [2] * 5),
        ([G] * 4 + [INN], Outcome.GUILTY, 10, [2] * 4 + [-5]),
        ([INN] * 4 + [G], Outcome.INNOCENT, -20, [2.5] * 4 + [-5]),
        ([INN] * 4 + [SILENT], Outcome.INNOCENT, -20, [2.5] * 4 + [-5]),
        ([U] * 5, Outcome.UNSERVED, -20, [0.4] * 5),
        ([U] * 4 + [INN], Outcome.UNSERVED, -20, [0.4] * 4 + [2]),
        ([G] * 3 + [U] * 2, Outcome.INCONCLUSIVE, -8, [3.2 / 3] * 3 + [0.4] * 2),
        ([G] * 2 + [INN] * 3, Outcome.INCONCLUSIVE, 0, [0] * 5),
        ([GREY] * 2 + [G] * 3, Outcome.INCONCLUSIVE, 0, [0] * 5),
    ],
)
def test_a_case_pays(votes: list[Vote], outcome: Outcome, accuser: float, members: list[float]) -> None:
    paid = payoffs(TERMS, votes)
    assert paid.outcome is outcome
    assert paid.accuser == accuser * HCT
    assert [pay / HCT for pay in paid.members] == pytest.approx(members)
    assert paid.accused == (-TERMS.fault if outcome is Outcome.GUILTY else 0)


@pytest.mark.parametrize("seats", [3, 5, 7])
def test_no_case_creates_money_and_at_least_half_of_what_is_taken_is_burned(seats: int) -> None:
    terms = DisputeTerms(seats=seats)
    for votes in combinations_with_replacement(Vote, seats):
        paid = payoffs(terms, votes)
        taken = -min(0, paid.accuser) - paid.accused
        given = max(0, paid.accuser) + sum(pay for pay in paid.members if pay > 0)
        assert 2 * given <= taken


@pytest.mark.parametrize("seats", [3, 5, 7])
@pytest.mark.parametrize("lazy", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("truth", [G, INN])
def test_c14_unserved_without_work_earns_less_than_judging(seats: int, lazy: float, truth: Vote) -> None:
    terms, others = DisputeTerms(seats=seats), {truth: 1 - lazy, U: lazy}
    honest = expected_vote(terms, truth, others) - WORK
    for vote in set(Vote) - {truth}:
        assert expected_vote(terms, vote, others) < honest


def test_c14_a_lazy_pass_pays_only_where_hardly_anybody_accused_is_guilty() -> None:
    def earned(vote_guilty: Vote, vote_innocent: Vote, share: float) -> float:
        return share * expected_vote(TERMS, vote_guilty, {G: 1.0}) + (1 - share) * expected_vote(
            TERMS, vote_innocent, {INN: 1.0}
        )

    # It saves the work and loses a fee and a fine where the accused is guilty.
    even = WORK / 7
    assert earned(INN, INN, even * 1.01) < earned(G, INN, even * 1.01) - WORK
    assert earned(INN, INN, even * 0.99) > earned(G, INN, even * 0.99) - WORK


@pytest.mark.parametrize("seats", [3, 5, 7])
def test_two_thirds_decide(seats: int) -> None:
    terms = DisputeTerms(seats=seats)
    need = majority(seats)
    assert payoffs(terms, [G] * need + [INN] * (seats - need)).outcome is Outcome.GUILTY
    assert payoffs(terms, [G] * (need - 1) + [GREY] * (seats - need + 1)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("seats", "need"), [(3, 2), (5, 4), (7, 5)])
def test_c13_a_coalition_captures_a_case_as_often_as_the_formula_says(seats: int, need: int) -> None:
    share = 0.3
    once = sum(comb(seats, own) * share**own * (1 - share) ** (seats - own) for own in range(need, seats + 1))
    assert sum(seated(share, seats)) == pytest.approx(1)
    assert captured(share, seats) == pytest.approx(once)
    assert captured(share, seats, blocks=2) == pytest.approx(1 - (1 - once) ** 3)


def test_accusing_honest_work_does_not_pay_below_half_of_the_list() -> None:
    assert all(false_accusation(TERMS, share / 100) < 0 for share in range(50))
    for seats in (3, 7):
        assert all(false_accusation(DisputeTerms(seats=seats), share / 100) < 0 for share in range(49))
    assert false_accusation(TERMS, 0.55) > 0
    # Blocks of its own let a coalition wait for a draw that it likes.
    assert false_accusation(TERMS, 0.3, blocks=3) < 0 < false_accusation(TERMS, 0.4, blocks=3)


def test_a_coalition_saves_a_cheat_rarely_where_the_accuser_tries_again() -> None:
    assert escaped(TERMS, 0.1) < 0.001
    assert escaped(TERMS, 0.3) < escaped(TERMS, 0.3, tries=1) < 0.5


def test_who_may_throw_again_takes_the_better_of_what_it_sees_and_what_it_expects() -> None:
    assert thrown([0, 10], [0.5, 0.5], 0) == 5
    assert thrown([0, 10], [0.5, 0.5], 1) == 7.5
