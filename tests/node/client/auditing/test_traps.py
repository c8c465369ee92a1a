"""Planted faults: whoever runs the stage finds them (tests/node/replay), and whoever reads the figures does not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import trio

from hypercluster.market.trust import merkle
from hypercluster.market.trust.audit import Bounds, Thresholds
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.client.auditing.opinion import AuditFailed
from hypercluster.node.client.auditing.planting import Planter
from hypercluster.node.client.auditing.traps import plant, reordered
from hypercluster.node.client.limits import Spending
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.comparing import WIDER, claimed_outputs, compare, judge_against
from hypercluster.node.rows import TopK, pack_topk, unpack_activations, unpack_topk
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.guessing import stands_out
from tests.node.helpers.stages import planted, served

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.client.auditing.prompting import Prompter

EXACT = Thresholds(1e-6, 1e-6, 1.0, 1e-4, 1e-4, 0.98)
FOREIGN = Thresholds(0.007, 0.017, 1.0, 0.02, 0.11, 0.98)
TEXTS = [np.random.default_rng(seed).integers(0, 1024, 40).tolist() for seed in range(8)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return open_model(demo_model(), tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bounds(demo: StoredModel) -> Bounds:
    """As calibration finds them for this model."""
    tiers = {"prefill": EXACT, "replay": EXACT, "foreign": FOREIGN}
    return Bounds(demo.manifest.model_id, {"body": tiers, "tail": tiers})  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def middle(demo: StoredModel) -> list[Transcript]:
    """Layers [2, 5) behind what the layers before make of some texts."""
    found = []
    for text in TEXTS:
        before = served(demo, 0, 2, text)
        rows = unpack_activations(before.output, 40, demo.manifest.width, before.record.wire_dtype)
        found.append(served(demo, 2, 5, text, residual=rows))
    return found


def shuffled(transcript: Transcript) -> Transcript:
    """As faults were planted once: the values of one row in another order."""
    step = transcript.steps[20]
    values = np.random.default_rng(1).permutation(np.frombuffer(step.output, "<f4"))
    steps = list(transcript.steps)
    steps[20] = replace(step, output=values.tobytes())
    return Transcript(transcript.record, tuple(steps))


def test_who_reads_figures_tells_shuffled_rows_and_no_planted_faults(
    demo: StoredModel, bounds: Bounds, middle: list[Transcript]
) -> None:
    width = demo.manifest.width

    def told(transcripts: list[Transcript]) -> int:
        return sum(stands_out(each, width=width, is_tail=False) for each in transcripts)

    faults = [planted(demo, transcript, bounds) for transcript in middle]
    assert told([shuffled(each) for each in middle]) > len(middle) // 2
    assert told([each.transcript for each in faults if each]) == told(middle) == 0
    assert all(faults)


@pytest.mark.parametrize("start", [0, 2, 5])
def test_a_fault_is_one_row_that_the_stage_did_compute(
    demo: StoredModel, bounds: Bounds, middle: list[Transcript], start: int
) -> None:
    """Behind other rows than those that stood before it."""
    transcript = middle[0] if start == 2 else served(demo, start, 8 if start == 5 else 2, TEXTS[0])
    is_tail = transcript.record.layer_stop == demo.manifest.layers
    fault = planted(demo, transcript, bounds)
    assert fault is not None
    shown = fault.transcript
    assert (shown.record, shown.input) == (transcript.record, transcript.input)
    assert not any(step.receipt for step in shown.steps)
    rows, other = (merkle.split_rows(each.output, each.outputs) for each in (transcript, shown))
    assert [at for at, row in enumerate(rows) if row != other[at]] == [fault.row]
    judged = judge_against(shown, whole(transcript, is_tail), width=demo.manifest.width, is_tail=is_tail)
    assert FOREIGN.judge(judged) is Finding.FAIL
    if not is_tail:
        assert fault.refutes(bounds.tolerance("body", own=False))


def whole(transcript: Transcript, is_tail: bool) -> list[bytes | TopK]:
    """As somebody who computed the same would answer, to all rows of input."""
    if not is_tail:
        return [transcript.output]
    first = transcript.steps[0]
    nothing = [first.output] * (first.rows - 1)
    return [unpack_topk(b"".join([*nothing, transcript.output]), transcript.tokens)]


def test_a_fault_of_a_tail_is_one_for_a_judge_that_compares_more_candidates(
    demo: StoredModel, bounds: Bounds
) -> None:
    """A judge also compares those that come in behind other rows and were just not among the best."""
    transcript = served(demo, 5, 8, TEXTS[0])
    draw, rows, planted_in = np.random.default_rng(1), transcript.outputs, 0
    for _ in range(60):
        logits = draw.normal(0, 2, (rows, 200))
        logits[:, 0] = 9
        other = logits + draw.uniform(0.1, 0.7, (rows, 1)) * draw.normal(size=(rows, 200))
        shown = with_output(transcript, merkle.split_rows(pack_topk(best(logits, 16)), rows))
        again = dict(enumerate(merkle.split_rows(pack_topk(best(other, 16)), rows), transcript.tokens - rows))
        fault = plant(shown, again, bounds, width=demo.manifest.width, is_tail=True)
        if fault is None:
            continue
        planted_in += 1
        claimed = claimed_outputs(fault.transcript, demo.manifest.width, is_tail=True)
        judged = compare(claimed, best(logits, WIDER * 16), transcript.record.wire_dtype)
        assert judged.maximum > FOREIGN.reject_maximum
    assert planted_in > 40


def best(logits: npt.NDArray[np.float64], k: int) -> TopK:
    ids = np.argsort(-logits, axis=1)[:, :k]
    sums = np.log(np.exp(logits).sum(axis=1))
    chosen = np.take_along_axis(logits, ids, axis=1).astype(np.float32)
    return TopK(ids.astype(np.int32), chosen, sums)


def with_output(transcript: Transcript, rows: list[bytes]) -> Transcript:
    steps = [replace(step, output=row) for step, row in zip(transcript.steps, rows, strict=True)]
    return Transcript(transcript.record, tuple(steps))


def test_a_fault_is_no_larger_than_it_has_to_be(bounds: Bounds, middle: list[Transcript]) -> None:
    """What is further off than it has to be is easier to find."""
    transcript = middle[0]
    rows = merkle.split_rows(transcript.output, transcript.outputs)
    again = dict(enumerate(rows))
    for at, size in ((7, 1.0), (11, 0.4), (23, 0.5), (31, 0.05)):
        again[at] = ((1 + size) * np.frombuffer(rows[at], "<f4")).astype("<f4").tobytes()
    found = plant(transcript, again, bounds, width=192, is_tail=False)
    assert found is not None
    assert found.row == 11
    again[35] = ((1 + 0.15) * np.frombuffer(rows[35], "<f4")).astype("<f4").tobytes()
    again[37] = ((1 + 0.2) * np.frombuffer(rows[37], "<f4")).astype("<f4").tobytes()
    late = plant(transcript, again, bounds, width=192, is_tail=False)
    assert late is not None
    assert late.row == 37, "of those that are hardly too far off the last, before which most is as it was"
    within = {at: again[at] if at == 31 else row for at, row in enumerate(rows)}
    assert plant(transcript, within, bounds, width=192, is_tail=False) is None


def test_the_first_row_and_the_last_ones_stay_and_all_are_run_again() -> None:
    orders = [reordered(40) for _ in range(4)]
    assert all(order[0] == 0 and sorted(order) == list(range(40)) for order in orders)
    assert all(order[36:] == [36, 37, 38, 39] for order in orders)
    assert all(
        reordered(rows)[0] == 0 and sorted(reordered(rows)) == list(range(rows)) for rows in range(1, 12)
    )
    assert len({tuple(order) for order in orders}) == 4
    assert reordered(1) == [0]


def test_a_few_rows_hold_no_fault(demo: StoredModel, bounds: Bounds) -> None:
    short = served(demo, 0, 2, TEXTS[0][:7], prompt=4)
    assert short.outputs == 7
    assert planted(demo, short, bounds) is None


def test_a_provider_that_is_paid_for_half_a_fault_counts_as_paid(
    bounds: Bounds, demo: StoredModel, middle: list[Transcript]
) -> None:
    class HalfWay:
        async def ask(self, *asked: Any, **named: Any) -> Any:
            spending: Spending = asked[3]
            spending.book(7, answered=True)
            raise AuditFailed("provider", "it does not answer.")

    planter = Planter(cast("Prompter", HalfWay()), lambda: bounds, demo.manifest.width)
    spending = Spending()
    spending.book(100, answered=True)
    assert trio.run(planter.plant, middle[0], cast("Advert", None), spending) == (None, 7)


def test_two_classifiers_learn_to_tell_shuffled_rows_and_noise_but_no_planted_faults() -> None:
    """The short form of `python scripts/bench_traps.py`; four standard errors off is no accident."""
    script = Path(__file__).parents[4] / "scripts/bench_traps.py"
    done = subprocess.run(
        [sys.executable, str(script), "--traps", "60", "--draws", "1", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {row["fault"]: row for row in json.loads(done.stdout)}
    for classifier in ("logistic", "boosted"):
        assert abs(found["planted"][classifier] - 0.5) < 4 * found["planted"]["standard_error"]
        assert found["shuffled row"][classifier] > 0.9
        assert found["plain noise"][classifier] > 0.9
    assert found["planted"]["planted"] > 50
    assert found["planted"]["largest_error"] > 0.05
