from typing import Any

import ape
import eth_account
import pytest

from hypercluster.market.money.signing import NOBODY
from tests.contracts.conftest import DAY, HCT, events
from tests.contracts.court import STAKE, TERMS, Court, refused
from tests.contracts.kinds import Account, Call, Sleep, Struct
from tests.contracts.signing import HALF_ORDER

FAULT = TERMS["fault"]
REWARD = FAULT * TERMS["rewardBps"] // 10_000


@pytest.fixture
def stage(court: Court) -> Struct:
    return court.stage()


@pytest.fixture
def proof(court: Court, stage: Struct) -> Call:
    """Arguments of a proof: what the second receipt says differently, and who signs which."""

    def proof(
        by: Account | None = None,
        second_by: Account | None = None,
        stage: Struct = stage,
        other: Any = None,
        **changes: Any,
    ) -> tuple[Any, ...]:
        first = court.receipt()
        second = first | (changes or {"outRoot": b"x" * 32})
        return (
            court.stage_hash(other or stage),
            tuple(first.values()),
            court.sign(stage, first, by),
            tuple(second.values()),
            court.sign(stage, second, second_by or by),
        )

    return proof


def test_digests_are_those_of_the_documented_types(court: Court, stage: Struct) -> None:
    receipt = court.receipt()
    r, vs = court.sign(stage, receipt)
    digest = court.proofs.receiptDigest(court.stage_hash(stage), tuple(receipt.values()))
    s, parity = int.from_bytes(vs) & (1 << 255) - 1, vs[0] >> 7
    signature = r + s.to_bytes(32) + bytes([27 + parity])
    assert eth_account.Account._recover_hash(digest, signature=signature) == court.node
    verdict = court.verdict()
    r, vs = court.sign_verdict(verdict)
    s, parity = int.from_bytes(vs) & (1 << 255) - 1, vs[0] >> 7
    signature = r + s.to_bytes(32) + bytes([27 + parity])
    digest = court.proofs.verdictDigest(tuple(verdict.values()))
    assert eth_account.Account._recover_hash(digest, signature=signature) == court.node
    assert len(court.proofs.DOMAIN_SEPARATOR()) == 32


def test_two_receipts_for_one_step_cost_a_fault(
    court: Court, proof: Call, stage: Struct, stranger: Account
) -> None:
    supply = court.token.totalSupply()
    receipt = court.proofs.proveEquivocation(*proof(), sender=stranger)
    proven = {
        "node": court.node.address,
        "operator": court.operator.address,
        "stageHash": court.stage_hash(stage),
        "seq": 3,
        "reporter": stranger.address,
        "taken": FAULT,
    }
    assert events(receipt)[-1] == ("EquivocationProven", proven)
    assert tuple(court.registry.stakes(court.operator)) == (STAKE - FAULT, 0, 0)
    assert tuple(court.registry.rewards(stranger)) == (0, REWARD, receipt.timestamp + 7 * DAY)
    assert court.token.totalSupply() == supply - FAULT + REWARD
    assert court.proofs.isEquivocator(court.node, court.stage_hash(stage), 3)
    assert not court.proofs.isEquivocator(court.node, court.stage_hash(stage), 4)
    assert not court.proofs.isEquivocator(court.bench[0], court.stage_hash(stage), 3)


def test_it_is_punished_once_per_step(court: Court, proof: Call, stage: Struct, stranger: Account) -> None:
    first = proof()
    court.proofs.proveEquivocation(*first, sender=stranger)
    replays = [first, (first[0], *first[3:], *first[1:3]), proof(inRoot=b"y" * 32)]
    for replay in replays:
        with ape.reverts(court.proofs.AlreadyProven):
            court.proofs.proveEquivocation(*replay, sender=stranger)
    other_step = [court.receipt(seq=4), court.receipt(seq=4, inRoot=b"x" * 32)]
    for receipts, of in (
        (other_step, stage),
        ([court.receipt(), court.receipt(inRoot=b"x" * 32)], court.stage()),
    ):
        a, b = receipts
        arguments = tuple(a.values()), court.sign(of, a), tuple(b.values()), court.sign(of, b)
        court.proofs.proveEquivocation(court.stage_hash(of), *arguments, sender=stranger)
    assert court.stake_of(court.operator) == STAKE - 3 * FAULT


