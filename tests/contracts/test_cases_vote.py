"""Votes in committees of three, five (the default) and seven."""

import ape
import pytest

from tests.contracts.conftest import events
from tests.contracts.court import (
    COMMITTING,
    GREY,
    GUILTY,
    INNOCENT,
    REVEALING,
    TERMS,
    UNSERVED,
    Court,
    commitment,
)
from tests.contracts.kinds import Account


@pytest.fixture
def drawn(sized: Court) -> tuple[int, list[Account]]:
    """A case and its committee."""
    case = sized.open()
    return case, sized.draw(case)


def test_votes_are_committed_and_revealed(sized: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    seats = sized.terms.seats
    votes = [GUILTY, INNOCENT, UNSERVED, *[GREY] * seats][:seats]
    receipts = sized.commit(case, members, *votes, fingerprint=b"f" * 32)
    assert [events(receipt) for receipt in receipts] == [
        [("Committed", {"caseId": case, "member": member.address})] for member in members
    ]
    shown = sized.case(case)
    assert (shown.phase, shown.committed, shown.revealed) == (REVEALING, seats, 0)
    assert shown.deadline == receipts[-1].timestamp + TERMS["revealWindow"]
    receipts = sized.reveal(case, members, *votes, fingerprint=b"f" * 32)
    for receipt, member, vote in zip(receipts, members, votes, strict=True):
        said = {"caseId": case, "member": member.address, "vote": vote, "fingerprint": b"f" * 32}
        assert events(receipt) == [("Revealed", said)]
    shown = sized.case(case)
    assert (shown.revealed, shown.guilty, shown.innocent, shown.unserved) == (seats, 1, 1, 1)


def test_seats_are_those_of_their_members(
    sized: Court, drawn: tuple[int, list[Account]], stranger: Account
) -> None:
    case, members = drawn
    outsider = next(key for key in sized.bench if key not in members)
    vote = commitment(case, members[0], GUILTY)
    for sender, seat in (
        (stranger, 0), (outsider, 0), (members[0], 1), (members[0], len(members)), (members[0], 15), (members[0], 255),
        (sized.boss[members[0].address], 0),
    ):  # fmt: skip
        with ape.reverts(sized.cases.NotMember):
            sized.cases.commit(case, seat, vote, sender=sender)
    sized.cases.commit(case, 0, vote, sender=members[0])
    with ape.reverts(sized.cases.NotMember):  # a vote cannot be changed
        sized.cases.commit(case, 0, commitment(case, members[0], INNOCENT), sender=members[0])
    with ape.reverts(sized.cases.WrongPhase):
        sized.cases.commit(case + 1, 0, vote, sender=members[0])


def test_a_seat_cannot_be_passed_on(
    sized: Court, drawn: tuple[int, list[Account]], stranger: Account
) -> None:
    """A commitment that looks like an address does not make that address a member."""
    case, members = drawn
    address = int(stranger.address, 16).to_bytes(32)
    sized.cases.commit(case, 0, address, sender=members[0])
    with ape.reverts(sized.cases.NotMember):
        sized.cases.commit(case, 0, commitment(case, stranger, GUILTY), sender=stranger)


def test_a_commitment_is_bound_to_everything_in_it(sized: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    sized.commit(case, members, *[GUILTY] * len(members))
    good = {"caseId": case, "seat": 0, "vote": GUILTY, "fingerprint": bytes(32), "salt": b"s" * 32}
    for change in (
        {"seat": 1}, {"seat": len(members)}, {"seat": 255}, {"vote": INNOCENT}, {"fingerprint": b"f" * 32},
        {"salt": bytes(32)},
    ):  # fmt: skip
        with ape.reverts(sized.cases.BadReveal):
            sized.cases.reveal(*(good | change).values(), sender=members[0])
            pytest.fail(str(change))
    with ape.reverts(sized.cases.BadReveal):
        sized.cases.reveal(*good.values(), sender=members[1])
    sized.cases.reveal(*good.values(), sender=members[0])
    with ape.reverts(sized.cases.BadReveal):  # once
        sized.cases.reveal(*good.values(), sender=members[0])


def test_a_copied_commitment_cannot_be_revealed(sized: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    copied = commitment(case, members[0], GUILTY)
    for seat, member in enumerate(members):
        sized.cases.commit(case, seat, copied, sender=member)
    sized.reveal(case, members, GUILTY)
    for seat in range(1, len(members)):
        with ape.reverts(sized.cases.BadReveal):
            sized.cases.reveal(case, seat, GUILTY, bytes(32), b"s" * 32, sender=members[seat])


def test_a_commitment_of_another_case_cannot_be_revealed(
    sized: Court, drawn: tuple[int, list[Account]]
) -> None:
    case, members = drawn
    sized.cases.commit(case, 0, commitment(case + 1, members[0], GUILTY), sender=members[0])
    sized.wait_for(case)
    with ape.reverts(sized.cases.BadReveal):
        sized.cases.reveal(case, 0, GUILTY, bytes(32), b"s" * 32, sender=members[0])


@pytest.mark.parametrize("vote", [0, 5, 255])
def test_there_are_four_votes(sized: Court, drawn: tuple[int, list[Account]], vote: int) -> None:
    case, members = drawn
    sized.commit(case, members, vote)
    sized.wait_for(case)
    with ape.reverts(sized.cases.BadVote, error_inputs={"vote": vote}):
        sized.reveal(case, members, vote)


def test_committing_ends(sized: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    deadline = sized.case(case).deadline
    sized.at(deadline)
    sized.commit(case, members, GUILTY)
    sized.at(deadline + 1)
    with ape.reverts(sized.cases.WrongPhase, error_inputs={"phase": COMMITTING, "deadline": deadline}):
        sized.cases.commit(case, 1, commitment(case, members[1], GUILTY), sender=members[1])


def test_nothing_is_revealed_while_others_may_commit(sized: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    sized.commit(case, members, GUILTY, GUILTY)
    sized.at(sized.case(case).deadline)
    with ape.reverts(sized.cases.WrongPhase, error_inputs={"phase": COMMITTING}):
        sized.reveal(case, members, GUILTY)


def test_revealing_ends_after_all_committed(sized: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    sized.commit(case, members, *[GUILTY] * len(members))
    with ape.reverts(sized.cases.WrongPhase):
        sized.commit(case, members, GUILTY)
    deadline = sized.case(case).deadline
    sized.at(deadline)
    sized.reveal(case, members, GUILTY)
    sized.at(deadline + 1)
    with ape.reverts(sized.cases.WrongPhase, error_inputs={"phase": REVEALING, "deadline": deadline}):
        sized.cases.reveal(case, 1, GUILTY, bytes(32), b"s" * 32, sender=members[1])


def test_revealing_ends_after_the_deadline_to_commit(sized: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    sized.commit(case, members, GUILTY, GUILTY)
    last = sized.case(case).deadline + TERMS["revealWindow"]
    sized.wait_for(case)
    sized.reveal(case, members, GUILTY)
    assert (sized.case(case).phase, sized.case(case).deadline) == (REVEALING, last)
    sized.at(last + 1)
    with ape.reverts(sized.cases.WrongPhase, error_inputs={"deadline": last}):
        sized.cases.reveal(case, 1, GUILTY, bytes(32), b"s" * 32, sender=members[1])
