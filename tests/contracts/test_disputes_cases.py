from collections import Counter

import ape
import pytest
from conftest import DAY, HCT, UNLIMITED, events
from court import (
    CLOSED,
    COMMITTING,
    DRAWING,
    GREY,
    GUILTY,
    INNOCENT,
    OUTCOMES,
    REVEALING,
    STAKE,
    TERMS,
    UNSERVED,
    commitment,
)
from eth_abi import decode
from eth_utils import keccak
from signing import sign_permit

FAULT, BOND, SILENCE = TERMS["fault"], TERMS["bond"], TERMS["silence"]
REWARD = FAULT * TERMS["rewardBps"] // 10_000
FEE = FAULT * TERMS["memberBps"] // 10_000


def outcome(court, case):
    return OUTCOMES[court.case(case).outcome]


# ------------------------------------------------------------------- opening


def test_a_case_is_opened(court):
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
    assert (shown.seats, shown.committed, shown.revealed) == (3, 0, 0)
    assert court.token.balanceOf(court.accuser) == held - BOND
    assert court.held() == BOND


def test_cases_are_numbered_from_one(court):
    assert [court.open(), court.open()] == [1, 2]
    assert court.case(3).phase == 0
    assert court.held() == 2 * BOND


def test_a_permit_stands_in_for_an_allowance(court):
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


def test_only_a_node_with_something_at_stake_is_accused(court, sleep, stranger):
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


def test_a_receipt_that_was_changed_is_nobodys(court):
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


def test_a_receipt_is_evidence_for_its_time(court):
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
def test_a_receipt_without_a_time_is_stale(court, issued):
    with ape.reverts(court.cases.StaleReceipt):
        court.open(*court.signed(issued=issued))


def test_no_bond_no_case(court, stranger):
    court.token.approve(court.cases, BOND - 1, sender=court.accuser)
    with ape.reverts(court.token.ERC20InsufficientAllowance):
        court.open()
    court.token.approve(court.cases, UNLIMITED, sender=stranger)
    with ape.reverts(court.token.ERC20InsufficientBalance):
        court.open(*court.signed(), sender=stranger)


def test_without_power_to_slash_there_is_no_case(court):
    other, _, _ = court.three()
    stage, receipt = court.stage(), court.receipt()
    arguments = tuple(stage.values()), tuple(receipt.values()), court.sign(stage, receipt, contract=other)
    with ape.reverts(other.NotSlasher):
        other.openCase(*arguments, sender=court.accuser)


def test_a_receipt_has_one_case_at_a_time(court, stranger):
    arguments = court.signed()
    case = court.open(*arguments)
    with ape.reverts(court.cases.CaseExists, error_inputs={"caseId": case}):
        court.open(*arguments)
    court.wait_for(case)
    court.resolve(case)
    second = court.open(*arguments)  # the first was void
    assert (outcome(court, case), second) == ("Void", case + 1)
    court.judge(second, UNSERVED, UNSERVED, GREY)
    third = court.open(*arguments)  # in the second nobody saw the evidence
    assert outcome(court, second) == "Unserved"
    court.judge(third, INNOCENT, UNSERVED, GREY)
    with ape.reverts(court.cases.CaseExists, error_inputs={"caseId": third}):
        court.open(*arguments)


@pytest.mark.parametrize("votes", [(INNOCENT, INNOCENT, INNOCENT), (GREY, GUILTY, INNOCENT)])
def test_what_was_judged_is_not_judged_again(court, votes):
    arguments = court.signed()
    case = court.open(*arguments)
    court.judge(case, *votes)
    with ape.reverts(court.cases.CaseExists, error_inputs={"caseId": case}):
        court.open(*arguments)


def test_a_stage_is_convicted_once(court):
    stage = court.stage()
    first, second = court.open(*court.signed(stage, seq=1)), court.open(*court.signed(stage, seq=2))
    court.judge(first, GUILTY, GUILTY, GUILTY)
    assert court.cases.isConvicted(court.node, court.stage_hash(stage))
    with ape.reverts(court.cases.AlreadyConvicted):
        court.open(*court.signed(stage, seq=3))
    held = court.token.balanceOf(court.accuser)
    _, resolved = court.judge(second, GUILTY, GUILTY, GUILTY)  # opened before the conviction
    closing = {"caseId": second, "outcome": OUTCOMES.index("Guilty"), "taken": 0, "forfeited": 0}
    assert ("CaseResolved", closing) in events(resolved)
    assert court.stake_of(court.operator) == STAKE - FAULT
    assert court.token.balanceOf(court.accuser) == held + BOND
    court.open(*court.signed(court.stage(), seq=3))  # other stages are others


