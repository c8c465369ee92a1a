"""Drawing committees: most of it for those of three, five (the default) and seven."""

from collections import Counter

import ape
import pytest

from hypercluster.market.money.signing import NOBODY
from tests.contracts.conftest import UNLIMITED, events
from tests.contracts.court import BOND, COMMITTING, DRAWING, STAKE, TERMS, Court, header_of
from tests.contracts.kinds import Account, Accounts, Chain, Contract, Deploy


def test_a_committee_is_drawn(sized: Court, stranger: Account) -> None:
    court, case = sized, sized.open()
    drawn = court.drawing(case, sender=stranger)
    members = drawn.return_value
    deadline = drawn.timestamp + TERMS["commitWindow"]
    assert events(drawn) == [
        ("CommitteeDrawn", {"caseId": case, "members": members, "commitDeadline": deadline})
    ]
    assert len({*members} & {key.address for key in court.bench}) == court.terms.seats
    assert (court.case(case).phase, court.case(case).deadline) == (COMMITTING, deadline)
    for other in (case, case + 1):
        with ape.reverts(court.cases.WrongPhase):
            court.cases.draw(other, b"", sender=stranger)


def draws(court: Court, times: int, sender: Account | None = None) -> list[list[str]]:
    """Committees of so many cases, each drawn by the randomness of its own block."""
    court.token.transfer(sender or court.accuser, times * BOND, sender=court.deployer)
    cases = [court.open(*court.signed(), sender=sender or court.accuser) for _ in range(times)]
    return [court.drawing(case).return_value for case in cases]


def test_the_randomness_is_that_of_a_block_that_was_settled_before(
    sized: Court, chain: Chain, stranger: Account
) -> None:
    """C13: who reverts draws, or waits with one, gets the same committee; and nobody else's header is taken for it."""
    court, case = sized, sized.open()
    block = court.case(case).drawBlock
    snapshot, members = chain.snapshot(), []
    for wait in (0, 1, 7, 100):
        chain.mine(wait)
        with ape.reverts(court.cases.WrongHeader, error_inputs={"drawBlock": block}):
            court.cases.draw(case, header_of(court.token, block - 1), sender=stranger)
        for wrong in (b"", header_of(court.token, block)[:-1]):
            with ape.reverts(court.cases.WrongHeader):
                court.cases.draw(case, wrong, sender=stranger)
        members.append(court.drawing(case).return_value)
        chain.restore(snapshot)
        snapshot = chain.snapshot()
    assert members == [members[0]] * 4


def test_a_draw_waits_for_its_block(slow_draws: Court, chain: Chain) -> None:
    """C13: nobody knows the committee when the case is opened."""
    court, case = slow_draws, slow_draws.open()
    block = court.case(case).drawBlock
    assert block == court.case(case).openedBlock + 4
    chain.mine(3)
    with ape.reverts(court.cases.TooEarly, error_inputs={"drawBlock": block}):
        court.cases.draw(case, b"", sender=court.deployer)  # in the block itself
    assert len(court.draw(case)) == court.terms.seats


@pytest.fixture(scope="module")
def slow_draws(deploy: Deploy, accounts: Accounts, deployer: Account, token: Contract) -> Court:
    """A court whose committees are drawn four blocks after the opening."""
    return Court(deploy, accounts, deployer, token, TERMS | {"drawDelay": 4})


def test_a_block_that_is_too_old_is_replaced(slow_draws: Court, chain: Chain) -> None:
    """Its hash is known for 256 blocks, or 8191 where there is the contract of EIP-2935."""
    court, case = slow_draws, slow_draws.open()
    block = court.case(case).drawBlock
    chain.mine(300)
    snapshot = chain.snapshot()
    assert len(court.draw(case)) == court.terms.seats
    chain.restore(snapshot)
    court.token.provider.make_request("anvil_setCode", ["0x0000F90827F1C53a10cb7A02335B175320002935", "0x"])
    moved = court.drawing(case)
    new = moved.block_number + 4
    assert events(moved) == [("DrawGoesOn", {"caseId": case, "found": 0, "drawBlock": new})]
    assert (court.case(case).phase, court.case(case).drawBlock) == (DRAWING, new) != (DRAWING, block)
    with ape.reverts(court.cases.TooEarly, error_inputs={"drawBlock": new}):
        court.cases.draw(case, b"", sender=court.deployer)
    chain.mine(4)
    assert len(court.draw(case)) == court.terms.seats


