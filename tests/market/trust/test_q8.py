"""Rows in a little more than a byte a number: what they lose is bounded, and nothing else than packed rows is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.market.trust import q8
from hypercluster.market.trust.audit import compare_rows
from hypercluster.market.trust.q8 import BadBlocks, half_steps, pack, row_bytes, unpack

Rows = np.typing.NDArray[np.float32]
NUMBERS = (
    st.floats(-8e6, 8e6, width=32)
    | st.floats(-(2.0**-13), 2.0**-13, width=32)
    | st.sampled_from([0.0, -0.0, 1.0])
)


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    """Blocks of any numbers, whose sizes differ by anything."""
    blocks = draw(st.lists(st.lists(NUMBERS, min_size=32, max_size=32), min_size=1, max_size=4))
    return np.array(blocks, np.float32).reshape(1, -1)


@given(rows())
@settings(max_examples=200, deadline=None)
def test_a_number_moves_by_half_a_step_at_most(before: Rows) -> None:
    data = pack(before)
    assert len(data) == row_bytes(before.shape[1]) == before.shape[1] // 32 * 34
    after = unpack(data, 1, before.shape[1])
    moved, most = np.abs(before.astype(np.float64) - after), half_steps(after)
    assert (moved <= most * (1 + 1e-6)).all()
    # And no more could be meant: a block of large numbers has 254 steps.
    large = np.abs(after.reshape(-1, 32)).max(axis=1) > 1e-2
    tops = np.abs(after.reshape(-1, 32)).max(axis=1)[large]
    assert (most.reshape(-1, 32)[large, 0] <= tops / 253).all()


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3, 1e6])
def test_what_was_packed_is_packed_again_as_the_same(size: float) -> None:
    before = (size * np.random.default_rng(1).standard_normal((40, 96))).astype(np.float32)
    data = pack(before)
    assert pack(unpack(data, 40, 96)) == data


def test_the_bytes_are_those_of_q8_0_in_gguf_up_to_the_last_bit_of_a_scale() -> None:
    """Ours is never below the largest number; theirs is rounded to the nearest."""
    import gguf

    before = np.random.default_rng(2).standard_normal((4, 64)).astype(np.float32)
    theirs = gguf.quants.dequantize(
        np.frombuffer(pack(before), np.uint8).reshape(4, -1), gguf.GGMLQuantizationType.Q8_0
    )
    assert np.array_equal(theirs, unpack(pack(before), 4, 64))


@pytest.mark.parametrize("size", [1e-1, 1.0, 1e5])
@pytest.mark.parametrize("outlier", [1.0, 1e3])
def test_rounding_takes_no_more_of_a_row_than_verdicts_allow_for(size: float, outlier: float) -> None:
    before = np.random.default_rng(3).standard_normal((200, 64)).astype(np.float32)
    before[:, 7] *= outlier
    before = np.clip(before * size, -8e6, 8e6)
    after = unpack(pack(before), 200, 64)
    lost = np.linalg.norm(half_steps(after), axis=1) / np.linalg.norm(after.astype(np.float64), axis=1)
    assert lost.max() * 1.1 < q8.ROUNDING / 1e6


def test_all_of_a_row_in_one_number_of_a_block_is_the_worst() -> None:
    """Then half a step of each of 32 is as much of it as can be."""
    row = np.zeros((1, 32), np.float32)
    row[0, 3] = 5.0
    lost = float(np.linalg.norm(half_steps(unpack(pack(row), 1, 32)))) / 5.0
    assert 0.0222 < lost < 0.0223
    assert 1.1 * lost < q8.ROUNDING / 1e6


def test_an_error_is_no_larger_than_before_rows_were_rounded() -> None:
    draw = np.random.default_rng(4)
    for error in (1e-6, 1e-4, 1e-2, 0.3):
        own = draw.standard_normal((64, 96)).astype(np.float32)
        theirs = (own * (1 + error * draw.standard_normal(own.shape))).astype(np.float32)
        plain = compare_rows(theirs, own)
        claimed = unpack(pack(theirs), 64, 96)
        rounded = compare_rows(claimed, own, half_steps(claimed))
        assert rounded.median <= plain.median + 1e-7
        assert rounded.maximum <= plain.maximum + 1e-7
        if error > 1e-2:
            assert rounded.median > 0.9 * plain.median


def test_what_is_no_multiple_of_a_block_has_no_such_form() -> None:
    for width in (0, 1, 31, 48):
        with pytest.raises(BadBlocks, match="multiple of 32"):
            pack(np.ones((1, width), np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 8.4e6, -3e38])
def test_what_is_not_finite_or_too_large_is_refused(bad: float) -> None:
    row = np.ones((2, 64), np.float32)
    row[1, 40] = bad
    with pytest.raises(BadBlocks) as caught:
        pack(row)
    assert not caught.value.finite


def block(scale: float, numbers: list[int]) -> bytes:
    return np.array([scale], "<f2").tobytes() + bytes(
        each & 255 for each in [*numbers, *[0] * (32 - len(numbers))]
    )


@pytest.mark.parametrize(
    ("data", "finite"),
    [
        (block(np.nan, [127]), False),
        (block(np.inf, [127]), False),
        (block(-1.0, [127]), True),
        (block(1.0, [-128]), True),
        (block(1.0, [127, -128]), True),
        # Steps that are larger than they need be, so that much could be meant by one number.
        (block(1.0, [126]), True),
        (block(100.0, [1, -1]), True),
        (block(1.0, []), True),
        (block(0.0, [1]), True),
        (block(-0.0, []), True),
        (block(2.0**-24, []), True),
    ],
)
def test_blocks_that_nobody_packs_are_refused(data: bytes, finite: bool) -> None:
    good = block(1.0, [-127, 3])
    assert unpack(good + good, 1, 64)[0, :2].tolist() == [-127.0, 3.0]
    for both in (good + data, data + good):
        with pytest.raises(BadBlocks) as caught:
            unpack(both, 1, 64)
        assert caught.value.finite is finite


def test_small_numbers_keep_what_f16_keeps_of_their_scale() -> None:
    row = np.full((1, 32), 2.0**-25 * 127, np.float32)
    row[0, 0] = 0
    after = unpack(pack(row), 1, 32)
    assert (np.abs(after - row) <= half_steps(after)).all()
    assert after[0, 1] > 0
    assert unpack(pack(row / 1e6), 1, 32).tolist() == [[0.0] * 32]