# ------------------------------------------------------------------- drawing


def test_a_committee_is_drawn(court, stranger):
    case = court.open()
    drawn = court.cases.draw(case, sender=stranger)
    members = drawn.return_value
    deadline = drawn.timestamp + TERMS["commitWindow"]
    assert events(drawn) == [
        ("CommitteeDrawn", {"caseId": case, "members": members, "commitDeadline": deadline})
    ]
    assert len({*members} & {key.address for key in court.bench}) == 3
    assert (court.case(case).phase, court.case(case).deadline) == (COMMITTING, deadline)
    with ape.reverts(court.cases.WrongPhase):
        court.cases.draw(case, sender=stranger)
    with ape.reverts(court.cases.WrongPhase):
        court.cases.draw(case + 1, sender=stranger)


def ask_draw(court, case, block="latest", randomness=0):
    """What a draw would give in a block, with other randomness."""
    call = {
        "from": court.deployer.address,
        "to": court.cases.address,
        "data": "0x" + bytes(court.cases.draw.encode_input(case)).hex(),
    }
    ask = court.token.provider.web3.provider.make_request
    answer = ask("eth_call", [call, block, {}, {"random": "0x" + randomness.to_bytes(32, "big").hex()}])
    if "error" in answer:
        return answer["error"]["data"]
    (members,) = decode(["address[]"], bytes.fromhex(answer["result"][2:]))
    return members


def test_a_draw_waits_for_the_next_block(court):
    case = court.open()
    assert ask_draw(court, case) == "0x" + keccak(text="TooEarly()")[:4].hex()
    assert len(court.draw(case)) == 3


def test_draws_are_spread_evenly(court, chain):
    """Each of six verifiers sits in each of three seats about equally often: 100 of 600 times, 5 sigma are 46."""
    case, seats = court.open(), Counter()
    chain.mine()
    for randomness in range(600):
        seats.update(enumerate(ask_draw(court, case, randomness=randomness)))
    assert len(seats) == 18
    assert all(54 <= times <= 146 for times in seats.values()), seats
    assert ask_draw(court, case, randomness=1) == ask_draw(court, case, randomness=1)


def test_the_list_cannot_be_arranged_after_the_opening(court, chain):
    """Who leaves takes itself out, and moves nobody else; who comes back, or comes new, has to wait."""
    case = court.open()
    chain.mine()
    for leaver in (court.bench[0], court.bench[3]):
        before = [ask_draw(court, case, randomness=randomness) for randomness in range(30)]
        court.cases.delist(leaver, sender=leaver)
        for randomness in range(30):
            # The next number of the same sequence fills the seat; it may come from anywhere behind.
            after = ask_draw(court, case, randomness=randomness)
            stayed = [member for member in before[randomness] if member != leaver.address.lower()]
            assert list(after[: len(stayed)]) == stayed
        court.cases.enlist(sender=leaver)
        new = court.verifier()
        drawn = {m for randomness in range(30) for m in ask_draw(court, case, randomness=randomness)}
        assert not drawn & {leaver.address.lower(), new.address.lower()}


def test_parties_are_never_drawn(court, chain):
    """The accused operator's other key, the accuser's key, and keys of an operator who accuses."""
    own, friend = court.account(), court.bench[0]
    court.authorize(own, court.operator)
    court.cases.enlist(sender=own)
    boss = court.boss[friend.address]
    court.token.transfer(friend, BOND, sender=court.deployer)
    court.token.transfer(boss, BOND, sender=court.deployer)
    for accuser in (friend, boss, court.accuser):
        court.token.approve(court.cases, UNLIMITED, sender=accuser)
        case = court.open(*court.signed(), sender=accuser)
        chain.mine()
        drawn = {m for randomness in range(60) for m in ask_draw(court, case, randomness=randomness)}
        assert own.address.lower() not in drawn
        assert (friend.address.lower() in drawn) == (accuser == court.accuser)


def test_a_second_key_of_the_accuser_is_not_drawn(court, chain):
    """The accuser is a node key of an operator whose other key judges."""
    accuser, judge = court.account(BOND), court.bench[1]
    court.authorize(accuser, court.boss[judge.address])
    court.registry.revoke(accuser, sender=accuser)  # which hides nothing
    court.token.approve(court.cases, UNLIMITED, sender=accuser)
    case = court.open(*court.signed(), sender=accuser)
    chain.mine()
    drawn = {m for randomness in range(60) for m in ask_draw(court, case, randomness=randomness)}
    assert drawn == {key.address.lower() for key in court.bench if key != judge}


