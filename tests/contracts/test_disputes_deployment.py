from typing import Any

import ape
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from web3.exceptions import ContractCustomError

from hypercluster.contracts import artifact
from hypercluster.market.money.signing import NOBODY
from tests.contracts.conftest import DAY
from tests.contracts.court import FAULT, TERMS, Court

NEEDED = 60 + 3 * (3600 + 600 + 700 + 800)
"""an accuser has three cases about a receipt"""


def deployed(court: Court, unbonding: int = 7 * DAY, **changes: Any) -> Any:
    registry = court.deploy("StakingRegistry", court.token, unbonding, FAULT, 1)
    return court.deploy("DisputeCases", registry, tuple((TERMS | changes).values()))


def test_what_they_were_deployed_with(court: Court) -> None:
    assert dict(zip(TERMS, court.cases.parameters(), strict=True)) == TERMS
    three = court.cases, court.proofs, court.demands
    for contract in three:
        assert contract.token() == court.token
        assert contract.registry() == court.registry
    assert court.registry.slashers() == [contract.address for contract in three]


def test_all_statements_are_signed_in_one_domain(court: Court) -> None:
    """Named for the contract of cases, and of this chain: as EIP-5267 shows it."""
    types = ["bytes32", "bytes32", "bytes32", "uint256", "address"]
    name = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    words = [keccak(text=name), keccak(text="HyperCluster Disputes"), keccak(text="1"), 31337]
    separator = keccak(encode(types, [*words, court.cases.address]))
    for contract in (court.cases, court.proofs, court.demands):
        assert contract.DOMAIN_SEPARATOR() == separator
        shown = contract.eip712Domain()
        assert tuple(shown)[:5] == (b"\x0f", "HyperCluster Disputes", "1", 31337, court.cases.address)
    other, proofs, _ = court.three()
    assert other.DOMAIN_SEPARATOR() == proofs.DOMAIN_SEPARATOR() != separator


def test_proofs_and_demands_belong_to_a_contract_of_cases(court: Court) -> None:
    for name in ("DisputeProofs", "DisputeDemands"):
        for nothing in (NOBODY, court.token):
            with pytest.raises(ape.exceptions.VirtualMachineError):
                court.deploy(name, nothing)


def refused(court: Court, registry: Any, terms: Any) -> str:
    """Selector and arguments of the error that the constructor reverts with."""
    fields = ["uint96"] * 4 + ["uint16"] * 2 + ["uint8"] + ["uint40"] * 6 + ["uint16"]
    encoded = encode(["address", f"({','.join(fields)})"], [registry.address, terms])
    creation = {"from": court.deployer.address, "data": artifact("DisputeCases").bytecode + encoded.hex()}
    with pytest.raises(ContractCustomError) as refusal:
        court.token.provider.web3.eth.estimate_gas(creation)
    return str(refusal.value.data)


def refused_terms(court: Court, unbonding: int = 7 * DAY, **changes: Any) -> Any:
    registry = court.deploy("StakingRegistry", court.token, unbonding, FAULT, 1)
    return refused(court, registry, tuple((TERMS | changes).values()))


def error(signature: str, *arguments: Any) -> str:
    types = signature[signature.index("(") + 1 : -1]
    encoded = encode(types.split(","), arguments) if types else b""
    return "0x" + (keccak(text=signature)[:4] + encoded).hex()


def test_cases_belong_to_a_registry(court: Court) -> None:
    for nothing in (NOBODY, court.token):
        with pytest.raises(ape.exceptions.VirtualMachineError):
            court.deploy("DisputeCases", nothing, tuple(TERMS.values()))


@pytest.mark.parametrize("seats", [1, 15])
def test_seats(court: Court, seats: int) -> None:
    assert deployed(court, seats=seats).parameters().seats == seats


@pytest.mark.parametrize("seats", [0, 16, 255])
def test_too_few_or_too_many_seats(court: Court, seats: int) -> None:
    assert refused_terms(court, seats=seats, memberBps=0) == error("BadSeats(uint8)", seats)


def test_rewards_leave_half_to_burn(court: Court) -> None:
    deployed(court, rewardBps=4400, memberBps=200)
    for changes, bps in (
        ({"rewardBps": 4401, "memberBps": 200}, 5001),
        ({"rewardBps": 0, "memberBps": 1667}, 5001),
        ({"rewardBps": 65_535, "memberBps": 65_535, "seats": 15}, 65_535 * 16),
    ):
        assert refused_terms(court, **changes) == error("RewardsTooHigh(uint256)", bps)


def test_stake_outlasts_every_case(court: Court) -> None:
    too_short = "UnbondingTooShort(uint256)"
    deployed(court, unbonding=NEEDED)
    assert refused_terms(court, unbonding=NEEDED - 1) == error(too_short, NEEDED)
    slow = 60 + 3600 + 20_000
    deployed(court, unbonding=slow, serveWindow=20_000)
    assert refused_terms(court, unbonding=slow - 1, serveWindow=20_000) == error(too_short, slow)
    most = 2**40 - 1
    windows = ("skew", "evidenceWindow", "drawWindow", "commitWindow", "revealWindow")
    assert refused_terms(court, **dict.fromkeys(windows, most)) == error(too_short, 13 * most)


def test_a_key_can_pay_for_a_fault(court: Court) -> None:
    registry = court.deploy("StakingRegistry", court.token, 7 * DAY, FAULT - 1, 1)
    assert refused(court, registry, tuple(TERMS.values())) == error("FaultTooHigh(uint96)", FAULT - 1)
