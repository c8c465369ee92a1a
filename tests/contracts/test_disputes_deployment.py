import ape
import pytest
from conftest import DAY, NOBODY
from court import TERMS
from eth_abi import encode
from eth_utils import keccak
from web3.exceptions import ContractCustomError

from hypercluster.contracts import artifact

NEEDED = 60 + 3600 + 600 + 700 + 800


def deployed(court, unbonding=7 * DAY, **changes):
    registry = court.deploy("StakingRegistry", court.token, NOBODY, unbonding, 1)
    return court.deploy("DisputeManager", court.token, registry, tuple((TERMS | changes).values()))


def test_what_it_was_deployed_with(court):
    assert dict(zip(TERMS, court.contract.parameters(), strict=True)) == TERMS
    assert court.contract.token() == court.token
    assert court.contract.registry() == court.registry
    assert court.registry.slasher() == court.contract


def refused(court, *arguments):
    """Selector and arguments of the error that the constructor reverts with."""
    fields = ["uint96"] * 4 + ["uint16"] * 2 + ["uint8"] + ["uint40"] * 6
    addresses = [getattr(each, "address", each) for each in arguments[:2]]
    encoded = encode(["address", "address", f"({','.join(fields)})"], [*addresses, arguments[2]])
    creation = {"from": court.deployer.address, "data": artifact("DisputeManager").bytecode + encoded.hex()}
    with pytest.raises(ContractCustomError) as refusal:
        court.token.provider.web3.eth.estimate_gas(creation)
    return refusal.value.data


def refused_terms(court, unbonding=7 * DAY, **changes):
    registry = court.deploy("StakingRegistry", court.token, NOBODY, unbonding, 1)
    return refused(court, court.token, registry, tuple((TERMS | changes).values()))


def error(signature, *arguments):
    types = signature[signature.index("(") + 1 : -1]
    encoded = encode(types.split(","), arguments) if types else b""
    return "0x" + (keccak(text=signature)[:4] + encoded).hex()


def test_addresses_are_not_zero(court):
    terms = tuple(TERMS.values())
    assert refused(court, NOBODY, court.registry, terms) == error("ZeroAddress()")
    with pytest.raises(ape.exceptions.VirtualMachineError):
        court.deploy("DisputeManager", court.token, NOBODY, terms)


@pytest.mark.parametrize("seats", [1, 15])
def test_seats(court, seats):
    assert deployed(court, seats=seats).parameters().seats == seats


@pytest.mark.parametrize("seats", [0, 16, 255])
def test_too_few_or_too_many_seats(court, seats):
    assert refused_terms(court, seats=seats, memberBps=0) == error("BadSeats(uint8)", seats)


def test_rewards_leave_half_to_burn(court):
    deployed(court, rewardBps=4400, memberBps=200)
    for changes, bps in (
        ({"rewardBps": 4401, "memberBps": 200}, 5001),
        ({"rewardBps": 0, "memberBps": 1667}, 5001),
        ({"rewardBps": 65_535, "memberBps": 65_535, "seats": 15}, 65_535 * 16),
    ):
        assert refused_terms(court, **changes) == error("RewardsTooHigh(uint256)", bps)


def test_stake_outlasts_every_case(court):
    too_short = "UnbondingTooShort(uint256)"
    deployed(court, unbonding=NEEDED)
    assert refused_terms(court, unbonding=NEEDED - 1) == error(too_short, NEEDED)
    slow = 60 + 3600 + 9000
    deployed(court, unbonding=slow, serveWindow=9000)
    assert refused_terms(court, unbonding=slow - 1, serveWindow=9000) == error(too_short, slow)
    most = 2**40 - 1
    windows = ("skew", "evidenceWindow", "drawWindow", "commitWindow", "revealWindow")
    assert refused_terms(court, **dict.fromkeys(windows, most)) == error(too_short, 5 * most)