def test_only_the_eligible_are_drawn_and_all_of_them_are_found(court, chain):
    case = court.open()
    for key in court.bench[:2]:
        court.registry.unstake(STAKE, sender=court.boss[key.address])
    court.registry.revoke(court.bench[2], sender=court.bench[2])
    for randomness in range(20):
        drawn = ask_draw(court, case, randomness=randomness)
        assert {*drawn} == {key.address.lower() for key in court.bench[3:]}
    court.cases.delist(court.bench[3], sender=court.bench[3])
    with ape.reverts(court.cases.NotEnoughVerifiers, error_inputs={"found": 2}):
        court.draw(case)
    court.registry.cancelUnstake(sender=court.boss[court.bench[0].address])
    assert {*court.draw(case)} == {court.bench[0], *court.bench[4:]}


def test_a_draw_has_its_time(court):
    case, late = court.open(), court.open()
    court.at(court.case(case).deadline)
    court.draw(case)
    court.wait_for(late)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": DRAWING}):
        court.draw(late)


# -------------------------------------------------------------------- voting


@pytest.fixture
def drawn(court):
    """A case and its committee."""
    case = court.open()
    return case, court.draw(case)


def test_votes_are_committed_and_revealed(court, drawn):
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


def test_seats_are_those_of_their_members(court, drawn, stranger):
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


def test_a_seat_cannot_be_passed_on(court, drawn, stranger):
    """A commitment that looks like an address does not make that address a member."""
    case, members = drawn
    address = int(stranger.address, 16).to_bytes(32)
    court.cases.commit(case, 0, address, sender=members[0])
    with ape.reverts(court.cases.NotMember):
        court.cases.commit(case, 0, commitment(case, stranger, GUILTY), sender=stranger)


def test_a_commitment_is_bound_to_everything_in_it(court, drawn):
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


def test_a_copied_commitment_cannot_be_revealed(court, drawn):
    case, members = drawn
    copied = commitment(case, members[0], GUILTY)
    for seat, member in enumerate(members):
        court.cases.commit(case, seat, copied, sender=member)
    court.reveal(case, members, GUILTY)
    for seat in (1, 2):
        with ape.reverts(court.cases.BadReveal):
            court.cases.reveal(case, seat, GUILTY, bytes(32), b"s" * 32, sender=members[seat])


def test_a_commitment_of_another_case_cannot_be_revealed(court, drawn):
    case, members = drawn
    court.cases.commit(case, 0, commitment(case + 1, members[0], GUILTY), sender=members[0])
    court.wait_for(case)
    with ape.reverts(court.cases.BadReveal):
        court.cases.reveal(case, 0, GUILTY, bytes(32), b"s" * 32, sender=members[0])


@pytest.mark.parametrize("vote", [0, 5, 255])
def test_there_are_four_votes(court, drawn, vote):
    case, members = drawn
    court.commit(case, members, vote)
    court.wait_for(case)
    with ape.reverts(court.cases.BadVote, error_inputs={"vote": vote}):
        court.reveal(case, members, vote)


def test_committing_ends(court, drawn):
    case, members = drawn
    deadline = court.case(case).deadline
    court.at(deadline)
    court.commit(case, members, GUILTY)
    court.at(deadline + 1)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": COMMITTING, "deadline": deadline}):
        court.cases.commit(case, 1, commitment(case, members[1], GUILTY), sender=members[1])


def test_nothing_is_revealed_while_others_may_commit(court, drawn):
    case, members = drawn
    court.commit(case, members, GUILTY, GUILTY)
    court.at(court.case(case).deadline)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": COMMITTING}):
        court.reveal(case, members, GUILTY)


def test_revealing_ends_after_all_committed(court, drawn):
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


def test_revealing_ends_after_the_deadline_to_commit(court, drawn):
    case, members = drawn
    court.commit(case, members, GUILTY, GUILTY)
    last = court.case(case).deadline + TERMS["revealWindow"]
    court.wait_for(case)
    court.reveal(case, members, GUILTY)
    assert (court.case(case).phase, court.case(case).deadline) == (REVEALING, last)
    court.at(last + 1)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"deadline": last}):
        court.cases.reveal(case, 1, GUILTY, bytes(32), b"s" * 32, sender=members[1])


# ------------------------------------------------------------------- closing


