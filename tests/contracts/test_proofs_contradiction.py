import math
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import ape
import numpy as np
import pytest
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from web3.exceptions import ContractCustomError

from tests.contracts.conftest import DAY, events
from tests.contracts.court import STAKE, TERMS, Court, refused, tree_path, tree_root
from tests.contracts.kinds import Account, Call, Sleep

FAULT = TERMS["fault"]
REWARD = FAULT * TERMS["rewardBps"] // 10_000
F32, F16 = 1, 2
WIDTH: dict[int, Literal[16, 32]] = {F32: 32, F16: 16}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pack(values: Sequence[float], encoding: int = F32) -> bytes:
    return struct.pack(f"<{len(values)}{'f' if encoding == F32 else 'e'}", *values)


GOOD = [pack([float(row + column + 1) for column in range(12)]) for row in range(5)]
BAD = [*GOOD[:3], pack([-1.0] * 12), GOOD[4]]


@pytest.fixture
def proof(court: Court) -> Call:
    """Arguments of a proof over two sets of rows; what the verdicts say else, and who signs the second."""

    def proof(
        first: Any = GOOD,
        second: Any = BAD,
        row: int = 3,
        second_by: Account | None = None,
        by: Account | None = None,
        second_says: Any = (),
        **says: Any,
    ) -> list[Any]:
        a = court.verdict(outRoot=tree_root(first), outputs=len(first), **says)
        b = a | {"outRoot": tree_root(second), "job": b"k" * 32} | dict(second_says)
        return [
            tuple(a.values()),
            court.sign_verdict(a, by),
            tuple(b.values()),
            court.sign_verdict(b, second_by or by),
            row,
            first[row],
            tree_path(first, row),
            second[row],
            tree_path(second, row),
        ]

    return proof


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
    assert tuple(court.registry.rewards(stranger)) == (REWARD, receipt.timestamp + 7 * DAY)
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
    for field in (10, 11, 12):  # that are signed and not compared
        arguments = proof()
        changed = list(arguments[2])
        changed[field] = changed[field] + 1 if isinstance(changed[field], int) else b"z" * 32
        arguments[2] = tuple(changed)
        with ape.reverts(court.proofs.DifferentSigners):
            court.proofs.proveContradiction(*arguments, sender=stranger)


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


def ask(court: Court, method: Any, arguments: Any) -> Any:
    """Let the node run a proof without ape, which would trace every refusal."""
    call = {
        "from": court.accuser.address,
        "to": court.proofs.address,
        "data": court.proofs.proveContradiction.encode_input(*arguments),
    }
    return getattr(court.token.provider.web3.eth, method)(call)


def verdict_on(court: Court, proof: Call, x: bytes, y: bytes, encoding: int = F32) -> Any:
    """What the contract says of two rows: None if they differ, or its error."""
    try:
        ask(court, "call", proof([x], [y], row=0, wireDtype=encoding))
    except ContractCustomError as error:
        names = ("BadRow", "RowsAgree", "BadProof", "NotContradictory")
        return next(name for name in names if error.data == "0x" + keccak(text=f"{name}()")[:4].hex())
    return None


INFINITY, NAN = math.inf, math.nan


@pytest.mark.parametrize("encoding", [F32, F16])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1.0, INFINITY], [1.0, 2.0]),
        ([1.0, 2.0], [-INFINITY, 2.0]),
        ([NAN], [1.0]),
        ([1.0] * 16, [1.0] * 15 + [NAN]),
    ],
)
def test_rows_that_are_not_finite_prove_nothing(
    court: Court, proof: Call, encoding: int, x: bytes, y: bytes
) -> None:
    assert verdict_on(court, proof, pack(x, encoding), pack(y, encoding), encoding) == "BadRow"


def test_rows_that_are_no_rows_prove_nothing(court: Court, proof: Call) -> None:
    row = pack([1.0, -2.0, 3.0])
    opposite = pack([-1.0, 2.0, -3.0])
    assert verdict_on(court, proof, row, opposite) is None
    for x, y in (
        (row, row[:8]),
        (row, row + bytes(4)),
        (b"", b"\0"),
        (row[:3], row[1:4]),
        (row[:6], row[4:10]),
    ):
        assert verdict_on(court, proof, x, y) == "BadRow"
    assert verdict_on(court, proof, row[:6], row[4:10], F16) != "BadRow"
    for encoding in (0, 3, 255):
        assert verdict_on(court, proof, row, opposite, encoding) == "BadRow"


