"""Fingerprints: small, telling, bound to their seed, and safe to read from strangers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.trust.fingerprint import BadFingerprint, distance, fingerprint, seed_of

SEED = seed_of(b"verifier", b"job")
ROWS = np.random.default_rng(0).standard_normal((32, 256)).astype(np.float32)


def off(rows: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(rows.shape)
    noise *= (
        share * np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    )
    return (rows + noise).astype(np.float32)


def test_thirty_two_rows_take_264_bytes() -> None:
    assert len(fingerprint(ROWS, SEED)) == 264


def test_equal_rows_are_at_no_distance() -> None:
    assert distance(fingerprint(ROWS, SEED), ROWS, SEED) == 0


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_the_distance_is_about_the_relative_error(share: float) -> None:
    found = [
        distance(fingerprint(ROWS, seed_of(bytes([i]))), off(ROWS, share, i), seed_of(bytes([i])))
        for i in range(20)
    ]
    assert np.mean(found) == pytest.approx(share, rel=0.2)
    assert min(found) > 0.5 * share


def test_a_scaled_output_is_seen() -> None:
    assert distance(fingerprint(ROWS, SEED), (1.1 * ROWS).astype(np.float32), SEED) > 0.05


def test_a_fingerprint_under_another_seed_is_worth_nothing() -> None:
    copied = fingerprint(ROWS, seed_of(b"another verifier", b"job"))
    assert distance(copied, ROWS, SEED) > 0.5


@given(st.integers(1, 40), st.integers(1, 70), st.sampled_from([0.0, 1e-30, 1.0, 1e30]))
def test_any_finite_rows_can_be_fingerprinted(rows: int, width: int, scale: float) -> None:
    values = (np.random.default_rng(rows).standard_normal((rows, width)) * scale).astype(np.float32)
    assert distance(fingerprint(values, SEED), values, SEED) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HCF1",
        b"HCF1" + bytes(4),
        b"XXXX" + fingerprint(ROWS, SEED)[4:],
        fingerprint(ROWS, SEED)[:-1],
        fingerprint(ROWS, SEED) + bytes(8),
        b"HCF1" + (2**32 - 1).to_bytes(4, "big") + bytes(8),
        b"HCF1" + (32).to_bytes(4, "big") + np.full((32, 4), np.nan, "<f2").tobytes(),
        b"HCF1" + (32).to_bytes(4, "big") + np.full((32, 4), np.inf, "<f2").tobytes(),
        fingerprint(ROWS[:31], SEED),
    ],
    ids=[
        "empty",
        "header",
        "no rows",
        "magic",
        "cut",
        "long",
        "giant count",
        "nan",
        "infinity",
        "a row short",
    ],
)
def test_what_is_no_fingerprint_of_these_rows_is_refused(data: bytes) -> None:
    with pytest.raises(BadFingerprint):
        distance(data, ROWS, SEED)