@pytest.mark.parametrize(
    "changes",
    [
        {"inRoot": bytes(32)},
        {"outRoot": bytes(32)},
        {"position": 1},
        {"tokens": 1},
        {"outputs": 1},
        {"previous": b"x" * 32},
        {"issued": 1},
    ],
)
def test_c4_one_field_that_differs_is_enough(
    court: Court, proof: Call, stranger: Account, changes: Any
) -> None:
    court.proofs.proveEquivocation(*proof(**changes), sender=stranger)
    assert court.stake_of(court.operator) == STAKE - FAULT


@pytest.mark.parametrize("changes", [{"seq": 3}, {"seq": 4, "outRoot": b"x" * 32}])
def test_receipts_that_agree_prove_nothing(
    court: Court, proof: Call, stranger: Account, changes: Any
) -> None:
    with ape.reverts(court.proofs.NotEquivocal):
        court.proofs.proveEquivocation(*proof(**changes), sender=stranger)


def test_both_must_be_signed_by_one_node(court: Court, proof: Call, stranger: Account) -> None:
    other = court.bench[0]
    parties = {"first": court.node.address, "second": other.address}
    with ape.reverts(court.proofs.DifferentSigners, error_inputs=parties):
        court.proofs.proveEquivocation(*proof(second_by=other), sender=stranger)
    with ape.reverts(court.proofs.UnknownNode, error_inputs={"signer": stranger.address}):
        court.proofs.proveEquivocation(*proof(by=stranger), sender=stranger)
    # An operator's own key is no node key.
    with ape.reverts(court.proofs.UnknownNode):
        court.proofs.proveEquivocation(*proof(by=court.operator), sender=stranger)


def test_a_receipt_of_another_stage_is_worth_nothing(court: Court, proof: Call, stranger: Account) -> None:
    arguments = proof(other=court.stage())
    error = refused(lambda: court.proofs.proveEquivocation(*arguments, sender=stranger))
    assert error in ("UnknownNode", "DifferentSigners")  # each signature recovers to somebody else


@pytest.mark.parametrize("elsewhere", [{"chain_id": 1}, {"chain_id": 31338}, {"contract": "token"}])
def test_receipts_of_another_chain_or_contract_are_nobodys(
    court: Court, stage: Struct, stranger: Account, elsewhere: dict[str, Any]
) -> None:
    if "contract" in elsewhere:
        elsewhere = {"contract": court.token}
    a, b = court.receipt(), court.receipt(outRoot=b"x" * 32)
    signed = [(tuple(each.values()), court.sign(stage, each, **elsewhere)) for each in (a, b)]

    arguments = court.stage_hash(stage), *signed[0], *signed[1]
    error = refused(lambda: court.proofs.proveEquivocation(*arguments, sender=stranger))
    assert error in ("UnknownNode", "DifferentSigners")


def test_bad_signatures_are_nobodys(court: Court, stage: Struct, stranger: Account) -> None:
    a, b = court.receipt(), court.receipt(outRoot=b"x" * 32)
    (ra, vsa), (rb, vsb) = court.sign(stage, a), court.sign(stage, b)
    flipped = bytes([vsb[0] ^ 0x80]) + vsb[1:]
    bad = {
        "zeros": (bytes(32), bytes(32)),
        "no s": (rb, bytes(32)),
        "no r": (bytes(32), vsb),
        "s in the upper half": (rb, (HALF_ORDER + 1).to_bytes(32)),
        "the other parity": (rb, flipped),
        "that of the other receipt": (ra, vsa),
        "words swapped": (vsb, rb),
    }
    for what, (r, vs) in bad.items():
        with ape.reverts(court.proofs.DifferentSigners):
            arguments = tuple(a.values()), (ra, vsa), tuple(b.values()), (r, vs)
            court.proofs.proveEquivocation(court.stage_hash(stage), *arguments, sender=stranger)
            pytest.fail(what)
    with ape.reverts(court.proofs.UnknownNode, error_inputs={"signer": NOBODY}):
        zeros = bytes(32), bytes(32)
        arguments = tuple(a.values()), zeros, tuple(b.values()), zeros
        court.proofs.proveEquivocation(court.stage_hash(stage), *arguments, sender=stranger)


