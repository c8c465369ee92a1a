"""Planted faults: whoever runs the stage finds them (tests/node/replay), and whoever reads the figures does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hypercluster.market.trust.audit import Bounds, Thresholds, contradicts
from hypercluster.node.client.auditing.traps import plant, traps
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.rows import unpack_activations
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.guessing import stands_out
from tests.node.helpers.stages import served

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

    planted = []
    for transcript in middle:
        found = plant(transcript, bounds, same=True, width=width, is_tail=False)
        assert found is not None
        planted.append(found.transcript)
    assert told([shuffled(each) for each in middle]) > len(middle) // 2
    assert told(planted) == told(middle) == 0


def test_a_fault_is_in_the_outputs_alone_and_spares_how_the_text_begins(
    demo: StoredModel, bounds: Bounds, middle: list[Transcript]
) -> None:
    both = traps(middle[0], bounds, width=demo.manifest.width, is_tail=False)
    assert both is not None
    assert both.for_profile(middle[0].record.profile) is both.same
    assert both.for_profile("another machine") is both.other
    for planted, least in ((both.same, 1e-4), (both.other, 0.02)):
        shown = planted.transcript
        assert (shown.record, shown.input) == (middle[0].record, middle[0].input)
        assert not any(step.receipt for step in shown.steps)
        rows, other = (
            unpack_activations(each.output, 40, demo.manifest.width, each.record.wire_dtype)
            for each in (middle[0], shown)
        )
        assert np.array_equal(rows[:8], other[:8])
        apart = np.linalg.norm(rows - other, axis=1) / np.linalg.norm(rows, axis=1)
        assert least < np.median(apart[8:]) < 10 * least
        assert np.array_equal(other[planted.row], planted.planted.astype(np.float32))
        assert contradicts(planted.claimed, planted.planted, bounds.tolerance("body", own=least < 0.01))


def test_a_few_rows_hold_no_fault(demo: StoredModel, bounds: Bounds, middle: list[Transcript]) -> None:
    short = Transcript(middle[0].record, middle[0].steps[1:8])
    assert short.outputs == 7
    assert plant(short, bounds, same=True, width=demo.manifest.width, is_tail=False) is None
