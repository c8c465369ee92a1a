"""Nobody guilty becomes immune: cases of the accused about its own receipt, and cases that decide nothing.

In committees of three, five (the default) and seven.
"""

import ape

from tests.contracts.conftest import DAY, events
from tests.contracts.court import (
    BOND,
    FAULT,
    FEE,
    GREY,
    GUILTY,
    INNOCENT,
    OUTCOMES,
    REWARD,
    STAKE,
    TERMS,
    UNSERVED,
    Court,
)

Votes = list[int | None]


def undecided(court: Court, *kinds: int) -> Votes:
    """One vote less of each kind than would decide, as far as there are seats; the others doubt."""
    seats: int = court.terms.seats
    short = (2 * seats + 2) // 3 - 1
    votes: Votes = [kind for kind in kinds for _ in range(short)]
    return [*votes, *[GREY] * seats][:seats]


def split(court: Court) -> Votes:
    """Evidence for too few: as many guilty votes as decide nothing, and nothing served to the others."""
    return undecided(court, GUILTY, UNSERVED)


def all_of(court: Court, vote: int) -> Votes:
    votes: Votes = [vote]
    return votes * court.terms.seats


def test_c2_a_case_of_the_accused_that_splits_the_committee_keeps_nobody_out(sized: Court) -> None:
    """It costs its bond for each seat that was not served, and the victim's case convicts all the same."""
    court, sybil = sized, sized.accuse()
    arguments = court.signed()
    held = court.token.balanceOf(sybil)
    own, theirs = court.open(*arguments, sender=sybil), court.open(*arguments)
    votes = split(court)
    _, resolved = court.judge(own, *votes)
    forfeited = BOND * votes.count(UNSERVED) // len(votes)
    closing = {
        "caseId": own,
        "outcome": OUTCOMES.index("Inconclusive"),
        "taken": 0,
        "forfeited": forfeited,
    }
    assert ("CaseResolved", closing) in events(resolved)
    assert court.token.balanceOf(sybil) == held - forfeited < held
    court.judge(theirs, *all_of(court, GUILTY))
    assert court.outcome(theirs) == "Guilty"
    assert court.stake_of(court.operator) == STAKE - FAULT
    assert court.registry.rewards(court.accuser)[1] == REWARD


def test_c2_an_undecided_case_is_followed_by_another_of_the_same_accuser(sized: Court) -> None:
    court, arguments = sized, sized.signed()
    first = court.open(*arguments)
    court.judge(first, *split(court))
    second = court.open(*arguments)
    court.judge(second, *all_of(court, GREY))
    third = court.open(*arguments)
    court.judge(third, *all_of(court, GUILTY))
    assert [court.outcome(case) for case in (first, second, third)] == [
        "Inconclusive",
        "Inconclusive",
        "Guilty",
    ]
    assert court.stake_of(court.operator) == STAKE - FAULT


def test_c2_votes_that_nothing_was_served_acquit_nobody(sized: Court) -> None:
    """The accused serves only two members of its own: with the unserved votes of the others that is no innocence."""
    court, sybil = sized, sized.accuse()
    arguments = court.signed()
    case = court.open(*arguments, sender=sybil)
    court.judge(case, *undecided(court, UNSERVED, INNOCENT))
    assert court.outcome(case) == "Inconclusive"
    assert court.open(*arguments) == case + 1


def test_c3_the_evidence_outlasts_an_unserved_case(sized: Court) -> None:
    """Its time counts from the end of the accuser's last case, and three cases are all."""
    court, arguments = sized, sized.signed()
    for number in range(3):
        case = court.open(*arguments)
        members = court.draw(case)
        court.commit(case, members, *all_of(court, UNSERVED))
        court.reveal(case, members, *all_of(court, UNSERVED))
        court.resolve(case, members)
        ended = court.case(case).deadline
        assert court.outcome(case) == "Unserved"
        if number < 2:
            snapshot = court.token.provider.make_request("evm_snapshot", [])
            court.at(ended + TERMS["evidenceWindow"] + 1)
            with ape.reverts(court.cases.StaleReceipt, error_inputs={"issued": ended}):
                court.open(*arguments)
            court.token.provider.make_request("evm_revert", [snapshot])
            court.at(ended + TERMS["evidenceWindow"])
    with ape.reverts(court.cases.NoTryLeft, error_inputs={"caseId": case}):
        court.open(*arguments)
    with ape.reverts(court.cases.StaleReceipt):  # for others the receipt's own time counts
        court.open(*arguments, sender=court.accuse())


