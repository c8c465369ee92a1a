from typing import Any

import ape
import pytest

from tests.contracts.conftest import DAY, events
from tests.contracts.contradictions import BAD, F16, GOOD, contradiction, pack
from tests.contracts.court import STAKE, TERMS, Court, refused, tree_path, tree_root
from tests.contracts.kinds import Account, Call, Sleep

FAULT = TERMS["fault"]
REWARD = FAULT * TERMS["rewardBps"] // 10_000


@pytest.fixture
def proof(court: Court) -> Call:
    return contradiction(court)


def test_two_passes_of_one_input_cost_a_fault(court: Court, proof: Call, stranger: Account) -> None:
    supply = court.token.totalSupply()
    receipt = court.proofs.proveContradiction(*proof(), sender=stranger)
    proven = {
        "node": court.node.address,
        "operator": court.operator.address,
        "inRoot": b"i" * 32,
        "reporter": stranger.address,
        "taken": FAULT,
    }
    assert events(receipt)[-1] == ("ContradictionProven", proven)
    assert court.stake_of(court.operator) == STAKE - FAULT
    assert tuple(court.registry.rewards(stranger)) == (0, REWARD, receipt.timestamp + 7 * DAY)
    assert court.token.totalSupply() == supply - FAULT + REWARD
    assert court.proofs.isContradictor(court.node, b"i" * 32)
    assert not court.proofs.isContradictor(court.node, b"o" * 32)


def test_it_is_punished_once_per_input(court: Court, proof: Call, stranger: Account) -> None:
    court.proofs.proveContradiction(*proof(), sender=stranger)
    for again in (proof(), proof(BAD, GOOD), proof(job=b"z" * 32)):
        with ape.reverts(court.proofs.AlreadyProven):
            court.proofs.proveContradiction(*again, sender=stranger)
    court.proofs.proveContradiction(*proof(inRoot=b"x" * 32), sender=stranger)
    assert court.stake_of(court.operator) == STAKE - 2 * FAULT
    other, operator = court.join()  # whom another's punishment does not spare
    court.proofs.proveContradiction(*proof(by=other), sender=stranger)
    assert court.stake_of(operator) == STAKE - FAULT


@pytest.mark.parametrize(
    "says",
    [
        {"second_says": {"modelId": b"x" * 32}},
        {"second_says": {"layerStart": 3}},
        {"second_says": {"layerStop": 9}},
        {"second_says": {"wireDtype": F16}},
        {"second_says": {"inRoot": b"x" * 32}},
        {"second_says": {"tokens": 6}},
        {"second_says": {"outputs": 6}},
        {"second_says": {"outRoot": tree_root(GOOD)}},
        {"second_says": {"finding": 2}},
        {"second_says": {"finding": 3}},
        {"second_says": {"tail": True}},
        {"finding": 2},
        {"finding": 2, "second_says": {"finding": 1}},
        {"finding": 0},
        {"tail": True},
        {"tail": True, "second_says": {"tail": False}},
    ],
)
def test_verdicts_that_do_not_contradict(court: Court, proof: Call, stranger: Account, says: Any) -> None:
    with ape.reverts(court.proofs.NotContradictory):
        court.proofs.proveContradiction(*proof(**says), sender=stranger)


def test_both_must_be_signed_by_one_verifier(court: Court, proof: Call, stranger: Account) -> None:
    with ape.reverts(court.proofs.DifferentSigners):
        court.proofs.proveContradiction(*proof(second_by=court.bench[0]), sender=stranger)
    with ape.reverts(court.proofs.UnknownNode, error_inputs={"signer": stranger.address}):
        court.proofs.proveContradiction(*proof(by=stranger), sender=stranger)
    arguments = proof()
    a, b = court.verdict(outRoot=tree_root(GOOD)), court.verdict(outRoot=tree_root(BAD))
    arguments[:4] = [
        tuple(a.values()),
        court.sign_verdict(a, chain_id=1),
        tuple(b.values()),
        court.sign_verdict(b, chain_id=1),
    ]
    error = refused(lambda: court.proofs.proveContradiction(*arguments, sender=stranger))
    assert error in ("UnknownNode", "DifferentSigners")
    for field in (5, 11, 12, 13, 14):  # that are signed and not compared
        arguments = proof()
        changed = list(arguments[2])
        changed[field] = changed[field] + 1 if isinstance(changed[field], int) else b"z" * 32
        arguments[2] = tuple(changed)
        with ape.reverts(court.proofs.DifferentSigners):
            court.proofs.proveContradiction(*arguments, sender=stranger)


@pytest.mark.parametrize("field", [*Court.VERDICT, "issued"])
def test_every_field_of_a_verdict_is_signed(court: Court, proof: Call, stranger: Account, field: str) -> None:
    """Two verdicts of a verifier that differ from what is shown in one field, the same in both."""
    arguments = proof()
    for index, root, job in ((0, tree_root(GOOD), b"j" * 32), (2, tree_root(BAD), b"k" * 32)):
        said = court.verdict() | {"outRoot": root, "job": job}
        said["issued"] = arguments[index][-1]
        assert tuple(said.values()) == arguments[index]
        value = said[field]
        said[field] = (
            not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else b"z" * 32
        )
        arguments[index + 1] = court.sign_verdict(said)
    error = refused(lambda: court.proofs.proveContradiction(*arguments, sender=stranger))
    assert error in ("UnknownNode", "DifferentSigners")


