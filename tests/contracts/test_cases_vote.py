import ape
import pytest

from tests.contracts.conftest import events
from tests.contracts.court import COMMITTING, GUILTY, INNOCENT, REVEALING, TERMS, UNSERVED, Court, commitment
from tests.contracts.kinds import Account


def test_votes_are_committed_and_revealed(court: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    receipts = court.commit(case, members, GUILTY, INNOCENT, UNSERVED, fingerprint=b"f" * 32)
    assert [events(receipt) for receipt in receipts] == [
        [("Committed", {"caseId": case, "member": member.address})] for member in members
    ]
    shown = court.case(case)
    assert (shown.phase, shown.committed, shown.revealed) == (REVEALING, 3, 0)
    assert shown.deadline == receipts[-1].timestamp + TERMS["revealWindow"]
    receipts = court.reveal(case, members, GUILTY, INNOCENT, UNSERVED, fingerprint=b"f" * 32)
    for receipt, member, vote in zip(receipts, members, (GUILTY, INNOCENT, UNSERVED), strict=True):
        said = {"caseId": case, "member": member.address, "vote": vote, "fingerprint": b"f" * 32}
        assert events(receipt) == [("Revealed", said)]
    shown = court.case(case)
    assert (shown.revealed, shown.guilty, shown.innocent, shown.unserved) == (3, 1, 1, 1)


def test_seats_are_those_of_their_members(
    court: Court, drawn: tuple[int, list[Account]], stranger: Account
) -> None:
    case, members = drawn
    outsider = next(key for key in court.bench if key not in members)
    vote = commitment(case, members[0], GUILTY)
    for sender, seat in (
        (stranger, 0), (outsider, 0), (members[0], 1), (members[0], 3), (members[0], 15), (members[0], 255),
        (court.boss[members[0].address], 0),
    ):  # fmt: skip
        with ape.reverts(court.cases.NotMember):
            court.cases.commit(case, seat, vote, sender=sender)
    court.cases.commit(case, 0, vote, sender=members[0])
    with ape.reverts(court.cases.NotMember):  # a vote cannot be changed
        court.cases.commit(case, 0, commitment(case, members[0], INNOCENT), sender=members[0])
    with ape.reverts(court.cases.WrongPhase):
        court.cases.commit(case + 1, 0, vote, sender=members[0])


def test_a_seat_cannot_be_passed_on(
    court: Court, drawn: tuple[int, list[Account]], stranger: Account
) -> None:
    """A commitment that looks like an address does not make that address a member."""
    case, members = drawn
    address = int(stranger.address, 16).to_bytes(32)
    court.cases.commit(case, 0, address, sender=members[0])
    with ape.reverts(court.cases.NotMember):
        court.cases.commit(case, 0, commitment(case, stranger, GUILTY), sender=stranger)


def test_a_commitment_is_bound_to_everything_in_it(court: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    court.commit(case, members, GUILTY, GUILTY, GUILTY)
    good = {"caseId": case, "seat": 0, "vote": GUILTY, "fingerprint": bytes(32), "salt": b"s" * 32}
    for change in (
        {"seat": 1}, {"seat": 3}, {"seat": 255}, {"vote": INNOCENT}, {"fingerprint": b"f" * 32}, {"salt": bytes(32)},
    ):  # fmt: skip
        with ape.reverts(court.cases.BadReveal):
            court.cases.reveal(*(good | change).values(), sender=members[0])
            pytest.fail(str(change))
    with ape.reverts(court.cases.BadReveal):
        court.cases.reveal(*good.values(), sender=members[1])
    court.cases.reveal(*good.values(), sender=members[0])
    with ape.reverts(court.cases.BadReveal):  # once
        court.cases.reveal(*good.values(), sender=members[0])


def test_a_copied_commitment_cannot_be_revealed(court: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    copied = commitment(case, members[0], GUILTY)
    for seat, member in enumerate(members):
        court.cases.commit(case, seat, copied, sender=member)
    court.reveal(case, members, GUILTY)
    for seat in (1, 2):
        with ape.reverts(court.cases.BadReveal):
            court.cases.reveal(case, seat, GUILTY, bytes(32), b"s" * 32, sender=members[seat])


def test_a_commitment_of_another_case_cannot_be_revealed(
    court: Court, drawn: tuple[int, list[Account]]
) -> None:
    case, members = drawn
    court.cases.commit(case, 0, commitment(case + 1, members[0], GUILTY), sender=members[0])
    court.wait_for(case)
    with ape.reverts(court.cases.BadReveal):
        court.cases.reveal(case, 0, GUILTY, bytes(32), b"s" * 32, sender=members[0])


@pytest.mark.parametrize("vote", [0, 5, 255])
def test_there_are_four_votes(court: Court, drawn: tuple[int, list[Account]], vote: int) -> None:
    case, members = drawn
    court.commit(case, members, vote)
    court.wait_for(case)
    with ape.reverts(court.cases.BadVote, error_inputs={"vote": vote}):
        court.reveal(case, members, vote)


def test_committing_ends(court: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    deadline = court.case(case).deadline
    court.at(deadline)
    court.commit(case, members, GUILTY)
    court.at(deadline + 1)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": COMMITTING, "deadline": deadline}):
        court.cases.commit(case, 1, commitment(case, members[1], GUILTY), sender=members[1])


def test_nothing_is_revealed_while_others_may_commit(court: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    court.commit(case, members, GUILTY, GUILTY)
    court.at(court.case(case).deadline)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": COMMITTING}):
        court.reveal(case, members, GUILTY)


def test_revealing_ends_after_all_committed(court: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    court.commit(case, members, GUILTY, GUILTY, GUILTY)
    with ape.reverts(court.cases.WrongPhase):
        court.commit(case, members, GUILTY)
    deadline = court.case(case).deadline
    court.at(deadline)
    court.reveal(case, members, GUILTY)
    court.at(deadline + 1)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": REVEALING, "deadline": deadline}):
        court.cases.reveal(case, 1, GUILTY, bytes(32), b"s" * 32, sender=members[1])


def test_revealing_ends_after_the_deadline_to_commit(court: Court, drawn: tuple[int, list[Account]]) -> None:
    case, members = drawn
    court.commit(case, members, GUILTY, GUILTY)
    last = court.case(case).deadline + TERMS["revealWindow"]
    court.wait_for(case)
    court.reveal(case, members, GUILTY)
    assert (court.case(case).phase, court.case(case).deadline) == (REVEALING, last)
    court.at(last + 1)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"deadline": last}):
        court.cases.reveal(case, 1, GUILTY, bytes(32), b"s" * 32, sender=members[1])
