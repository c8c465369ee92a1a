"""How cases end, in committees of three, five (the default) and seven."""

import ape
import pytest

from tests.contracts.conftest import DAY, HCT, events
from tests.contracts.court import (
    BOND,
    CLOSED,
    COMMITTING,
    DRAWING,
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
    UNSERVED,
    Court,
)
from tests.contracts.kinds import Account, Sleep


@pytest.fixture
def sized_drawn(sized: Court) -> tuple[int, list[Account]]:
    """A case and its committee."""
    case = sized.open()
    return case, sized.draw(case)


def all_of(court: Court, vote: int) -> list[int]:
    """That vote of every seat."""
    return [vote] * court.terms.seats


def test_guilty(sized: Court) -> None:
    court, seats, stage = sized, sized.terms.seats, sized.stage()
    held, supply = court.token.balanceOf(court.accuser), court.token.totalSupply()
    case = court.open(*court.signed(stage))
    votes = [GUILTY, INNOCENT, *[GUILTY] * (seats - 2)]
    members, resolved = court.judge(case, *votes)
    closing = {"caseId": case, "outcome": OUTCOMES.index("Guilty"), "taken": FAULT, "forfeited": 0}
    assert ("CaseResolved", closing) in events(resolved)
    shown = court.case(case)
    assert (shown.phase, shown.bond, court.outcome(case)) == (CLOSED, 0, "Guilty")
    assert court.token.balanceOf(court.accuser) == held
    assert court.held() == 0
    assert court.stake_of(court.operator) == STAKE - FAULT
    claimable = resolved.timestamp + 7 * DAY
    assert tuple(court.registry.rewards(court.accuser)) == (0, REWARD, claimable)
    rewards = [tuple(court.registry.rewards(court.boss[member.address])) for member in members]
    assert rewards == [(0, FEE, claimable) if vote == GUILTY else (0, 0, 0) for vote in votes]
    assert court.token.totalSupply() == supply - FAULT + REWARD + (seats - 1) * FEE - SILENCE
    stakes = [court.stake_of(court.boss[member.address]) for member in members]
    assert stakes == [STAKE, STAKE - SILENCE, *[STAKE] * (seats - 2)]  # C14: the second said the contrary
    assert court.cases.isConvicted(court.node, court.stage_hash(stage))


IDLE = BOND // 10 // 3
"""What a vote for unserved earns in a committee of three."""