def test_guilty(court):
    stage = court.stage()
    held, supply = court.token.balanceOf(court.accuser), court.token.totalSupply()
    case = court.open(*court.signed(stage))
    members, resolved = court.judge(case, GUILTY, INNOCENT, GUILTY)
    closing = {"caseId": case, "outcome": OUTCOMES.index("Guilty"), "taken": FAULT, "forfeited": 0}
    assert ("CaseResolved", closing) in events(resolved)
    shown = court.case(case)
    assert (shown.phase, shown.bond, outcome(court, case)) == (CLOSED, 0, "Guilty")
    assert court.token.balanceOf(court.accuser) == held
    assert court.held() == 0
    assert court.stake_of(court.operator) == STAKE - FAULT
    claimable = resolved.timestamp + 7 * DAY
    assert tuple(court.registry.rewards(court.accuser)) == (REWARD, claimable)
    rewards = [tuple(court.registry.rewards(court.boss[member.address])) for member in members]
    assert rewards == [(FEE, claimable), (0, 0), (FEE, claimable)]
    assert court.token.totalSupply() == supply - FAULT + REWARD + 2 * FEE
    assert [court.stake_of(court.boss[member.address]) for member in members] == [STAKE] * 3
    assert court.cases.isConvicted(court.node, court.stage_hash(stage))


@pytest.mark.parametrize(
    ("votes", "ending", "paid"),
    [
        ((INNOCENT, INNOCENT, INNOCENT), "Innocent", 3),
        ((INNOCENT, GUILTY, INNOCENT), "Innocent", 2),
        ((INNOCENT, UNSERVED, GREY), "Innocent", 2),
        ((UNSERVED, INNOCENT, UNSERVED), "Unserved", 3),
        ((UNSERVED, UNSERVED, GUILTY), "Unserved", 2),
    ],
)
def test_innocent(court, votes, ending, paid, stranger):
    supply = court.token.totalSupply()
    case = court.open()
    members, resolved = court.judge(case, *votes)
    closing = {"caseId": case, "outcome": OUTCOMES.index(ending), "taken": 0, "forfeited": BOND}
    assert ("CaseResolved", closing) in events(resolved)
    share, claimable = BOND // 2 // paid, resolved.timestamp + 7 * DAY
    for member, vote in zip(members, votes, strict=True):
        credit = (share, claimable) if vote in (INNOCENT, UNSERVED) else (0, 0)
        assert tuple(court.cases.credits(court.boss[member.address])) == credit
    assert court.held() == share * paid
    assert court.token.totalSupply() == supply - BOND + share * paid
    assert court.stake_of(court.operator) == STAKE
    assert sum(court.stake_of(court.boss[member.address]) for member in members) == 3 * STAKE


@pytest.mark.parametrize("votes", [(GREY, GREY, GREY), (GUILTY, INNOCENT, GREY), (GUILTY, GREY, UNSERVED)])
def test_inconclusive(court, votes):
    held, supply = court.token.balanceOf(court.accuser), court.token.totalSupply()
    case = court.open()
    _, resolved = court.judge(case, *votes)
    closing = {"caseId": case, "outcome": OUTCOMES.index("Inconclusive"), "taken": 0, "forfeited": 0}
    assert events(resolved)[0] == ("CaseResolved", closing)
    assert court.token.balanceOf(court.accuser) == held
    assert court.token.totalSupply() == supply


def test_a_case_that_nobody_draws_is_void(court, stranger):
    held, supply = court.token.balanceOf(court.accuser), court.token.totalSupply()
    case = court.open()
    court.at(court.case(case).deadline)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": DRAWING}):
        court.resolve(case)
    court.wait_for(case)
    resolved = court.cases.resolve(case, [], sender=stranger)
    closing = {"caseId": case, "outcome": OUTCOMES.index("Void"), "taken": 0, "forfeited": 0}
    assert events(resolved)[0] == ("CaseResolved", closing)
    assert (court.token.balanceOf(court.accuser), court.token.totalSupply()) == (held, supply)
    assert court.stake_of(court.operator) == STAKE
    for again in (lambda: court.resolve(case), lambda: court.draw(case)):
        with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": CLOSED}):
            again()


def test_void_cases_punish_no_members(court):
    case = court.open()
    court.wait_for(case)
    court.resolve(case, court.bench[:3])  # what is passed is not looked at
    assert all(court.stake_of(court.boss[key.address]) == STAKE for key in court.bench)


def test_a_committee_that_does_nothing(court, drawn):
    case, members = drawn
    court.at(court.case(case).deadline)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": COMMITTING}):
        court.resolve(case, members)
    supply = court.token.totalSupply()
    court.wait_for(case)  # nobody committed, so nobody is waited for
    court.resolve(case, members)
    assert outcome(court, case) == "Inconclusive"
    assert [court.stake_of(court.boss[member.address]) for member in members] == [STAKE - SILENCE] * 3
    assert court.token.totalSupply() == supply - 3 * SILENCE  # all burned
    assert court.held() == 0


