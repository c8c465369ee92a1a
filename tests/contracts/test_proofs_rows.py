"""When two rows are too far apart to be two roundings of one: as exact fractions say."""

import math
import struct
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from web3.exceptions import ContractCustomError

from tests.contracts.contradictions import F16, F32, contradiction, pack
from tests.contracts.court import Court
from tests.contracts.kinds import Call

WIDTH: dict[int, Literal[16, 32]] = {F32: 32, F16: 16}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def proof(court: Court) -> Call:
    return contradiction(court)


def ask(court: Court, method: Any, arguments: Any) -> Any:
    """Let the node run a proof without ape, which would trace every refusal."""
    call = {
        "from": court.accuser.address,
        "to": court.proofs.address,
        "data": court.proofs.proveContradiction.encode_input(*arguments),
    }
    return getattr(court.token.provider.web3.eth, method)(call)


def verdict_on(
    court: Court, proof: Call, x: bytes, y: bytes, encoding: int = F32, behind: Any = ((), ()), **says: Any
) -> Any:
    """What the contract says of two rows, with other rows `behind` them: None if they differ, or its error; `says` is
    in the verdicts."""
    try:
        ask(court, "call", proof([x, *behind[0]], [y, *behind[1]], row=0, wireDtype=encoding, **says))
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
    assert verdict_on(court, proof, b"", b"", behind=([row], [opposite])) == "BadRow"
    assert verdict_on(court, proof, row, opposite, behind=([b""], [b""])) is None
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
    """Of a tenth: 16 (x - y)^2 > x^2 + y^2, at and around equality: x = 4 s, y = 4 c with (s - c)^2 = 1/16 has no such
    floats, so orthogonal parts make it exact: |x - y|^2 = 2, |x|^2 + |y|^2 = 32."""
    x, y = [1.0, 0.0, 3.0, 2.0, 1.0, 1.0], [0.0, 1.0, 3.0, 2.0, 1.0, 1.0]
    assert verdict_on(court, proof, pack(x), pack(y)) == "RowsAgree"
    assert verdict_on(court, proof, pack([*x[:-1], 0.999]), pack([*y[:-1], 0.999])) is None
    assert verdict_on(court, proof, pack([*x[:-1], 1.001]), pack([*y[:-1], 1.001])) == "RowsAgree"


@pytest.mark.parametrize(
    ("tolerances", "counted"),
    [
        ((100_000, 100_000), 100_000),
        ((10_000, 100_000), 100_000),
        ((100_000, 10_000), 100_000),
        ((100_001, 2**32 - 1), 100_000),
        ((10_000, 10_000), 10_000),
        ((40, 3), 40),
        ((0, 0), 0),
    ],
)
def test_the_larger_tolerance_counts_and_no_more_than_a_tenth(
    court: Court, proof: Call, tolerances: tuple[int, int], counted: int
) -> None:
    """Rows of one length that are apart by a little less and a little more than 2.5 t sqrt(2) of it."""
    first, second = tolerances
    says: Any = {"tolerance": first, "second_says": {"tolerance": second}}
    for share, expected in ((0.99, "RowsAgree"), (1.01, None)):
        angle = 2 * math.asin(share * 2.5 * counted / 1e6 / math.sqrt(2))
        x, y = pack([1.0, 0.0]), pack([math.cos(angle), math.sin(angle) or 1e-6])
        if counted or share > 1:
            assert verdict_on(court, proof, x, y, **says) == expected


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
@given(data=st.data(), encoding=st.sampled_from([F32, F16]), tolerance=st.integers(0, 100_000))
def test_it_computes_as_rational_numbers_do(
    court: Court, proof: Call, data: st.DataObject, encoding: int, tolerance: int
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
    distance = sum(((p - q) * (p - q) for p, q in zip(a, b, strict=True)), Fraction())
    length = sum((p * p + q * q for p, q in zip(a, b, strict=True)), Fraction())
    length *= Fraction(25 * tolerance * tolerance, 4 * 10**12)
    # What scaling may lose, at either end.
    assume(abs(distance - length) > (distance + length) / (1 << 30) or distance == 0)
    assume(distance == 0 or distance > sum(p * p for p in a) / (1 << 60))
    expected = None if distance > length else "RowsAgree"
    assert verdict_on(court, proof, x, y, encoding, tolerance=tolerance) == expected


@FUZZ
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 70),
    scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e4, 1e30]),
    encoding=st.sampled_from([F32, F16]),
    tolerance=st.sampled_from([10_000, 100_000]),
)
def test_an_honest_verifier_is_never_caught(
    court: Court, proof: Call, seed: int, size: int, scale: float, encoding: int, tolerance: int
) -> None:
    """C1: whatever it passes is within its tolerance of its own row, so no two of those differ."""
    random = np.random.default_rng(seed)
    own = random.standard_normal(size) * (scale if encoding == F32 else 1.0)

    def passed() -> bytes:
        error = random.standard_normal(size)
        row = own + error / np.linalg.norm(error) * np.linalg.norm(own) * 0.95e-6 * tolerance
        packed = row.astype("<f4" if encoding == F32 else "<f2")
        off = np.linalg.norm(packed.astype(np.float64) - own)
        assume(off * 1e6 <= tolerance * np.linalg.norm(own))  # as its replayer sees it
        return packed.tobytes()

    x, y = passed(), passed()
    assume(x != y)
    assert verdict_on(court, proof, x, y, encoding, tolerance=tolerance) == "RowsAgree"