def test_a_verifier_that_left_is_punished(court: Court, proof: Call, stranger: Account) -> None:
    court.registry.unstake(STAKE, sender=court.operator)
    court.registry.revoke(court.node, sender=court.operator)
    court.proofs.proveContradiction(*proof(), sender=stranger)
    assert court.stake_of(court.operator) == STAKE - FAULT


def test_a_proof_is_not_used_up_on_an_empty_stake(
    court: Court, proof: Call, stranger: Account, sleep: Sleep
) -> None:
    court.registry.unstake(STAKE, sender=court.operator)
    sleep(8 * DAY)
    court.registry.withdraw(sender=court.operator)
    with ape.reverts(court.proofs.NothingAtStake):
        court.proofs.proveContradiction(*proof(), sender=court.operator)
    assert not court.proofs.isContradictor(court.node, b"i" * 32)


def test_a_proof_is_not_used_up_on_a_stake_that_was_run_down(
    court: Court, proof: Call, stranger: Account, sleep: Sleep
) -> None:
    court.registry.unstake(STAKE - 1, sender=court.operator)
    sleep(8 * DAY)
    court.registry.withdraw(sender=court.operator)
    court.proofs.proveContradiction(*proof(), sender=court.operator)
    court.registry.stake(STAKE - 1, sender=court.operator)
    court.proofs.proveContradiction(*proof(), sender=stranger)
    assert court.stake_of(court.operator) == STAKE - FAULT
    with ape.reverts(court.proofs.AlreadyProven):
        court.proofs.proveContradiction(*proof(), sender=stranger)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11])
def test_rows_are_proven_at_every_place(court: Court, proof: Call, size: int) -> None:
    good = [pack([float(row), 1.0]) for row in range(size)]
    for row in range(size):
        bad = [*good[:row], pack([-5.0, 9.0]), *good[row + 1 :]]
        court.proofs.proveContradiction.call(*proof(good, bad, row), sender=court.accuser)


def test_wrong_proofs_are_refused(court: Court, proof: Call, stranger: Account) -> None:
    good = proof()
    (row, row_a, path_a, row_b, path_b) = good[4:]
    bad = {
        "another row's number": (2, row_a, path_a, row_b, path_b),
        "a number behind the end": (5, row_a, path_a, row_b, path_b),
        "a number far behind": (3 + 2**31, row_a, path_a, row_b, path_b),
        "another row": (row, GOOD[2], path_a, row_b, path_b),
        "the other verdict's row": (row, row_b, path_a, row_a, path_b),
        "the other's path": (row, row_a, tree_path(GOOD, 2), row_b, path_b),
        "a short path": (row, row_a, path_a[:-1], row_b, path_b),
        "a short second path": (row, row_a, path_a, row_b, path_b[:-1]),
        "a long path": (row, row_a, [*path_a, path_a[-1]], row_b, path_b),
        "a path backwards": (row, row_a, path_a[::-1], row_b, path_b),
        "no path": (row, row_a, [], row_b, []),
        "a long row": (row, row_a + b"\0\0\0\0", path_a, row_b, path_b),
        "a cut row": (row, row_a[:-4], path_a, row_b[:-4], path_b),
        "an empty row": (row, b"", path_a, row_b, path_b),
    }
    for what, arguments in bad.items():
        with ape.reverts(court.proofs.BadProof):
            court.proofs.proveContradiction(*good[:4], *arguments, sender=stranger)
            pytest.fail(what)
    court.proofs.proveContradiction(*good, sender=stranger)


def test_a_node_of_the_tree_is_no_row(court: Court, proof: Call, stranger: Account) -> None:
    """What second preimages would need: an inner node's two children, taken for a row."""
    rows = [GOOD[0], GOOD[1]]
    arguments = proof(rows, BAD[2:4], row=1)
    left, right = (tree_root([row]) for row in rows)
    arguments[4:7] = [0, left + right, []]
    with ape.reverts(court.proofs.BadProof):
        court.proofs.proveContradiction(*arguments, sender=stranger)


def test_the_size_is_the_one_that_was_signed(court: Court, proof: Call, stranger: Account) -> None:
    """The same root and path, with a verdict over more or fewer rows."""
    for outputs in (4, 8, 9):
        a = court.verdict(outRoot=tree_root(GOOD), outputs=outputs)
        b = court.verdict(outRoot=tree_root(BAD), outputs=outputs)
        signed = [tuple(a.values()), court.sign_verdict(a), tuple(b.values()), court.sign_verdict(b)]
        arguments = [*signed, 4, GOOD[4], tree_path(GOOD, 4), BAD[4], tree_path(BAD, 4)]
        with ape.reverts(court.proofs.BadProof):
            court.proofs.proveContradiction(*arguments, sender=stranger)
