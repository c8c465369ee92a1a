"""scripts/bench_verification.py as a user runs it, and the counting inside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def bench(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "scripts/bench_verification.py", *arguments, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_receipts_are_timed_for_every_width_and_type() -> None:
    rows = bench("receipts", "--rounds", "5")["median_us"]
    assert [(row["n_embd"], row["wire"]) for row in rows[:3]] == [(192, "f32"), (192, "f16"), (192, "q8")]
    for row in rows:
        assert row["provider"] > row["signature"] > 0
        assert row["hashing"] > row["sha256"] > 0


def test_evidence_is_counted_in_the_bytes_that_are_written() -> None:
    sizes = bench("evidence")
    assert sizes["fingerprint"] == 264
    assert sizes["receipts"] == 32 * 64
    for row in sizes["per_token"]:
        rows = 2 * row["n_embd"] * {"f32": 4, "f16": 2, "q8": 34 / 32}[row["wire"]]
        assert rows < row["body"] < rows + 128
        assert row["fingerprint_32"] == 264


@pytest.mark.slow
def test_another_model_is_found_and_an_honest_provider_is_not_accused() -> None:
    rows = bench("detection", "--quick", "--trials", "1", "--cheat", "honest", "--cheat", "other-model")[
        "rows"
    ]
    assert {(row["stage"], row["profile"]) for row in rows} == {
        (stage, profile) for stage in ("body", "tail") for profile in ("same", "foreign")
    }
    for row in rows:
        assert row["pass"] + row["grey"] + row["fail"] == row["trials"] == 1
        assert row["fail"] == (row["cheat"] == "other-model"), row


@pytest.mark.slow
def test_an_audit_is_timed_next_to_what_it_checks() -> None:
    (row,) = bench("cost", "--model", "demo", "--tokens", "24", "--rounds", "1")["rows"]
    assert (row["layers"], row["tokens"]) == (6, 24)
    assert row["prefill_share"] == pytest.approx(row["prefill_ms"] / row["generation_ms"])


@pytest.mark.slow
def test_honest_steps_are_all_accounted_for() -> None:
    found = bench("honest", "--model", "demo", "--steps", "1")
    rows, total = found["rows"], found["total"]
    for name in ("audits", "steps", "passed", "grey", "failed"):
        assert total[name] == sum(row[name] for row in rows)
    assert total["passed"] + total["grey"] + total["failed"] == total["audits"]
    assert len(found["faults"]) == total["failed"]
    assert total["steps"] == 8 * total["audits"]
    assert {row["wire"] for row in rows} == {"f32", "f16", "q8"}
    assert {row["profile"] for row in rows} == {"same", "foreign"}
    assert {row["kind"] for row in rows} == {"body", "tail"}
