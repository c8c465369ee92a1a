"""Audit rules: who is sampled, how far apart is far, and bounds that hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.trust.audit import (
    HUGE,
    MAX_ACCEPT,
    BadBounds,
    Bounds,
    Candidates,
    Difference,
    Thresholds,
    Tier,
    compare_candidates,
    compare_rows,
    is_sampled,
)
from hypercluster.market.trust.receipt import Finding

LIMITS = Thresholds(0.01, 0.02, 0.9, 0.05, 0.08, 0.5)
DRAW = np.random.default_rng(0)
ROWS = DRAW.standard_normal((32, 64)).astype(np.float32)


def difference(median: float = 0.0, maximum: float = 0.0, agreement: float = 1.0) -> Difference:
    return Difference(median, maximum, agreement, False, 32)


def candidates(rows: int = 8, k: int = 16, seed: int = 0) -> Candidates:
    draw = np.random.default_rng(seed)
    logits = -np.sort(-draw.standard_normal((rows, k)).astype(np.float32), axis=1)
    ids = np.array([draw.permutation(1000)[:k] for _ in range(rows)], np.int32)
    return Candidates(ids, logits, np.log(np.exp(logits.astype(float)).sum(axis=1)) + 1)


def test_the_share_of_sampled_stages_is_the_rate() -> None:
    hashes = [index.to_bytes(32, "big") for index in range(20_000)]
    share = sum(is_sampled(b"secret", each, 0.05) for each in hashes) / len(hashes)
    assert share == pytest.approx(0.05, abs=0.006)  # four standard deviations


def test_another_secret_samples_others() -> None:
    hashes = [index.to_bytes(32, "big") for index in range(2_000)]
    mine = {each for each in hashes if is_sampled(b"mine", each, 0.5)}
    yours = {each for each in hashes if is_sampled(b"yours", each, 0.5)}
    assert mine != yours
    assert len(mine & yours) == pytest.approx(500, abs=120)


@given(st.binary(min_size=32, max_size=32))
def test_nothing_and_everything(receipt: bytes) -> None:
    assert not is_sampled(b"secret", receipt, 0.0)
    assert is_sampled(b"secret", receipt, 1.0)


def test_equal_rows_are_exact() -> None:
    assert compare_rows(ROWS, ROWS.copy()) == Difference(0, 0, 1, True, 32)


@pytest.mark.parametrize("share", [1e-4, 1e-2, 0.3])
def test_the_error_is_relative_to_the_row(share: float) -> None:
    noise = np.random.default_rng(1).standard_normal(ROWS.shape)
    noise *= (
        share * np.linalg.norm(ROWS, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    )
    found = compare_rows((1000 * (ROWS + noise)).astype(np.float32), 1000 * ROWS)
    assert found.median == pytest.approx(share, rel=1e-2)
    assert found.maximum == pytest.approx(share, rel=1e-2)
    assert not found.exact


def test_one_wrong_row_shows_in_the_maximum_alone() -> None:
    wrong = ROWS.copy()
    wrong[7] = -wrong[7]
    found = compare_rows(wrong, ROWS)
    assert found.median == 0
    assert found.maximum == pytest.approx(2)


@pytest.mark.parametrize(
    "claimed",
    [ROWS[:31], ROWS[:, :63], np.zeros((0, 64), np.float32), np.full_like(ROWS, np.nan)],
    ids=["a row short", "narrower", "empty", "nan"],
)
def test_what_cannot_be_compared_is_far_apart(claimed: np.ndarray) -> None:
    assert compare_rows(claimed, ROWS).maximum == HUGE


def test_rows_of_zeros_are_compared() -> None:
    zeros = np.zeros_like(ROWS)
    assert compare_rows(zeros, zeros).exact
    assert compare_rows(ROWS, zeros).maximum == HUGE


def test_equal_candidates_are_exact_among_more() -> None:
    own = candidates(k=32)
    claimed = Candidates(own.ids[:, :16], own.logits[:, :16], own.logsumexp)
    assert compare_candidates(claimed, own) == Difference(0, 0, 1, True, 8)


def test_candidates_that_changed_places_agree() -> None:
    own = candidates(k=32)
    ids = own.ids[:, :16].copy()
    logits = own.logits[:, :16].copy()
    ids[:, [3, 4]], logits[:, [3, 4]] = ids[:, [4, 3]], logits[:, [4, 3]]
    found = compare_candidates(Candidates(ids, logits, own.logsumexp), own)
    assert (found.agreement, found.exact, found.maximum) == (1, False, 0)


def test_other_candidates_disagree() -> None:
    own = candidates()
    found = compare_candidates(Candidates(own.ids + 1000, own.logits, own.logsumexp), own)
    assert (found.agreement, found.maximum) == (0, HUGE)


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (difference(), Finding.PASS),
        (difference(0.01, 0.02, 0.9), Finding.PASS),
        (difference(0.011), Finding.GREY),
        (difference(0, 0.03), Finding.GREY),
        (difference(0, 0, 0.8), Finding.GREY),
        (difference(0.06), Finding.FAIL),
        (difference(0, 0.09), Finding.FAIL),
        (difference(0, 0, 0.4), Finding.FAIL),
        (difference(HUGE, HUGE, 0), Finding.FAIL),
        (Difference(0.5, 0.5, 0.0, True, 1), Finding.PASS),
    ],
)
def test_the_grey_band_lies_between(found: Difference, finding: Finding) -> None:
    assert LIMITS.judge(found) is finding


@given(
    st.lists(
        st.builds(
            Difference,
            st.floats(0, 0.03),
            st.floats(0, 0.08),
            st.floats(0.5, 1),
            st.just(False),
            st.just(32),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["prefill", "replay", "foreign"]),
)
def test_bounds_around_honest_differences_accept_all_of_them(honest: list[Difference], tier: Tier) -> None:
    limits = Thresholds.around(honest, tier)
    assert all(limits.judge(each) is Finding.PASS for each in honest)


def test_bounds_that_do_not_rise_are_refused() -> None:
    for changes in (
        {"accept_median": 0.06},
        {"accept_maximum": 0.09},
        {"accept_agreement": 0.4},
        {"accept_maximum": MAX_ACCEPT + 0.01, "reject_maximum": 1.0},
        {"accept_median": float("nan")},
    ):
        with pytest.raises(BadBounds):
            replace(LIMITS, **changes)


def bounds() -> Bounds:
    def tiers() -> dict[Tier, Thresholds]:
        return {"prefill": LIMITS, "replay": LIMITS, "foreign": LIMITS}

    return Bounds("ab" * 32, {"body": tiers(), "tail": tiers()}, ({"variation": "alone"},))


def test_bounds_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bounds.json"
    bounds().save(path)
    assert Bounds.load(path, "ab" * 32) == bounds()


def test_bad_files_of_bounds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    with pytest.raises(BadBounds, match="calibrate"):
        Bounds.load(path, "ab" * 32)
    bounds().save(path)
    with pytest.raises(BadBounds, match="another model"):
        Bounds.load(path, "cd" * 32)
    document = json.loads(path.read_text())
    del document["limits"]["tail"]["replay"]
    path.write_text(json.dumps(document))
    with pytest.raises(BadBounds, match="cannot be used"):
        Bounds.load(path, "ab" * 32)
    path.write_text("{")
    with pytest.raises(BadBounds, match="cannot be used"):
        Bounds.load(path, "ab" * 32)