def test_c3_a_case_that_nobody_closes_makes_the_evidence_last_no_longer(sized: Court) -> None:
    court, arguments = sized, sized.signed()
    case = court.open(*arguments)
    over = court.case(case).deadline
    court.at(over + DAY)
    court.resolve(case)
    assert (court.outcome(case), court.case(case).deadline) == ("Void", over)
    with ape.reverts(court.cases.StaleReceipt):
        court.open(*arguments)


def test_c4_a_twin_receipt_takes_no_place_and_is_proof(sized: Court) -> None:
    """The same rows with another history: its case is another one, and both together are an equivocation."""
    court, stage = sized, sized.stage()
    receipt = court.receipt()
    twin = receipt | {"previous": b"x" * 32, "issued": receipt["issued"] + 1}
    signed = [
        (tuple(stage.values()), tuple(each.values()), court.sign(stage, each)) for each in (receipt, twin)
    ]
    own = court.open(*signed[1], sender=court.accuse())
    theirs = court.open(*signed[0])
    proven = court.proofs.proveEquivocation(
        court.stage_hash(stage), *signed[0][1:], *signed[1][1:], sender=court.accuser
    )
    assert events(proven)[-1][1]["taken"] == FAULT
    members = court.draw(theirs)
    court.commit(theirs, members, *all_of(court, GUILTY))
    court.reveal(theirs, members, *all_of(court, GUILTY))
    court.wait_for(own)  # nobody draws it: all that it does is to take its time
    court.resolve(own)
    court.resolve(theirs, members)
    assert court.outcome(own) == "Void"
    assert court.stake_of(court.operator) == STAKE - 2 * FAULT


def test_c16_who_accuses_itself_meanwhile_takes_no_reward_from_an_earlier_case(sized: Court) -> None:
    """Cases about one stage convict in the order of their opening, and every committee is paid."""
    court, stage, seats = sized, sized.stage(), sized.terms.seats
    sybil = court.accuse()
    theirs, own = (
        court.open(*court.signed(stage, seq=1)),
        court.open(*court.signed(stage, seq=2), sender=sybil),
    )
    benches = {}
    for case in (own, theirs):
        benches[case] = court.draw(case)
        court.commit(case, benches[case], *all_of(court, GUILTY))
        court.reveal(case, benches[case], *all_of(court, GUILTY))
    with ape.reverts(court.cases.EarlierCase, error_inputs={"caseId": theirs}):
        court.resolve(own, benches[own])
    court.resolve(theirs, benches[theirs])
    court.resolve(own, benches[own])
    assert [court.outcome(case) for case in (theirs, own)] == ["Guilty", "Guilty"]
    assert court.registry.rewards(court.accuser)[1] == REWARD
    assert court.registry.rewards(sybil)[1] == 0
    assert court.stake_of(court.operator) == STAKE - FAULT - 2 * FEE * seats
    fees = [court.registry.rewards(court.boss[member.address])[1] for member in benches[own]]
    assert fees == [FEE * (1 + (member in benches[theirs])) for member in benches[own]]


def test_c16_an_earlier_case_that_does_not_convict_leaves_the_reward_to_the_later(sized: Court) -> None:
    court, stage = sized, sized.stage()
    sybil = court.accuse()
    cases = [court.open(*court.signed(stage, seq=seq), sender=sybil) for seq in (1, 2)]
    theirs = court.open(*court.signed(stage, seq=3))
    court.judge(cases[1], *all_of(court, UNSERVED))  # any of them leaves the queue
    court.judge(cases[0], *all_of(court, UNSERVED))
    court.judge(theirs, *all_of(court, GUILTY))
    assert court.registry.rewards(court.accuser)[1] == REWARD
    with ape.reverts(court.cases.AlreadyConvicted):
        court.open(*court.signed(stage, seq=4))
