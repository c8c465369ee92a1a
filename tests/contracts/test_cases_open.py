import ape
import pytest
from eth_utils.crypto import keccak

from tests.contracts.conftest import DAY, UNLIMITED, events
from tests.contracts.court import (
    BOND,
    DRAWING,
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
from tests.contracts.kinds import Account, Sleep
from tests.contracts.signing import sign_permit


def test_a_case_is_opened(sized: Court) -> None:
    court = sized
    stage, receipt = court.stage(), court.receipt()
    held = court.token.balanceOf(court.accuser)
    opened = court.cases.openCase(
        tuple(stage.values()), tuple(receipt.values()), court.sign(stage, receipt), sender=court.accuser
    )
    case, stage_hash = opened.return_value, court.stage_hash(stage)
    shown = court.case(case)
    name, said = events(opened)[0]
    assert name == "CaseOpened"
    assert said == {
        "caseId": case,
        "accuser": court.accuser.address,
        "node": court.node.address,
        "operator": court.operator.address,
        "stageHash": stage_hash,
        "receiptHash": shown.receiptHash,
        "seq": 3,
        "modelId": b"m" * 32,
        "layerStart": 4,
        "layerStop": 8,
        "drawDeadline": opened.timestamp + TERMS["drawWindow"],
    }
    digest = keccak(b"\x19\x01" + court.cases.DOMAIN_SEPARATOR() + shown.receiptHash)
    assert digest == court.proofs.receiptDigest(stage_hash, tuple(receipt.values()))
    assert (shown.phase, shown.outcome, shown.deadline) == (DRAWING, 0, said["drawDeadline"])
    assert (shown.accuser, shown.node, shown.bond) == (court.accuser, court.node, BOND)
    assert (shown.openedBlock, shown.seq, shown.stageHash) == (opened.block_number, 3, stage_hash)
    assert (shown.seats, shown.committed, shown.revealed) == (court.terms.seats, 0, 0)
    assert court.token.balanceOf(court.accuser) == held - BOND
    assert court.held() == BOND


def test_cases_are_numbered_from_one(court: Court) -> None:
    assert [court.open(), court.open()] == [1, 2]
    assert court.case(3).phase == 0
    assert court.held() == 2 * BOND


def test_a_permit_stands_in_for_an_allowance(court: Court) -> None:
    token, accuser = court.token, court.accuser
    token.approve(court.cases, 0, sender=accuser)
    v, r, s = sign_permit(
        accuser.private_key, token.address, accuser.address, court.cases.address, BOND, 0, 2**40
    )
    permit = (2**40, v, r.to_bytes(32), s.to_bytes(32))
    token.permit(accuser, court.cases, BOND, *permit, sender=court.deployer)  # somebody was faster
    assert court.cases.openCaseWithPermit(*court.signed(), *permit, sender=accuser).return_value == 1
    with ape.reverts(token.ERC20InsufficientAllowance):
        court.cases.openCaseWithPermit(*court.signed(), *permit, sender=accuser)


def test_only_a_node_with_something_at_stake_is_accused(
    court: Court, sleep: Sleep, stranger: Account
) -> None:
    for by in (stranger, court.operator, court.accuser):
        with ape.reverts(court.cases.UnknownNode, error_inputs={"signer": by.address}):
            court.open(*court.signed(by=by))
    poor, operator = court.join(stake=0)
    with ape.reverts(court.cases.NothingAtStake, error_inputs={"operator": operator.address}):
        court.open(*court.signed(by=poor))
    court.registry.unstake(STAKE, sender=court.operator)
    court.registry.revoke(court.node, sender=court.operator)
    assert court.open() == 1  # it is leaving, and can be caught
    sleep(8 * DAY)
    court.registry.withdraw(sender=court.operator)
    with ape.reverts(court.cases.NothingAtStake):
        court.open()


def test_a_receipt_that_was_changed_is_nobodys(court: Court) -> None:
    stage, receipt, signature = court.signed()
    r, vs = signature
    for field, value in ((0, 9), (2, 9), (4, b"x" * 32), (7, receipt[7] - 1)):
        changed = (*receipt[:field], value, *receipt[field + 1 :])
        with ape.reverts(court.cases.UnknownNode):
            court.open(stage, changed, signature)
    for field, value in ((1, b"z" * 16), (3, b"x" * 32), (6, 2)):
        changed = (*stage[:field], value, *stage[field + 1 :])
        with ape.reverts(court.cases.UnknownNode):
            court.open(changed, receipt, signature)
    for bad in ((bytes(32), bytes(32)), (vs, r), (r, bytes([vs[0] ^ 128]) + vs[1:])):
        with ape.reverts(court.cases.UnknownNode):
            court.open(stage, receipt, bad)
    foreign = court.sign(court.stage(), court.receipt(), chain_id=1)
    with ape.reverts(court.cases.UnknownNode):
        court.open(stage, receipt, foreign)


def test_a_receipt_is_evidence_for_its_time(court: Court) -> None:
    arguments = court.signed(issued=court.now() + 5000)
    issued = arguments[1][7]
    for early in (issued - TERMS["skew"] - 1, issued + TERMS["evidenceWindow"] + 1):
        snapshot = court.token.provider.web3.provider.make_request("evm_snapshot", [])["result"]
        court.at(early)
        with ape.reverts(court.cases.StaleReceipt, error_inputs={"issued": issued}):
            court.open(*arguments)
        court.token.provider.web3.provider.make_request("evm_revert", [snapshot])
    court.at(issued - TERMS["skew"])
    assert court.open(*arguments) == 1
    late = court.signed(issued=issued)
    court.at(issued + TERMS["evidenceWindow"])
    assert court.open(*late) == 2


@pytest.mark.parametrize("issued", [0, 2**40 - 1])
def test_a_receipt_without_a_time_is_stale(court: Court, issued: int) -> None:
    with ape.reverts(court.cases.StaleReceipt):
        court.open(*court.signed(issued=issued))


def test_no_bond_no_case(court: Court, stranger: Account) -> None:
    court.token.approve(court.cases, BOND - 1, sender=court.accuser)
    with ape.reverts(court.token.ERC20InsufficientAllowance):
        court.open()
    court.token.approve(court.cases, UNLIMITED, sender=stranger)
    with ape.reverts(court.token.ERC20InsufficientBalance):
        court.open(*court.signed(), sender=stranger)


def test_without_power_to_slash_there_is_no_case(court: Court) -> None:
    other, _, _ = court.three()
    stage, receipt = court.stage(), court.receipt()
    arguments = tuple(stage.values()), tuple(receipt.values()), court.sign(stage, receipt, contract=other)
    with ape.reverts(other.NotSlasher):
        other.openCase(*arguments, sender=court.accuser)


def test_an_accuser_has_one_case_about_a_receipt_at_a_time_and_three_in_all(sized: Court) -> None:
    court, arguments, seats = sized, sized.signed(), sized.terms.seats
    case = court.open(*arguments)
    with ape.reverts(court.cases.CaseExists, error_inputs={"caseId": case}):
        court.open(*arguments)
    court.wait_for(case)
    court.resolve(case)
    second = court.open(*arguments)  # the first was void
    assert (court.outcome(case), second) == ("Void", case + 1)
    court.judge(second, *[UNSERVED] * (seats - 1), GREY)
    third = court.open(*arguments)  # in the second nobody saw the evidence
    assert court.outcome(second) == "Unserved"
    court.judge(third, INNOCENT, UNSERVED, *[GREY] * (seats - 2))
    assert court.outcome(third) == "Inconclusive"
    with ape.reverts(court.cases.NoTryLeft, error_inputs={"caseId": third}):
        court.open(*arguments)


def test_what_was_found_innocent_is_not_judged_again(sized: Court) -> None:
    court, arguments = sized, sized.signed()
    case = court.open(*arguments)
    court.judge(case, *[INNOCENT] * court.terms.seats)
    for accuser in (court.accuser, court.accuse()):
        with ape.reverts(court.cases.FoundInnocent, error_inputs={"caseId": case}):
            court.open(*arguments, sender=accuser)


def test_a_stage_is_convicted_once(sized: Court) -> None:
    court, stage, seats = sized, sized.stage(), sized.terms.seats
    first, second = court.open(*court.signed(stage, seq=1)), court.open(*court.signed(stage, seq=2))
    court.judge(first, *[GUILTY] * seats)
    assert court.cases.isConvicted(court.node, court.stage_hash(stage))
    with ape.reverts(court.cases.AlreadyConvicted):
        court.open(*court.signed(stage, seq=3))
    held = court.token.balanceOf(court.accuser)
    _, resolved = court.judge(second, *[GUILTY] * seats)  # opened before the conviction
    fees = seats * 2 * FEE  # its committee worked as the first did
    closing = {"caseId": second, "outcome": OUTCOMES.index("Guilty"), "taken": fees, "forfeited": 0}
    assert ("CaseResolved", closing) in events(resolved)
    assert court.stake_of(court.operator) == STAKE - FAULT - fees
    assert court.registry.rewards(court.accuser)[1] == REWARD
    assert court.token.balanceOf(court.accuser) == held + BOND
    court.open(*court.signed(court.stage(), seq=3))  # other stages are others
