import ape
import pytest
from conftest import DAY, NOBODY
from court import TERMS

NEEDED = 60 + 3600 + 600 + 700 + 800


def deployed(court, unbonding=7 * DAY, **changes):
    registry = court.deploy("StakingRegistry", court.token, NOBODY, unbonding, 1)
    return court.deploy("DisputeManager", court.token, registry, tuple((TERMS | changes).values()))


def test_what_it_was_deployed_with(court):
    assert dict(zip(TERMS, court.contract.parameters(), strict=True)) == TERMS
    assert court.contract.token() == court.token
    assert court.contract.registry() == court.registry
    assert court.registry.slasher() == court.contract


def test_addresses_are_not_zero(court):
    for addresses in ((NOBODY, court.registry), (court.token, NOBODY)):
        with pytest.raises(ape.exceptions.VirtualMachineError):
            court.deploy("DisputeManager", *addresses, tuple(TERMS.values()))


@pytest.mark.parametrize("seats", [1, 15])
def test_seats(court, seats):
    assert deployed(court, seats=seats).parameters().seats == seats


@pytest.mark.parametrize("seats", [0, 16, 255])
def test_too_few_or_too_many_seats(court, seats):
    with pytest.raises(ape.exceptions.VirtualMachineError, match=f"BadSeats\\(seats={seats}\\)"):
        deployed(court, seats=seats, memberBps=0)


def test_rewards_leave_half_to_burn(court):
    deployed(court, rewardBps=4400, memberBps=200)
    with pytest.raises(ape.exceptions.VirtualMachineError, match=r"RewardsTooHigh\(bps=5001\)"):
        deployed(court, rewardBps=4401, memberBps=200)
    with pytest.raises(ape.exceptions.VirtualMachineError, match="RewardsTooHigh"):
        deployed(court, rewardBps=65_535, memberBps=65_535, seats=15)


def test_stake_outlasts_every_case(court):
    deployed(court, unbonding=NEEDED)
    with pytest.raises(ape.exceptions.VirtualMachineError, match=rf"UnbondingTooShort\(needed={NEEDED}\)"):
        deployed(court, unbonding=NEEDED - 1)
    slow = 60 + 3600 + 9000
    deployed(court, unbonding=slow, serveWindow=9000)
    with pytest.raises(ape.exceptions.VirtualMachineError, match=rf"UnbondingTooShort\(needed={slow}\)"):
        deployed(court, unbonding=slow - 1, serveWindow=9000)
    with pytest.raises(ape.exceptions.VirtualMachineError, match="UnbondingTooShort"):
        deployed(court, skew=2**40 - 1, evidenceWindow=2**40 - 1, drawWindow=2**40 - 1)