@pytest.mark.parametrize("encoding", [F32, F16])
def test_zeros_of_either_sign_are_the_same(court: Court, proof: Call, encoding: int) -> None:
    zeros, negative = pack([0.0] * 9, encoding), pack([-0.0] * 9, encoding)
    assert verdict_on(court, proof, zeros, negative, encoding) == "RowsAgree"
    smallest = (1).to_bytes(WIDTH[encoding] // 8, "little") + zeros[WIDTH[encoding] // 8 :]
    assert verdict_on(court, proof, zeros, smallest, encoding) is None


def test_the_bound(court: Court, proof: Call) -> None:
    """16 (x - y)^2 > x^2 + y^2, at and around equality: x = 4 s, y = 4 c with (s - c)^2 = 1/16 has no such floats, so
    orthogonal parts make it exact: |x - y|^2 = 2, |x|^2 + |y|^2 = 32."""
    x, y = [1.0, 0.0, 3.0, 2.0, 1.0, 1.0], [0.0, 1.0, 3.0, 2.0, 1.0, 1.0]
    assert verdict_on(court, proof, pack(x), pack(y)) == "RowsAgree"
    assert verdict_on(court, proof, pack([*x[:-1], 0.999]), pack([*y[:-1], 0.999])) is None
    assert verdict_on(court, proof, pack([*x[:-1], 1.001]), pack([*y[:-1], 1.001])) == "RowsAgree"


def test_a_giant_row_fits_into_a_transaction(court: Court, proof: Call) -> None:
    """16384 binary32 values in each row; EIP-7825 is the limit."""
    x = np.random.default_rng(1).standard_normal(16384).astype("<f4")
    y = x.copy()
    y[16000:] = 30
    arguments = proof([x.tobytes()] * 2, [x.tobytes(), y.tobytes()], row=1)
    assert ask(court, "estimate_gas", arguments) < 2**24


def exact(row: bytes, encoding: int) -> list[Fraction]:
    return [Fraction(value) for (value,) in struct.iter_unpack("<f" if encoding == F32 else "<e", row)]


def finite(encoding: int) -> st.SearchStrategy[float]:
    return st.floats(width=WIDTH[encoding], allow_nan=False, allow_infinity=False)


@FUZZ
@given(data=st.data(), encoding=st.sampled_from([F32, F16]))
def test_it_computes_as_rational_numbers_do(
    court: Court, proof: Call, data: st.DataObject, encoding: int
) -> None:
    """Any floats, subnormal and huge ones beside each other, rows of any length."""
    pairs = data.draw(
        st.lists(
            st.one_of(
                st.tuples(finite(encoding), finite(encoding)),
                finite(encoding).map(lambda value: (value, value)),
            ),
            min_size=1,
            max_size=40,
        )
    )
    x, y = (pack(column, encoding) for column in zip(*pairs, strict=True))
    assume(x != y)
    a, b = exact(x, encoding), exact(y, encoding)
    distance = 16 * sum(((p - q) * (p - q) for p, q in zip(a, b, strict=True)), Fraction())
    length = sum((p * p + q * q for p, q in zip(a, b, strict=True)), Fraction())
    assume(abs(distance - length) > length / (1 << 30) or length == 0)  # what scaling may lose
    expected = None if distance > length else "RowsAgree"
    assert verdict_on(court, proof, x, y, encoding) == expected


@FUZZ
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 70),
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e4, 1e30]),
    encoding=st.sampled_from([F32, F16]),
)
def test_an_honest_verifier_is_never_caught(
    court: Court, proof: Call, seed: int, size: int, scale: float, encoding: int
) -> None:
    """Whatever it passes is within a tenth of its own row, so no two of those differ."""
    random = np.random.default_rng(seed)
    own = random.standard_normal(size) * (scale if encoding == F32 else 1.0)

    def passed() -> bytes:
        error = random.standard_normal(size)
        row = own + error / np.linalg.norm(error) * np.linalg.norm(own) * 0.0999
        return row.astype("<f4" if encoding == F32 else "<f2").tobytes()

    x, y = passed(), passed()
    assume(x != y)
    assert verdict_on(court, proof, x, y, encoding) == "RowsAgree"