def test_members_who_stay_silent_pay(court, drawn):
    """One reveals, one commits and does not reveal, one does not commit."""
    case, members = drawn
    court.commit(case, members, GUILTY, GUILTY)
    court.wait_for(case)
    court.reveal(case, members, GUILTY)
    with ape.reverts(court.cases.WrongPhase):
        court.resolve(case, members)
    court.wait_for(case)
    court.resolve(case, members)
    assert outcome(court, case) == "Inconclusive"
    stakes = [court.stake_of(court.boss[member.address]) for member in members]
    assert stakes == [STAKE, STAKE - SILENCE, STAKE - SILENCE]


@pytest.mark.parametrize("votes", [(GUILTY, GUILTY, None), (INNOCENT, None, INNOCENT)])
def test_two_thirds_decide_without_the_third(court, votes):
    case = court.open()
    members, _ = court.judge(case, *votes)
    assert outcome(court, case) == {GUILTY: "Guilty", INNOCENT: "Innocent"}[votes[0]]
    silent = court.boss[members[votes.index(None)].address]
    assert court.stake_of(silent) == STAKE - SILENCE
    assert court.cases.credits(silent)[0] == court.registry.rewards(silent)[0] == 0


def test_all_votes_close_a_case_at_once(court, drawn):
    case, members = drawn
    court.commit(case, members, GREY, GREY, GREY)
    court.reveal(case, members, GREY, GREY)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": REVEALING}):
        court.resolve(case, members)
    court.cases.reveal(case, 2, GREY, bytes(32), b"s" * 32, sender=members[2])
    court.resolve(case, members)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": CLOSED}):
        court.resolve(case, members)


def test_the_members_are_those_that_were_drawn(court, drawn):
    case, members = drawn
    court.commit(case, members, GUILTY, GUILTY, GUILTY)
    court.reveal(case, members, GUILTY, GUILTY, GUILTY)
    outsider = next(key for key in court.bench if key not in members)
    for wrong in ([], members[:2], [*members, outsider], members[::-1], [outsider, *members[1:]]):
        with ape.reverts(court.cases.WrongMembers):
            court.resolve(case, wrong)
    court.resolve(case, members)


@pytest.mark.parametrize("rest", [0, 1, 2, 9, 3 * HCT, FAULT - 1, FAULT])
def test_a_short_stake_does_not_keep_a_case_open(court, rest):
    """What is left of the stake when the verdict comes: the accuser's part comes first, half is burned."""
    case = court.open()
    members = court.draw(case)
    court.commit(case, members, GUILTY, GUILTY, GUILTY)
    court.reveal(case, members, GUILTY, GUILTY, GUILTY)
    court.registry.unstake(STAKE - rest, sender=court.operator)
    court.at(court.now() + 8 * DAY)
    court.registry.withdraw(sender=court.operator)
    supply = court.token.totalSupply()
    resolved = court.resolve(case, members)
    closing = next(said for name, said in events(resolved) if name == "CaseResolved")
    assert (closing["taken"], court.stake_of(court.operator)) == (rest, 0)
    first = min(rest, FAULT - 3 * 2 * FEE)
    expected, left = [min(REWARD, first // 2)], rest - first
    for _ in members:
        piece = min(left, 2 * FEE)
        expected.append(min(FEE, piece // 2))
        left -= piece
    bosses = [court.boss[member.address] for member in members]
    assert [court.registry.rewards(who)[0] for who in (court.accuser, *bosses)] == expected
    assert court.token.totalSupply() == supply - rest + sum(expected)
    assert court.held() == 0


def test_silent_members_without_stake_do_not_keep_a_case_open(court, drawn, sleep):
    case, members = drawn
    for member in members:
        court.registry.unstake(STAKE, sender=court.boss[member.address])
        court.registry.revoke(member, sender=member)
    sleep(8 * DAY)
    court.registry.withdraw(sender=court.boss[members[0].address])
    court.resolve(case, members)
    stakes = [court.stake_of(court.boss[member.address]) for member in members]
    assert stakes == [0, STAKE - SILENCE, STAKE - SILENCE]


def test_leaving_does_not_help_the_accused(court, sleep):
    """It revokes its key and unstakes at once; the stake thaws until after the verdict."""
    arguments = court.signed()
    court.registry.revoke(court.node, sender=court.node)
    court.registry.unstake(STAKE, sender=court.operator)
    case = court.open(*arguments)
    court.judge(case, GUILTY, GUILTY, GUILTY)
    assert tuple(court.registry.stakes(court.operator))[:2] == (0, STAKE - FAULT)


# ------------------------------------------------------------------- credits


def test_credits_wait_and_are_paid(court, chain):
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
