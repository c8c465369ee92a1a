"""Audits of real stages: honest ones pass whatever they ran on, every cheat is found, and nothing crashes it."""

from __future__ import annotations

import os
import random
import secrets
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hypercluster.market.trust.audit import Bounds
from hypercluster.market.trust.receipt import MOST_TOLERANCE, Finding
from hypercluster.node.engine.apart import Apart
from hypercluster.node.engine.profile import Backend, BadBackend
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.verdicts import input_root
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.comparing import BadEvidence, claimed_numbers
from hypercluster.node.replay.recordings import BadRecording, record
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.rows import WireDtype, pack_tokens
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.cheats import (
    CHEATS,
    IN_OUTPUTS,
    IN_WEIGHTS,
    Cheat,
    Tampering,
    UnknownCheat,
    doctored,
)
from hypercluster.node.wire.records import AuditStep
from tests.node.helpers.stages import planted, served, stage_record

TEXT = [int(token) for token in np.random.default_rng(3).integers(0, 256, 40)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return open_model(demo_model(), tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bounds(demo: StoredModel) -> Bounds:
    return calibrate(demo, texts=2, tokens=48)


@pytest.fixture(scope="module")
def replayer(demo: StoredModel, bounds: Bounds) -> Iterator[Replayer]:
    replayer = Replayer(demo, bounds, threads=1)
    yield replayer
    replayer.close()


RANGES = [(0, 4), (4, 8), (2, 6), (0, 8)]


def test_a_death_of_llama_cpp_before_an_audit_is_nobodys_fault(demo: StoredModel, bounds: Bounds) -> None:
    replayer = Replayer(demo, bounds, threads=1)
    try:
        transcript = served(demo, 0, 4, TEXT)
        assert replayer.judge(transcript).finding is Finding.PASS
        for loaded in replayer._engines.values():
            computing = loaded.engine._computing
            assert isinstance(computing, Apart)
            os.kill(computing.pid, signal.SIGSEGV)
        assert replayer.judge(transcript).finding is Finding.PASS
    finally:
        replayer.close()


@pytest.mark.parametrize(("start", "stop"), RANGES)
@pytest.mark.parametrize("dtype", WireDtype)
def test_an_honest_stage_passes(
    demo: StoredModel, replayer: Replayer, start: int, stop: int, dtype: WireDtype
) -> None:
    found = replayer.judge(served(demo, start, stop, TEXT, dtype=dtype))
    assert found.finding is Finding.PASS
    assert len(found.rows) == found.difference.rows


@pytest.mark.parametrize(
    "backend",
    [Backend(flash_attention=True), Backend(kv_type="f32"), Backend(flash_attention=True, kv_type="q8_0")],
    ids=lambda backend: f"{backend.kv_type}-{backend.flash_attention}",
)
@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_an_honest_stage_with_another_profile_is_never_accused(
    demo: StoredModel, replayer: Replayer, start: int, stop: int, backend: Backend
) -> None:
    found = replayer.judge(served(demo, start, stop, TEXT, backend=backend))
    assert found.tier == "foreign"
    assert found.finding is not Finding.FAIL


@pytest.mark.parametrize("cheat", [cheat for cheat in CHEATS if cheat in IN_WEIGHTS + IN_OUTPUTS])
@pytest.mark.parametrize(("start", "stop"), [(0, 4), (4, 8)])
def test_every_cheat_in_numbers_is_found(
    demo: StoredModel, replayer: Replayer, cheat: Cheat, start: int, stop: int, tmp_path: Path
) -> None:
    shard = demo.shard(start, stop)
    if cheat in IN_WEIGHTS:
        copy = tmp_path / "shard.gguf"
        copy.write_bytes(shard.read_bytes())
        transcript = served(demo, start, stop, TEXT, shard=doctored(copy, cheat))
    else:
        transcript = served(demo, start, stop, TEXT, tamper=Tampering(cheat))
    found = replayer.judge(transcript)
    assert found.finding is Finding.FAIL, found.difference
    assert found.tier == "replay"


@pytest.mark.parametrize("cheat", [cheat for cheat in CHEATS if cheat in IN_WEIGHTS + IN_OUTPUTS])
@pytest.mark.parametrize("profile", [None, "some accelerator"])
def test_every_cheat_in_numbers_is_found_in_rounded_rows(
    demo: StoredModel, replayer: Replayer, cheat: Cheat, profile: str | None, tmp_path: Path
) -> None:
    if cheat in IN_WEIGHTS:
        copy = tmp_path / "shard.gguf"
        copy.write_bytes(demo.shard(0, 4).read_bytes())
        transcript = served(demo, 0, 4, TEXT, shard=doctored(copy, cheat), dtype=WireDtype.Q8)
    else:
        transcript = served(demo, 0, 4, TEXT, tamper=Tampering(cheat), dtype=WireDtype.Q8)
    record = transcript.record if profile is None else replace(transcript.record, profile=profile)
    found = replayer.judge(Transcript(record, transcript.steps))
    if profile is None:
        assert (found.tier, found.finding) == ("replay", Finding.FAIL)
    elif cheat != "noise":
        # A hundredth of a row is within what strange machines differ by.
        assert found.finding is not Finding.PASS, found.difference


@pytest.mark.parametrize(
    "backend",
    [Backend(), Backend(flash_attention=True), Backend(kv_type="f32")],
    ids=lambda backend: f"{backend.kv_type}-{backend.flash_attention}",
)
def test_rounding_adds_nothing_to_what_an_honest_stage_is_off(
    demo: StoredModel, replayer: Replayer, backend: Backend
) -> None:
    plain, rounded = (
        replayer.judge(served(demo, 0, 4, TEXT, backend=backend, dtype=dtype))
        for dtype in (WireDtype.F32, WireDtype.Q8)
    )
    assert rounded.finding is Finding.PASS
    assert rounded.tier == plain.tier
    assert rounded.difference.median <= plain.difference.median + 1e-7
    assert rounded.difference.maximum <= plain.difference.maximum + 1e-7
    # What rounding takes is in the tolerance, so that no proof of a contradiction finds two honest passes.
    assert rounded.tolerance == min(plain.tolerance + WireDtype.Q8.rounding, MOST_TOLERANCE)


def test_one_number_of_a_rounded_row_that_is_some_steps_off_is_found(
    demo: StoredModel, replayer: Replayer
) -> None:
    """The same steps give the same bytes."""
    transcript = served(demo, 2, 6, TEXT, dtype=WireDtype.Q8)
    honest = replayer.judge(transcript)
    assert (honest.finding, honest.difference.maximum < 1e-3) == (Finding.PASS, True)
    row = bytearray(transcript.steps[3].output)
    at = next(at for at in range(2, 34) if row[at] < 100)
    row[at] += 5
    found = replayer.judge(changed(transcript, 3, output=bytes(row)))
    assert found.finding is Finding.FAIL, found.difference


def test_rows_rounded_to_larger_steps_than_they_need_are_no_evidence(
    demo: StoredModel, replayer: Replayer
) -> None:
    """What is claimed could be anything then."""
    transcript = served(demo, 2, 6, TEXT, dtype=WireDtype.Q8)
    table = np.frombuffer(transcript.steps[3].output, np.dtype([("scale", "<f2"), ("numbers", "i1", (32,))]))
    coarse = table.copy()
    coarse["scale"] *= 4
    coarse["numbers"] //= 4
    with pytest.raises(NodeError, match="another scale"):
        replayer.judge(changed(transcript, 3, output=coarse.tobytes()))


def test_coarse_cheats_are_found_behind_a_false_profile(demo: StoredModel, replayer: Replayer) -> None:
    transcript = served(demo, 0, 4, TEXT, tamper=Tampering("truncate"))
    claimed = Transcript(replace(transcript.record, profile="some accelerator"), transcript.steps)
    found = replayer.judge(claimed)
    assert (found.tier, found.finding) == ("foreign", Finding.FAIL)


def test_a_doubt_about_the_prefill_is_settled_by_the_same_steps(demo: StoredModel, bounds: Bounds) -> None:
    """With bounds that no prefill keeps the steps are run one by one, and are exact."""
    tight = replace(bounds.of("body", "prefill"), accept_median=1e-12, accept_maximum=1e-12)
    strict = Bounds(bounds.model_id, {**bounds.limits, "body": {**bounds.limits["body"], "prefill": tight}})
    replayer = Replayer(demo, strict, threads=1)
    transcript = served(demo, 0, 4, [5, 900, 17, 3] * 12)
    found = replayer.judge(transcript)
    replayer.close()
    assert found.finding is Finding.PASS
    assert found.difference.exact


BACK = [
    (0, 8),
    (8, 1),
    (9, 1),
    (10, 5),
    (12, 1),
    (13, 4),
    (3, 2),
    (5, 1),
    (6, 1),
    (7, 1),
    (0, 9),
    (9, 1),
    (8, 1),
]
"""position and rows of each step: to and fro"""


@pytest.mark.parametrize(("start", "stop"), RANGES)
@pytest.mark.parametrize("cheat", [None, *IN_OUTPUTS])
def test_a_stage_that_went_back_is_judged_by_what_it_still_held(
    demo: StoredModel, replayer: Replayer, start: int, stop: int, cheat: Cheat | None
) -> None:
    tamper = Tampering(cheat) if cheat else (lambda slot, output: output)
    transcript = served(demo, start, stop, TEXT, places=BACK, tamper=tamper)
    assert (transcript.tokens, transcript.length, len(transcript.runs)) == (36, 17, 5)
    found = replayer.judge(transcript)
    assert found.finding is (Finding.FAIL if cheat else Finding.PASS), found.difference
    assert len(found.rows) == transcript.outputs


@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_rows_that_look_at_what_was_forgotten_are_found(
    demo: StoredModel, replayer: Replayer, start: int, stop: int
) -> None:
    """Every row was computed, and behind rows that were served; only that these should not have been there any more."""
    tokens, places = TEXT[:16], [(0, 8), (8, 4), (4, 3), (7, 1)]
    honest = served(demo, start, stop, tokens, places=places)
    kept = served(demo, start, stop, tokens, places=[(0, 8), (8, 4), (12, 3), (15, 1)])
    assert replayer.judge(honest).finding is replayer.judge(kept).finding is Finding.PASS
    steps = [*honest.steps[:2]]
    for step, other in zip(honest.steps[2:], kept.steps[2:], strict=True):
        assert step.input == other.input
        steps.append(replace(step, output=other.output))
    assert replayer.judge(Transcript(honest.record, tuple(steps))).finding is Finding.FAIL


def test_a_row_that_was_forgotten_counts_like_the_others(demo: StoredModel, replayer: Replayer) -> None:
    """It was served and paid: that nothing later rests on it excuses nothing."""
    transcript = served(demo, 0, 4, TEXT[:16], places=[(0, 8), (8, 4), (4, 4)])
    forgotten = transcript.steps[1]
    rows = np.frombuffer(forgotten.output, "<f4").reshape(4, -1)
    wrong = changed(transcript, 1, output=rows[::-1].tobytes())
    assert replayer.judge(transcript).finding is Finding.PASS
    assert replayer.judge(wrong).finding is Finding.FAIL


@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_a_fault_planted_in_a_stage_that_went_back_is_found(
    demo: StoredModel, replayer: Replayer, start: int, stop: int
) -> None:
    transcript = served(demo, start, stop, TEXT, places=BACK)
    # Behind a few orders of its rows no row is far enough off.
    drawn = [planted(demo, transcript, replayer.bounds) for _ in range(4)]
    faults = [each for each in drawn if each is not None]
    assert faults
    for fault in faults:
        assert input_root(fault.transcript) == input_root(transcript)
        assert replayer.judge(fault.transcript).finding is Finding.FAIL


def test_the_same_rows_at_other_places_are_another_input(demo: StoredModel) -> None:
    """A verifier that judged both must not seem to contradict itself; how rows were cut into steps is no matter."""
    straight = served(demo, 0, 4, TEXT[:12])
    roots = {input_root(straight)}
    for places in ([(0, 8), (4, 4)], [(0, 8), (0, 4)], [(0, 8), (5, 4)], [(0, 9), (8, 3)]):
        roots.add(input_root(served(demo, 0, 4, TEXT[:12], places=places)))
    assert len(roots) == 5
    for places in ([(0, 12)], [(0, 3), (3, 9)]):
        assert input_root(served(demo, 0, 4, TEXT[:12], places=places)) == input_root(straight)
    parts = served(demo, 0, 4, TEXT[:12], places=[(0, 2), (2, 6), (4, 1), (5, 3)])
    assert input_root(parts) == input_root(served(demo, 0, 4, TEXT[:12], places=[(0, 8), (4, 4)]))


@pytest.mark.parametrize("wire", WireDtype)
@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_a_planted_fault_is_found_by_whoever_computes(
    demo: StoredModel,
    replayer: Replayer,
    monkeypatch: pytest.MonkeyPatch,
    start: int,
    stop: int,
    wire: WireDtype,
) -> None:
    # Behind this order a tail over q8 rows has one that is far enough off only where few candidates are compared.
    monkeypatch.setattr(secrets, "SystemRandom", lambda: random.Random(26))
    transcript = served(demo, start, stop, TEXT, dtype=wire)
    assert replayer.judge(transcript).finding is Finding.PASS
    fault = planted(demo, transcript, replayer.bounds)
    assert fault is not None
    for profile in (transcript.record.profile, "another machine"):
        shown = fault.transcript
        judged = replayer.judge(Transcript(replace(shown.record, profile=profile), shown.steps))
        assert judged.finding is Finding.FAIL
        assert fault.refutes(judged.tolerance)


def changed(transcript: Transcript, index: int, **changes: object) -> Transcript:
    steps = list(transcript.steps)
    steps[index] = replace(steps[index], **changes)  # type: ignore[arg-type]
    return Transcript(transcript.record, tuple(steps))


def test_evidence_built_to_crash_is_refused_and_the_next_audit_works(
    demo: StoredModel, replayer: Replayer
) -> None:
    good = served(demo, 0, 4, TEXT)
    width = 4 * demo.manifest.width
    nan = np.full(demo.manifest.width, np.nan, "<f4").tobytes()
    record = good.record
    huge = tuple(
        AuditStep(seq, seq * 4096, 4096, 4096, bytes(4 * 4096), bytes(4096 * width)) for seq in range(2)
    )
    bad = [
        Transcript(record, ()),
        Transcript(record, huge),
        changed(good, 3, output=nan),
        changed(good, 3, output=b"x" * 3),
        changed(good, 3, output=bytes(8 * width)),
        changed(good, 3, input=b"\xff" * 4),
        changed(good, 3, input=pack_tokens(np.array([demo.manifest.n_vocab], np.int32))),
        changed(good, 3, input=b"\0"),
        changed(good, 3, position=0),
        Transcript(replace(record, layer_start=7, layer_stop=9), good.steps),
    ]
    for transcript in bad:
        with pytest.raises(NodeError):
            replayer.judge(transcript)
    assert replayer.judge(good).finding is Finding.PASS


def test_tails_with_impossible_rows_are_refused(demo: StoredModel, replayer: Replayer) -> None:
    good = served(demo, 4, 8, TEXT)
    for output in (b"\0" * 8, b"\0" * 17, good.steps[3].output * 2):
        with pytest.raises(NodeError):
            replayer.judge(changed(good, 3, output=output))
    with pytest.raises(BadEvidence, match="different numbers"):
        replayer.judge(changed(good, 3, output=good.steps[3].output[:72]))


def test_claims_are_numbers_to_fingerprint(demo: StoredModel) -> None:
    body, tail = served(demo, 0, 4, TEXT), served(demo, 4, 8, TEXT)
    assert claimed_numbers(body, demo.manifest.width, False).shape == (40, demo.manifest.width)
    assert claimed_numbers(tail, demo.manifest.width, True).shape == (33, 16)


def test_calibration_finds_the_same_steps_exact_here(bounds: Bounds) -> None:
    alone = [row for row in bounds.measured if row["variation"] == "alone" and row["comparison"] == "replay"]
    assert len(alone) == 2
    assert all(row["exact"] for row in alone)
    names = {row["variation"] for row in bounds.measured}
    assert {"in company", "f16 on the wire", "flash attention", "cache f32", "prefill by 16"} <= names


def test_answers_of_another_machine_widen_the_bounds(
    demo: StoredModel, bounds: Bounds, tmp_path: Path
) -> None:
    path = tmp_path / "there.npz"
    record(demo, path, texts=1, tokens=32)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["body"] = arrays["body"] * 1.05
    np.savez(path, **arrays)
    wider = calibrate(demo, texts=2, tokens=48, recordings=[path])
    assert wider.of("body", "foreign").accept_median > 0.05
    assert wider.of("body", "prefill") == bounds.of("body", "prefill")


@pytest.mark.parametrize("spoil", ["model_id", "texts", "body", "nan"])
def test_bad_recordings_are_refused(demo: StoredModel, tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "there.npz"
    record(demo, path, texts=1, tokens=24)
    with np.load(path) as file:
        arrays = dict(file)
    if spoil == "model_id":
        arrays["model_id"] = np.array("00" * 32)
    elif spoil == "nan":
        arrays["body"] = arrays["body"] * np.nan
    else:
        del arrays[spoil]
    np.savez(path, **arrays)
    with pytest.raises(BadRecording):
        calibrate(demo, texts=1, tokens=24, recordings=[path])


def test_a_profile_names_what_matters(demo: StoredModel) -> None:
    from hypercluster.node.engine.profile import profile

    plain = profile(Backend(), threads=1, chunk=64)
    assert plain == profile(Backend(), threads=8, chunk=64)
    others = [
        profile(Backend(), threads=1, chunk=32),
        profile(Backend(kv_type="f32"), threads=1, chunk=64),
        profile(Backend(flash_attention=True), threads=1, chunk=64),
        profile(Backend(flash_attention=True), threads=2, chunk=64),
    ]
    assert len({plain, *others}) == 5
    assert (
        stage_record(demo, 0, 4, profile=plain).stage.profile
        != stage_record(demo, 0, 4, profile=others[0]).stage.profile
    )


def test_bad_backends_and_cheats_are_named(demo: StoredModel) -> None:
    with pytest.raises(BadBackend, match="q9"):
        Backend(kv_type="q9")  # type: ignore[arg-type]
    with pytest.raises(BadBackend, match="flash attention"):
        Backend(kv_type="q8_0")
    with pytest.raises(UnknownCheat):
        doctored(demo.shard(0, 4), "noise")
    with pytest.raises(UnknownCheat):
        Tampering("quantised")
