import ape

from tests.contracts.conftest import DAY, events
from tests.contracts.court import BOND, INNOCENT, Court
from tests.contracts.kinds import Chain


def test_credits_wait_and_are_paid(sized: Court, chain: Chain) -> None:
    court, case, seats = sized, sized.open(), sized.terms.seats
    votes = [INNOCENT] * seats
    members, _ = court.judge(case, *votes)
    boss, share = court.boss[members[0].address], BOND // 2 // seats
    claimable_at = court.now() + 7 * DAY
    court.at(court.now() + DAY)
    chain.mine()
    while sum(tuple(court.cases.credits(boss))[:2]) != 2 * share:  # until it is drawn again
        case = court.open()
        court.judge(case, *votes)
    assert tuple(court.cases.credits(boss)) == (0, 2 * share, claimable_at)
    court.at(claimable_at - 1)
    with ape.reverts(court.cases.CreditsLocked, error_inputs={"claimableAt": claimable_at}):
        court.cases.claimCredits(sender=boss)
    for at in (claimable_at, claimable_at + 7 * DAY):  # the later credit held the earlier one up no longer
        court.at(at)
        held, locked = court.token.balanceOf(boss), court.held()
        claimed = court.cases.claimCredits(sender=boss)
        assert events(claimed)[0] == ("CreditsClaimed", {"operator": boss.address, "amount": share})
        assert (court.token.balanceOf(boss), court.held()) == (held + share, locked - share)
    for sender in (boss, members[0]):
        with ape.reverts(court.cases.NothingToClaim):
            court.cases.claimCredits(sender=sender)