def test_draws_are_spread_evenly(court: Court) -> None:
    """Of 24 committees of three from six verifiers each sits in 12 on the average; 4.5 sigma are 11."""
    seats = Counter(member for members in draws(court, 24) for member in members)
    assert len(seats) == len(court.bench)
    assert all(1 <= times <= 23 for times in seats.values()), seats


def test_the_list_cannot_be_arranged_after_the_opening(sized: Court, chain: Chain) -> None:
    """Who leaves takes itself out, and moves nobody else; who comes back, or comes new, has to wait."""
    court, case = sized, sized.open()
    snapshot = chain.snapshot()
    before = court.drawing(case).return_value
    for leaver in (court.bench[0], court.bench[3]):
        chain.restore(snapshot)
        snapshot = chain.snapshot()
        court.cases.delist(leaver, sender=leaver)
        # The next number of the same sequence fills the seat; it may come from anywhere behind.
        left = chain.snapshot()
        after = court.drawing(case).return_value
        stayed = [member for member in before if member != leaver.address]
        assert after[: len(stayed)] == stayed
        chain.restore(left)
        court.cases.enlist(sender=leaver)
        new = court.verifier()
        assert not {*court.drawing(case).return_value} & {leaver.address, new.address}


def test_stake_that_comes_after_the_opening_buys_no_seat(sized: Court) -> None:
    """C12: a place that is kept without stake cannot be filled with it once the randomness is known."""
    court, poor = sized, sized.bench[0]
    boss = court.boss[poor.address]
    case, later = court.open(), None
    court.registry.unstake(STAKE, sender=boss)
    court.token.transfer(boss, STAKE, sender=court.deployer)
    court.at(court.now() + 1)
    court.registry.stake(STAKE, sender=boss)
    assert court.registry.isEligible(poor)
    drawn = court.drawing(case).return_value
    assert poor.address not in drawn
    for _ in range(40):
        later = court.drawing(court.open()).return_value
        if poor.address in later:
            break
    assert poor.address in (later or [])


def test_parties_are_never_drawn(court: Court) -> None:
    """The accused operator's other key, the accuser's key, and keys of an operator who accuses."""
    own, friend = court.account(), court.bench[0]
    court.authorize(own, court.operator)
    court.cases.enlist(sender=own)
    boss = court.boss[friend.address]
    for accuser in (friend, boss, court.accuser):
        court.token.approve(court.cases, UNLIMITED, sender=accuser)
        drawn = {member for members in draws(court, 20, accuser) for member in members}
        assert own.address not in drawn
        assert (friend.address in drawn) == (accuser == court.accuser)


def test_a_second_key_of_the_accuser_is_not_drawn(court: Court) -> None:
    """The accuser is a node key of an operator whose other key judges."""
    accuser, judge = court.account(), court.bench[1]
    court.authorize(accuser, court.boss[judge.address])
    court.registry.revoke(accuser, sender=accuser)  # which hides nothing
    court.token.approve(court.cases, UNLIMITED, sender=accuser)
    drawn = {member for members in draws(court, 20, accuser) for member in members}
    assert drawn == {key.address for key in court.bench if key != judge}


def test_only_the_eligible_are_drawn_and_all_of_them_are_found(sized: Court) -> None:
    court, seats = sized, sized.terms.seats
    case, gone = court.open(), len(court.bench) - seats
    for key in court.bench[:gone]:
        court.registry.unstake(STAKE, sender=court.boss[key.address])
    court.registry.revoke(court.bench[gone], sender=court.bench[gone])
    with ape.reverts(court.cases.NotEnoughVerifiers, error_inputs={"found": seats - 1}):
        court.draw(case)
    court.registry.cancelUnstake(sender=court.boss[court.bench[0].address])
    assert {*court.draw(case)} == {court.bench[0], *court.bench[gone + 1 :]}


def test_who_is_found_not_to_be_eligible_leaves_the_list(court: Court) -> None:
    """C12: a draw comes across it once, and the next one does not."""
    poor = court.bench[0]
    court.registry.unstake(STAKE, sender=court.boss[poor.address])
    for _ in range(60):
        drawn = court.drawing(court.open())
        if not court.cases.isEnlisted(poor):
            break
    left = {"verifier": poor.address, "operator": court.boss[poor.address].address}
    assert events(drawn)[0] == ("Delisted", left)
    assert court.cases.verifierAt(0) == NOBODY


def test_a_draw_has_its_time(court: Court) -> None:
    case, late = court.open(), court.open()
    court.at(court.case(case).deadline)
    court.draw(case)
    court.wait_for(late)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": DRAWING}):
        court.draw(late)
