import ape

from tests.contracts.conftest import DAY, events
from tests.contracts.court import BOND, INNOCENT, Court
from tests.contracts.kinds import Chain


def test_credits_wait_and_are_paid(court: Court, chain: Chain) -> None:
    case = court.open()
    members, _ = court.judge(case, INNOCENT, INNOCENT, INNOCENT)
    boss, share = court.boss[members[0].address], BOND // 2 // 3
    court.at(court.now() + DAY)
    chain.mine()
    while share != court.cases.credits(boss)[0] - BOND // 2 // 3:  # until it is drawn again
        case = court.open()
        court.judge(case, INNOCENT, INNOCENT, INNOCENT)
    amount, claimable = court.cases.credits(boss)
    assert (amount, claimable) == (2 * share, court.now() + 7 * DAY)
    court.at(claimable - 1)
    with ape.reverts(court.cases.CreditsLocked, error_inputs={"claimableAt": claimable}):
        court.cases.claimCredits(sender=boss)
    court.at(claimable)
    held, locked = court.token.balanceOf(boss), court.held()
    claimed = court.cases.claimCredits(sender=boss)
    assert events(claimed)[0] == ("CreditsClaimed", {"operator": boss.address, "amount": amount})
    assert (court.token.balanceOf(boss), court.held()) == (held + amount, locked - amount)
    for sender in (boss, members[0]):
        with ape.reverts(court.cases.NothingToClaim):
            court.cases.claimCredits(sender=sender)
