"""Inputs that a client chose so that the outputs nearly cancel: nothing that a verifier passes can convict it.

Rounding is all that is left of such outputs, and it depends on the steps in which the rows are computed. Two honest
transcripts of the same rows are then further apart than the contract lets two passes of one verifier be.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hypercluster.market.trust.audit import Bounds
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.engine.engine import Engine
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.rows import Float32s, WireDtype, pack_activations
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.records import AuditStep
from tests.node.helpers.stages import stage_record

START, STOP = 1, 2
FOUND: Float32s = np.load(Path(__file__).with_name("near_cancelling.npy"))
"""float32 [8, 64]: found by Gauss-Newton steps towards outputs of zero and a walk along what leaves them there"""
N = len(FOUND)
WHOLE, SINGLE = (N,), (1,) * N


def convicts(x: Float32s, y: Float32s) -> bool:
    """What `Floats.differ` of the contracts says of two rows."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    return bool(16 * np.sum((a - b) ** 2) > np.sum(a * a) + np.sum(b * b))


class Court:
    """Serves rows in any steps, and judges what was served."""

    def __init__(self, stored: StoredModel, bounds: Bounds) -> None:
        self.stored = stored
        self.engine = Engine(
            stored.shard(START, STOP), first=False, last=False, n_ctx_total=256, max_sessions=1, threads=1
        )
        self.replayer = Replayer(stored, bounds, threads=1)

    def served(self, rows: Float32s, parts: Sequence[int]) -> Float32s:
        slot, at, found = self.engine.open(N), 0, []
        try:
            for part in parts:
                step = self.engine.submit(slot, at, rows[at : at + part], "all", 1)
                activations = step.result().activations
                assert activations is not None
                found.append(activations)
                at += part
        finally:
            self.engine.close(slot)
        return np.concatenate(found)

    def finding(self, rows: Float32s, outputs: Float32s, parts: Sequence[int]) -> Finding:
        steps, at = [], 0
        for seq, part in enumerate(parts):
            given, gave = (pack_activations(each[at : at + part], WireDtype.F32) for each in (rows, outputs))
            steps.append(AuditStep(seq, at, part, part, given, gave, issued=0))
            at += part
        record = replace(stage_record(self.stored, START, STOP), profile=self.replayer.profile)
        return self.replayer.judge(Transcript(record, tuple(steps))).finding

    def close(self) -> None:
        self.engine.stop()
        self.replayer.close()


@pytest.fixture(scope="module", params=["calibrated", "conservative"])
def court(request: pytest.FixtureRequest, stored_tiny: StoredModel):  # type: ignore[no-untyped-def]
    model = stored_tiny.manifest.model_id
    calibrated = request.param == "calibrated"
    court = Court(
        stored_tiny, calibrate(stored_tiny, texts=2, tokens=48) if calibrated else Bounds.conservative(model)
    )
    yield court
    court.close()


def test_what_was_found_would_convict_if_both_passed(court: Court) -> None:
    whole, single = (court.served(FOUND, parts) for parts in (WHOLE, SINGLE))
    assert convicts(whole[-1], single[-1])
    assert court.finding(FOUND, whole, WHOLE) is Finding.PASS
    assert court.finding(FOUND, single, SINGLE) is Finding.GREY


@pytest.mark.slow
def test_no_two_passes_convict_nor_does_an_honest_answer_fail(court: Court) -> None:
    """Around the found rows, at any distance, in any two partitions into steps."""
    rng, convicting = np.random.default_rng(5), 0
    for _ in range(60):
        noise = rng.standard_normal(FOUND.shape).astype(np.float32) * rng.choice([0, 1e-7, 1e-6, 1e-5, 1e-3])
        rows = (FOUND * (1 + noise)).astype(np.float32)
        passed = []
        for parts in (WHOLE, SINGLE, _partition(rng)):
            outputs = court.served(rows, parts)
            found = court.finding(rows, outputs, parts)
            assert found is not Finding.FAIL
            if found is Finding.PASS:
                passed.append(outputs)
            convicting += convicts(outputs[-1], court.served(rows, WHOLE)[-1])
        assert not any(convicts(x[i], y[i]) for x in passed for y in passed for i in range(N))
    assert convicting, "the rows must be such as tear honest outputs apart"


def _partition(rng: np.random.Generator) -> tuple[int, ...]:
    cuts = sorted(rng.choice(np.arange(1, N), size=rng.integers(0, N - 1), replace=False).tolist())
    return tuple(stop - start for start, stop in zip([0, *cuts], [*cuts, N], strict=True))


def test_c1_a_search_for_pairs_that_convict_finds_none() -> None:
    """C1: the short form of `make fuzz-verdicts`."""
    script = Path(__file__).parents[3] / "scripts/fuzz_verdicts.py"
    options = ["--weights", "F32", "--pairs", "1500", "--search", "0.3", "--json"]
    done = subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    tally = json.loads(done.stdout)["F32"]
    assert tally["pairs"] >= 1500
    assert tally["both passed"] > 100
    assert tally["cancelling inputs"] > 0
    assert tally["convicted"] == tally["honest failed"] == 0