def test_changed_fields_break_the_signature(court: Court, proof: Call, stranger: Account) -> None:
    arguments = list(proof())
    for field in range(8):
        changed = list(arguments[3])
        changed[field] = changed[field] + 1 if isinstance(changed[field], int) else b"z" * 32
        call = [*arguments[:3], tuple(changed), *arguments[4:]]
        error = court.proofs.NotEquivocal if field == 0 else court.proofs.DifferentSigners
        with ape.reverts(error):
            court.proofs.proveEquivocation(*call, sender=stranger)


@pytest.mark.parametrize("by", ["operator", "node"])
def test_revoking_the_key_does_not_help(court: Court, proof: Call, stranger: Account, by: str) -> None:
    arguments = proof()
    court.registry.revoke(court.node, sender=getattr(court, by))
    court.proofs.proveEquivocation(*arguments, sender=stranger)
    assert court.stake_of(court.operator) == STAKE - FAULT


def test_leaving_does_not_help(court: Court, proof: Call, stranger: Account, sleep: Sleep) -> None:
    court.registry.unstake(STAKE, sender=court.operator)
    sleep(8 * DAY)  # thawed, and not withdrawn
    court.proofs.proveEquivocation(*proof(), sender=stranger)
    assert tuple(court.registry.stakes(court.operator))[1] == STAKE - FAULT


def test_a_small_stake_is_taken_whole(court: Court, proof: Call, stranger: Account) -> None:
    court.registry.unstake(STAKE - 1, sender=court.operator)
    court.at(court.now() + 8 * DAY)
    court.registry.withdraw(sender=court.operator)
    court.registry.stake(11 * HCT, sender=court.operator)
    receipt = court.proofs.proveEquivocation(*proof(), sender=stranger)
    assert events(receipt)[-1][1]["taken"] == 11 * HCT + 1
    assert court.registry.rewards(stranger)[1] == (11 * HCT + 1) // 2  # never more than half


def test_c15_a_proof_is_not_used_up_on_a_stake_that_was_run_down(
    court: Court, proof: Call, stage: Struct, stranger: Account, sleep: Sleep
) -> None:
    """The operator leaves 1 wei, proves its own fault on that, and comes back: the rest of the fault is still due."""
    court.registry.unstake(STAKE - 1, sender=court.operator)
    sleep(8 * DAY)
    court.registry.withdraw(sender=court.operator)
    arguments, supply = proof(), court.token.totalSupply()
    own = court.proofs.proveEquivocation(*arguments, sender=court.operator)
    assert events(own)[-1][1]["taken"] == 1
    assert court.proofs.isEquivocator(court.node, court.stage_hash(stage), 3)
    court.registry.stake(STAKE - 1, sender=court.operator)
    again = court.proofs.proveEquivocation(*arguments, sender=stranger)
    assert events(again)[-1][1]["taken"] == FAULT - 1
    assert court.stake_of(court.operator) == STAKE - FAULT
    reward = REWARD * (FAULT - 1) // FAULT  # of what was still due
    assert court.registry.rewards(stranger)[1] == reward
    assert court.token.totalSupply() == supply - FAULT + reward
    with ape.reverts(court.proofs.AlreadyProven):
        court.proofs.proveEquivocation(*arguments, sender=stranger)


def test_a_proof_is_not_used_up_on_an_empty_stake(
    court: Court, proof: Call, stranger: Account, sleep: Sleep
) -> None:
    arguments = proof()
    court.registry.unstake(STAKE, sender=court.operator)
    sleep(8 * DAY)
    court.registry.withdraw(sender=court.operator)
    with ape.reverts(court.proofs.NothingAtStake, error_inputs={"operator": court.operator.address}):
        court.proofs.proveEquivocation(*arguments, sender=court.operator)
    court.registry.stake(STAKE, sender=court.operator)
    sleep(400 * DAY)  # there is no age limit
    court.proofs.proveEquivocation(*arguments, sender=stranger)
    assert court.stake_of(court.operator) == STAKE - FAULT


def test_nothing_is_taken_by_a_contract_that_is_no_slasher(
    court: Court, stage: Struct, stranger: Account
) -> None:
    cases, other, _ = court.three()
    a, b = court.receipt(), court.receipt(outRoot=b"x" * 32)
    signed = [(tuple(each.values()), court.sign(stage, each, contract=cases)) for each in (a, b)]
    with ape.reverts(other.NotSlasher):
        other.proveEquivocation(court.stage_hash(stage), *signed[0], *signed[1], sender=stranger)
