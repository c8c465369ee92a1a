"""Committees of other sizes than the three seats of the other tests; five are the default."""

import pytest

from tests.contracts.conftest import events
from tests.contracts.court import (
    BOND,
    COMMITTING,
    FAULT,
    FEE,
    GREY,
    GUILTY,
    INNOCENT,
    OUTCOMES,
    REVEALING,
    REWARD,
    SILENCE,
    STAKE,
    TERMS,
    UNSERVED,
    Court,
)
from tests.contracts.kinds import Account, Accounts, Contract, Deploy

TWO_THIRDS = {1: 1, 2: 2, 5: 4, 7: 5}


@pytest.fixture(scope="module", params=[1, 2, 5, 7])
def large(
    request: pytest.FixtureRequest, deploy: Deploy, accounts: Accounts, deployer: Account, token: Contract
) -> Court:
    """A court with so many seats, and one verifier more."""
    seats = request.param
    return Court(deploy, accounts, deployer, token, TERMS | {"seats": seats}, verifiers=seats + 1)


def turnout(court: Court, vote: int, times: int, others: int | None) -> list[int | None]:
    """So many seats vote so, the rest of them otherwise."""
    seats: int = court.terms.seats
    return [vote if seat < times else others for seat in range(seats)]


@pytest.mark.parametrize(
    ("vote", "ending"), [(GUILTY, "Guilty"), (INNOCENT, "Innocent"), (UNSERVED, "Unserved")]
)
def test_two_thirds_of_all_seats_decide_and_one_less_does_not(large: Court, vote: int, ending: str) -> None:
    enough = TWO_THIRDS[large.terms.seats]
    decided, undecided, silent = large.open(), large.open(), large.open()
    large.judge(decided, *turnout(large, vote, enough, GREY))
    large.judge(undecided, *turnout(large, vote, enough - 1, GREY))
    large.judge(silent, *turnout(large, vote, enough - 1, None))  # who is silent does not lower the bar
    endings = [large.outcome(case) for case in (decided, undecided, silent)]
    assert endings == [ending, "Inconclusive", "Inconclusive"]


def test_everybody_sits_once_and_has_to_commit(large: Court) -> None:
    case, seats = large.open(), large.terms.seats
    members = large.draw(case)
    assert len({*members}) == seats
    large.commit(case, members, *turnout(large, GREY, seats - 1, None))
    assert (large.case(case).phase, large.case(case).committed) == (COMMITTING, seats - 1)
    large.commit(case, members, *[None] * (seats - 1), GREY)
    assert (large.case(case).phase, large.case(case).committed) == (REVEALING, seats)


def test_a_fault_costs_the_same_whatever_the_size_of_the_committee(large: Court) -> None:
    supply = large.token.totalSupply()
    members, resolved = large.judge(large.open(), *turnout(large, GUILTY, large.terms.seats, GUILTY))
    assert next(said["taken"] for name, said in events(resolved) if name == "CaseResolved") == FAULT
    assert large.stake_of(large.operator) == STAKE - FAULT
    assert large.registry.rewards(large.accuser)[1] == REWARD
    assert {large.registry.rewards(large.boss[member.address])[1] for member in members} == {FEE}
    assert large.token.totalSupply() == supply - FAULT + REWARD + len(members) * FEE
    assert large.held() == 0


def test_those_who_were_right_share_half_a_bond_and_the_silent_pay(large: Court) -> None:
    enough = TWO_THIRDS[large.terms.seats]
    case = large.open()
    members, resolved = large.judge(case, *turnout(large, INNOCENT, enough, None))
    closing = {"caseId": case, "outcome": OUTCOMES.index("Innocent"), "taken": 0, "forfeited": BOND}
    assert ("CaseResolved", closing) in events(resolved)
    bosses = [large.boss[member.address] for member in members]
    share = BOND // 2 // enough
    credits = [large.cases.credits(boss)[1] for boss in bosses]
    assert credits == turnout(large, share, enough, 0)
    assert [large.stake_of(boss) for boss in bosses] == turnout(large, STAKE, enough, STAKE - SILENCE)
    assert large.held() == share * enough