@pytest.mark.parametrize(
    ("votes", "ending", "forfeited", "credits"),
    [
        ((INNOCENT, INNOCENT, INNOCENT), "Innocent", BOND, (BOND // 6, BOND // 6, BOND // 6)),
        ((INNOCENT, GUILTY, INNOCENT), "Innocent", BOND, (BOND // 4, 0, BOND // 4)),
        ((INNOCENT, UNSERVED, INNOCENT), "Innocent", BOND, (BOND // 4, 0, BOND // 4)),
        ((INNOCENT, UNSERVED, GREY), "Inconclusive", BOND // 3, (BOND // 3 // 2 - IDLE, IDLE, 0)),
        ((GUILTY, UNSERVED, GREY), "Inconclusive", BOND // 3, (BOND // 3 // 2 - IDLE, IDLE, 0)),
        ((UNSERVED, INNOCENT, UNSERVED), "Unserved", BOND, (IDLE, BOND // 6, IDLE)),
        ((UNSERVED, UNSERVED, GUILTY), "Unserved", BOND, (IDLE, IDLE, BOND // 6)),
        ((UNSERVED, UNSERVED, UNSERVED), "Unserved", BOND, (IDLE, IDLE, IDLE)),
        ((GREY, GREY, GREY), "Inconclusive", 0, (0, 0, 0)),
        ((GUILTY, INNOCENT, GREY), "Inconclusive", 0, (0, 0, 0)),
    ],
)
def test_what_a_bond_is_for(
    court: Court, votes: tuple[int, ...], ending: str, forfeited: int, credits: tuple[int, ...]
) -> None:
    """C14: a vote that nothing was served earns a fraction of one that was worked for, and who judged an undecided case
    is paid by the accuser who served only some. Half of what is forfeited is burned. Five and seven seats are compared
    with the economics in test_cases_payoffs."""
    held, supply = court.token.balanceOf(court.accuser), court.token.totalSupply()
    case = court.open()
    members, resolved = court.judge(case, *votes)
    closing = {"caseId": case, "outcome": OUTCOMES.index(ending), "taken": 0, "forfeited": forfeited}
    assert ("CaseResolved", closing) in events(resolved)
    claimable = resolved.timestamp + 7 * DAY
    bosses = [court.boss[member.address] for member in members]
    found = [tuple(court.cases.credits(boss)) for boss in bosses]
    assert found == [(0, credit, claimable if credit else 0) for credit in credits]
    assert sum(credits) <= forfeited // 2
    assert court.held() == sum(credits)
    assert court.token.balanceOf(court.accuser) == held - forfeited
    fine = SILENCE if ending == "Innocent" else 0
    assert [court.stake_of(boss) for boss in bosses] == [
        STAKE - (fine if vote == GUILTY else 0) for vote in votes
    ]
    assert court.token.totalSupply() == supply - forfeited + sum(credits) - votes.count(GUILTY) * fine
    assert court.stake_of(court.operator) == STAKE


def test_a_case_that_nobody_draws_is_void(court: Court, stranger: Account) -> None:
    held, supply = court.token.balanceOf(court.accuser), court.token.totalSupply()
    case = court.open()
    court.at(court.case(case).deadline)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": DRAWING}):
        court.resolve(case)
    court.wait_for(case)
    resolved = court.cases.resolve(case, [], sender=stranger)
    closing = {"caseId": case, "outcome": OUTCOMES.index("Void"), "taken": 0, "forfeited": 0}
    assert events(resolved)[0] == ("CaseResolved", closing)
    assert (court.token.balanceOf(court.accuser), court.token.totalSupply()) == (held, supply)
    assert court.stake_of(court.operator) == STAKE
    for again in (lambda: court.resolve(case), lambda: court.draw(case)):
        with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": CLOSED}):
            again()


def test_void_cases_punish_no_members(court: Court) -> None:
    case = court.open()
    court.wait_for(case)
    court.resolve(case, court.bench[:3])  # what is passed is not looked at
    assert all(court.stake_of(court.boss[key.address]) == STAKE for key in court.bench)


def test_a_committee_that_does_nothing(sized: Court, sized_drawn: tuple[int, list[Account]]) -> None:
    court, (case, members), seats = sized, sized_drawn, sized.terms.seats
    court.at(court.case(case).deadline)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": COMMITTING}):
        court.resolve(case, members)
    supply = court.token.totalSupply()
    court.wait_for(case)  # nobody committed, so nobody is waited for
    court.resolve(case, members)
    assert court.outcome(case) == "Inconclusive"
    assert [court.stake_of(court.boss[member.address]) for member in members] == [STAKE - SILENCE] * seats
    assert court.token.totalSupply() == supply - seats * SILENCE  # all burned
    assert court.held() == 0


def test_members_who_stay_silent_pay(sized: Court, sized_drawn: tuple[int, list[Account]]) -> None:
    """One reveals, one commits and does not reveal, the others do not commit."""
    court, (case, members) = sized, sized_drawn
    court.commit(case, members, GUILTY, GUILTY)
    court.wait_for(case)
    court.reveal(case, members, GUILTY)
    with ape.reverts(court.cases.WrongPhase):
        court.resolve(case, members)
    court.wait_for(case)
    court.resolve(case, members)
    assert court.outcome(case) == "Inconclusive"
    stakes = [court.stake_of(court.boss[member.address]) for member in members]
    assert stakes == [STAKE, *[STAKE - SILENCE] * (len(members) - 1)]


@pytest.mark.parametrize("votes", [(GUILTY, GUILTY, None), (INNOCENT, None, INNOCENT)])
def test_two_thirds_decide_without_the_third(court: Court, votes: tuple[int, int | None, int | None]) -> None:
    case = court.open()
    members, _ = court.judge(case, *votes)
    assert court.outcome(case) == {GUILTY: "Guilty", INNOCENT: "Innocent"}[votes[0]]
    silent = court.boss[members[votes.index(None)].address]
    assert court.stake_of(silent) == STAKE - SILENCE
    assert court.cases.credits(silent)[1] == court.registry.rewards(silent)[1] == 0


def test_all_votes_close_a_case_at_once(sized: Court, sized_drawn: tuple[int, list[Account]]) -> None:
    court, (case, members), last = sized, sized_drawn, sized.terms.seats - 1
    court.commit(case, members, *all_of(court, GREY))
    court.reveal(case, members, *[GREY] * last)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": REVEALING}):
        court.resolve(case, members)
    court.cases.reveal(case, last, GREY, bytes(32), b"s" * 32, sender=members[last])
    court.resolve(case, members)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": CLOSED}):
        court.resolve(case, members)


def test_the_members_are_those_that_were_drawn(sized: Court, sized_drawn: tuple[int, list[Account]]) -> None:
    court, (case, members) = sized, sized_drawn
    court.commit(case, members, *all_of(court, GUILTY))
    court.reveal(case, members, *all_of(court, GUILTY))
    outsider = next(key for key in court.bench if key not in members)
    for wrong in ([], members[:-1], [*members, outsider], members[::-1], [outsider, *members[1:]]):
        with ape.reverts(court.cases.WrongMembers):
            court.resolve(case, wrong)
    court.resolve(case, members)


@pytest.mark.parametrize("rest", [0, 1, 2, 9, 3 * HCT, FAULT - 1, FAULT])
def test_a_short_stake_does_not_keep_a_case_open(sized: Court, rest: int) -> None:
    """What is left of the stake when the verdict comes: the accuser's part comes first, half is burned."""
    court, case = sized, sized.open()
    members = court.draw(case)
    court.commit(case, members, *all_of(court, GUILTY))
    court.reveal(case, members, *all_of(court, GUILTY))
    court.registry.unstake(STAKE - rest, sender=court.operator)
    court.at(court.now() + 8 * DAY)
    court.registry.withdraw(sender=court.operator)
    supply = court.token.totalSupply()
    resolved = court.resolve(case, members)
    closing = next(said for name, said in events(resolved) if name == "CaseResolved")
    assert (closing["taken"], court.stake_of(court.operator)) == (rest, 0)
    first = min(rest, FAULT - len(members) * 2 * FEE)
    expected, left = [min(REWARD, first // 2)], rest - first
    for _ in members:
        piece = min(left, 2 * FEE)
        expected.append(min(FEE, piece // 2))
        left -= piece
    bosses = [court.boss[member.address] for member in members]
    assert [court.registry.rewards(who)[1] for who in (court.accuser, *bosses)] == expected
    assert court.token.totalSupply() == supply - rest + sum(expected)
    assert court.held() == 0


def test_silent_members_without_stake_do_not_keep_a_case_open(
    sized: Court, sized_drawn: tuple[int, list[Account]], sleep: Sleep
) -> None:
    court, (case, members) = sized, sized_drawn
    for member in members:
        court.registry.unstake(STAKE, sender=court.boss[member.address])
        court.registry.revoke(member, sender=member)
    sleep(8 * DAY)
    court.registry.withdraw(sender=court.boss[members[0].address])
    court.resolve(case, members)
    stakes = [court.stake_of(court.boss[member.address]) for member in members]
    assert stakes == [0, *[STAKE - SILENCE] * (len(members) - 1)]


def test_leaving_does_not_help_the_accused(court: Court, sleep: Sleep) -> None:
    """It revokes its key and unstakes at once; the stake thaws until after the verdict."""
    arguments = court.signed()
    court.registry.revoke(court.node, sender=court.node)
    court.registry.unstake(STAKE, sender=court.operator)
    case = court.open(*arguments)
    court.judge(case, GUILTY, GUILTY, GUILTY)
    assert tuple(court.registry.stakes(court.operator))[:2] == (0, STAKE - FAULT)
