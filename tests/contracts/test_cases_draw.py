from collections import Counter
from typing import Any

import ape
from eth_abi.abi import decode
from eth_utils.crypto import keccak

from tests.contracts.conftest import UNLIMITED, events
from tests.contracts.court import BOND, COMMITTING, DRAWING, STAKE, TERMS, Court
from tests.contracts.kinds import Account, Chain


def test_a_committee_is_drawn(court: Court, stranger: Account) -> None:
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


def ask_draw(court: Court, case: int, block: int | str = "latest", randomness: int = 0) -> Any:
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


def test_a_draw_waits_for_the_next_block(court: Court) -> None:
    case = court.open()
    assert ask_draw(court, case) == "0x" + keccak(text="TooEarly()")[:4].hex()
    assert len(court.draw(case)) == 3


def test_draws_are_spread_evenly(court: Court, chain: Chain) -> None:
    """Each of six verifiers sits in each of three seats about equally often: 100 of 600 times, 5 sigma are 46."""
    case = court.open()
    seats: Counter[tuple[int, str]] = Counter()
    chain.mine()
    for randomness in range(600):
        seats.update(enumerate(ask_draw(court, case, randomness=randomness)))
    assert len(seats) == 18
    assert all(54 <= times <= 146 for times in seats.values()), seats
    assert ask_draw(court, case, randomness=1) == ask_draw(court, case, randomness=1)


def test_the_list_cannot_be_arranged_after_the_opening(court: Court, chain: Chain) -> None:
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


def test_parties_are_never_drawn(court: Court, chain: Chain) -> None:
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


def test_a_second_key_of_the_accuser_is_not_drawn(court: Court, chain: Chain) -> None:
    """The accuser is a node key of an operator whose other key judges."""
    accuser, judge = court.account(BOND), court.bench[1]
    court.authorize(accuser, court.boss[judge.address])
    court.registry.revoke(accuser, sender=accuser)  # which hides nothing
    court.token.approve(court.cases, UNLIMITED, sender=accuser)
    case = court.open(*court.signed(), sender=accuser)
    chain.mine()
    drawn = {m for randomness in range(60) for m in ask_draw(court, case, randomness=randomness)}
    assert drawn == {key.address.lower() for key in court.bench if key != judge}


def test_only_the_eligible_are_drawn_and_all_of_them_are_found(court: Court, chain: Chain) -> None:
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


def test_a_draw_has_its_time(court: Court) -> None:
    case, late = court.open(), court.open()
    court.at(court.case(case).deadline)
    court.draw(case)
    court.wait_for(late)
    with ape.reverts(court.cases.WrongPhase, error_inputs={"phase": DRAWING}):
        court.draw(late)
