"""A path of engines against the unsplit model, sessions against each other, and what an engine refuses."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.engine import reference
from hypercluster.node.engine import steps as eng
from hypercluster.node.engine.batching import MAX_ACTIVATION
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.llama import DecodeFailed, LoadFailed
from hypercluster.node.engine.speed import measure
from hypercluster.node.rows import TopK
from hypercluster.node.shards import build_manifest, split
from tests.node.helpers.random_models import Shape, write_random_model

MODELS = {
    "llama": Shape(layers=6),
    "llama-q4_0": Shape(layers=6, quantisation=Type.Q4_0),
    "llama3": Shape(layers=6, rope_freqs=True, tied=True),
    "qwen2": Shape("qwen2", layers=6),
    "qwen3": Shape("qwen3", layers=6, head_dim=32),
    "gpt2": Shape("gpt2", layers=6, tied=True),
    "bitnet": Shape("bitnet", layers=6, n_embd=256, n_ff=256, quantisation=Type.TQ1_0),
}


class Path3:
    """Engines chained by hand, the way a client drives them."""

    def __init__(self, engines: Sequence[Engine], capacity: int) -> None:
        self.engines = engines
        self.slots = [engine.open(capacity) for engine in engines]
        self.position = 0

    def step(self, tokens: Sequence[int], outputs: eng.Outputs = "last", wire: Any = np.float32) -> TopK:
        payload: Any = np.array(tokens, np.int32)
        for engine, slot in zip(self.engines, self.slots, strict=True):
            out = engine.submit(slot, self.position, payload, outputs, top_k=engine.n_vocab).result()
            if out.activations is not None:
                payload = out.activations.astype(wire).astype(np.float32)
        self.position += len(tokens)
        assert out.topk is not None
        return out.topk

    def close(self) -> None:
        for engine, slot in zip(self.engines, self.slots, strict=True):
            engine.close(slot)


def dense(best: TopK, row: int = -1) -> np.ndarray:
    logits = np.empty(best.ids.shape[1], np.float32)
    logits[best.ids[row]] = best.logits[row]
    return logits


def shards(directory: Path, shape: Shape, cuts: Sequence[int] = (0, 2, 4, 6)) -> tuple[Path, list[Path]]:
    model = write_random_model(directory / "model.gguf", shape)
    manifest = build_manifest(model)
    names = [directory / f"{a}-{b}.gguf" for a, b in itertools.pairwise(cuts)]
    for name, a, b in zip(names, cuts, cuts[1:], strict=False):
        split(model, a, b, name, manifest=manifest)
    return model, names


def engines(files: Sequence[Path], **options: Any) -> list[Engine]:
    settings = {"n_ctx_total": 1024, "max_sessions": 4, "threads": 1} | options
    last = len(files) - 1
    return [Engine(f, first=i == 0, last=i == last, **settings) for i, f in enumerate(files)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    return shards(tmp_path_factory.mktemp("shards"), MODELS["llama-q4_0"])


@pytest.fixture
def path(files: tuple[Path, list[Path]]) -> Iterator[list[Engine]]:
    with ExitStack() as stack:
        yield [stack.enter_context(engine) for engine in engines(files[1])]


@pytest.fixture(scope="module")
def middle(files: tuple[Path, list[Path]]) -> Iterator[Engine]:
    with Engine(files[1][1], False, False, n_ctx_total=512, max_sessions=4, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def head(files: tuple[Path, list[Path]]) -> Iterator[Engine]:
    with Engine(files[1][0], True, False, n_ctx_total=512, max_sessions=4, threads=1) as engine:
        yield engine


# --- equality with the unsplit model -----------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_three_shards_give_the_logits_of_the_unsplit_model(name: str, tmp_path: Path) -> None:
    model, parts = shards(tmp_path, MODELS[name])
    prompt = np.random.default_rng(1).integers(0, 320, 17).tolist()
    expected = reference.generate(model, prompt, 21, threads=1)
    with ExitStack() as stack:
        path = Path3([stack.enter_context(e) for e in engines(parts)], 64)
        best = path.step(prompt)
        for i in range(21):
            np.testing.assert_array_equal(dense(best), expected.logits[i])
            assert best.ids[0, 0] == expected.ids[i]
            if i < 20:
                best = path.step([int(best.ids[0, 0])])


def test_a_whole_model_is_a_shard_too(files: tuple[Path, list[Path]], tmp_path: Path) -> None:
    whole = split(files[0], 0, 6, tmp_path / "whole.gguf")
    expected = reference.generate(files[0], [5, 6, 7], 1, threads=1)
    with Engine(whole, True, True, n_ctx_total=256, max_sessions=1, threads=1) as engine:
        best = engine.submit(engine.open(8), 0, np.array([5, 6, 7], np.int32), top_k=3).result().topk
    assert best is not None
    assert best.ids.shape == (1, 3)
    assert best.ids[0, 0] == expected.ids[0]
    logits = expected.logits[0].astype(np.float64)
    assert best.logsumexp[0] == pytest.approx(np.log(np.exp(logits).sum()), abs=1e-6)


def test_a_prompt_longer_than_a_chunk_gives_every_row(
    path: list[Engine], files: tuple[Path, list[Path]]
) -> None:
    tokens = np.random.default_rng(2).integers(0, 320, 150).tolist()
    best = Path3(path, 200).step(tokens, outputs="all")
    assert best.ids.shape == (150, 320)
    for n in (1, 64, 65, 128, 150):
        row = reference.generate(files[0], tokens[:n], 1, threads=1).logits[0]
        np.testing.assert_allclose(dense(best, n - 1), row, atol=0.02)


def test_half_precision_on_the_wire_keeps_the_ids(path: list[Engine]) -> None:
    tokens = np.random.default_rng(3).integers(0, 320, 17).tolist()
    exact = Path3(path, 64).step(tokens, "all")
    half = Path3(path, 64).step(tokens, "all", wire=np.float16)
    for row in range(17):
        np.testing.assert_allclose(dense(half, row), dense(exact, row), atol=0.2)
    assert (half.ids[:, 0] == exact.ids[:, 0]).mean() > 0.9


# --- many sessions -----------------------------------------------------------------------------------------


def continue_greedily(path: Path3, best: TopK, n: int) -> list[int]:
    ids = []
    for _ in range(n):
        ids.append(int(best.ids[0, 0]))
        best = path.step(ids[-1:])
    return ids


def test_interleaved_sessions_do_not_touch_each_other(
    path: list[Engine], files: tuple[Path, list[Path]]
) -> None:
    draw = np.random.default_rng(4)
    prompts = [draw.integers(0, 320, n).tolist() for n in (3, 70, 17)]
    expected = [reference.generate(files[0], prompt, 11, threads=1).logits for prompt in prompts]
    sessions = [Path3(path, 100) for _ in prompts]
    best = [session.step(prompt) for session, prompt in zip(sessions, prompts, strict=True)]
    for i in range(10):
        for at, session in enumerate(sessions):
            np.testing.assert_array_equal(dense(best[at]), expected[at][i])
            best[at] = session.step([int(best[at].ids[0, 0])])


def test_steps_that_wait_together_share_a_decode_and_change_nothing(path: list[Engine]) -> None:
    draw = np.random.default_rng(5)
    prompts = [draw.integers(0, 320, 9).tolist() for _ in range(4)]
    alone = []
    for prompt in prompts:
        session = Path3(path, 64)
        alone.append(continue_greedily(session, session.step(prompt), 20))
        session.close()
    sessions = [Path3(path, 64) for _ in prompts]
    together: dict[int, list[int]] = {}

    def run(at: int) -> None:
        together[at] = continue_greedily(sessions[at], sessions[at].step(prompts[at]), 20)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[at] for at in range(4)] == alone


def held(engine: Engine) -> tuple[threading.Event, threading.Event]:
    """Keep the engine's thread inside a callback until the second event is set."""
    inside, release = threading.Event(), threading.Event()

    def done(_: object) -> None:
        inside.set()
        release.wait(10)

    slot = engine.open(4)
    engine.submit(slot, 0, payload(engine, 1)).add_done_callback(done)
    inside.wait(10)
    engine.close(slot)
    return inside, release


def payload(engine: Engine, n: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    if engine.first:
        return draw.integers(0, engine.n_vocab, n, dtype=np.int32)
    return draw.standard_normal((n, engine.width), dtype=np.float32)


@pytest.mark.parametrize("taken", [(0, 1, 2), (0, 2), (1,)])
def test_waiting_single_rows_go_into_one_decode_with_the_same_result(
    middle: Engine, taken: tuple[int, ...]
) -> None:
    rows = {at: payload(middle, 1, seed=at) for at in taken}
    alone = {}
    for at, row in rows.items():
        slot = middle.open(8)
        alone[at] = middle.submit(slot, 0, row).result().activations
        middle.close(slot)
    _, release = held(middle)
    slots = [middle.open(8) for _ in range(3)]
    before = middle.stats().decodes
    waiting = {at: middle.submit(slots[at], 0, row) for at, row in reversed(rows.items())}
    release.set()
    answers = {at: answer.result(10) for at, answer in waiting.items()}
    assert middle.stats().decodes == before + 1
    assert middle.stats().largest_batch >= len(taken)
    for at in taken:
        np.testing.assert_array_equal(answers[at].activations, alone[at])
    for slot in slots:
        middle.close(slot)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"prompt": 128, "token": 1}, ["token", "prompt"]),
        # Prompts have their chunks in turn, so a short one does not wait for the whole of a long one.
        ({"prompt": 128, "shorter": 60, "token": 1}, ["token", "shorter", "prompt"]),
    ],
)
def test_nobody_waits_for_the_whole_prompt_of_another(
    head: Engine, rows: dict[str, int], expected: list[str]
) -> None:
    _, release = held(head)
    slots = {name: head.open(count) for name, count in rows.items()}
    order: list[str] = []
    steps = {name: head.submit(slots[name], 0, payload(head, count)) for name, count in rows.items()}
    for name, step in steps.items():
        step.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
    release.set()
    wait(steps.values(), 10)
    assert order == expected
    for slot in slots.values():
        head.close(slot)


# --- states ------------------------------------------------------------------------------------------------


def test_a_session_is_refused_what_does_not_fit(middle: Engine) -> None:
    slot = middle.open(10)
    middle.submit(slot, 0, payload(middle, 4)).result()
    for position in (-1, 5, 2**40):
        with pytest.raises(eng.OutOfOrder):
            middle.submit(slot, position, payload(middle, 1))
    with pytest.raises(eng.TooLong):
        middle.submit(slot, 4, payload(middle, 7)).result()
    middle.submit(slot, 4, payload(middle, 6)).result()
    with pytest.raises(eng.TooLong):
        middle.submit(slot, 10, payload(middle, 1)).result()
    middle.close(slot)
    for use in (
        lambda: middle.submit(slot, 10, payload(middle, 1)).result(),
        lambda: middle.close(slot),
    ):
        with pytest.raises(eng.UnknownSlot):
            use()


def test_a_full_engine_says_so_until_a_session_ends(middle: Engine) -> None:
    slots = [middle.open(5) for _ in range(4)]
    assert middle.stats().free == 0
    with pytest.raises(eng.EngineFull):
        middle.open(5)
    with pytest.raises(eng.EngineFull):
        measure(middle)
    middle.close(slots.pop())
    slots.append(middle.open(5))
    assert len(set(slots)) == 4
    for slot in slots:
        middle.close(slot)
    assert middle.stats().free == 4
    for capacity in (0, -1, middle.max_capacity + 1):
        with pytest.raises(eng.TooLong):
            middle.open(capacity)


def test_bad_payloads_are_refused_and_change_nothing(middle: Engine, head: Engine) -> None:
    slot = middle.open(16)
    before = middle.submit(slot, 0, payload(middle, 2)).result().activations
    good = payload(middle, 2)
    nan, infinite, huge = good.copy(), good.copy(), good.copy()
    nan[0, 3], infinite[1, 0], huge[0, 0] = np.nan, -np.inf, 1e30
    for bad in (nan, infinite, huge):
        with pytest.raises(eng.NotFinite):
            middle.submit(slot, 2, bad).result()
    for shape in (
        good[:0],
        good[:, :-1],
        good[0],
        good.astype(np.float64),
        good[None],
        np.zeros(4, np.int32),
    ):
        with pytest.raises(eng.BadShape):
            middle.submit(slot, 2, shape).result()  # the wrong kinds of array are the point
    np.testing.assert_array_equal(middle.submit(slot, 0, payload(middle, 2)).result().activations, before)
    middle.close(slot)

    slot = head.open(16)
    for ids in ([-1], [320], [2**31 - 1], [-(2**31)], [], [[1, 2]]):
        with pytest.raises(eng.BadShape):
            head.submit(slot, 0, np.array(ids, np.int32)).result()
    for other in (np.array([1], np.int64), np.array([1.0], np.float32)):
        with pytest.raises(eng.BadShape):
            head.submit(slot, 0, other).result()  # the same
    with pytest.raises(eng.BadShape, match="candidate"):
        head.submit(slot, 0, payload(head, 1), top_k=0).result()
    head.close(slot)


def test_views_and_foreign_memory_layouts_are_read_right(middle: Engine) -> None:
    slot = middle.open(16)
    rows = payload(middle, 4)
    expected = middle.submit(slot, 0, rows).result().activations
    for same in (
        np.asfortranarray(rows),
        np.repeat(rows, 2, axis=0)[::2],
        np.frombuffer(rows.tobytes(), np.float32),
    ):
        np.testing.assert_array_equal(
            middle.submit(slot, 0, same.reshape(rows.shape)).result().activations, expected
        )
    middle.close(slot)


def test_the_largest_activations_leave_nothing_behind(middle: Engine) -> None:
    slot = middle.open(64)
    expected = middle.submit(slot, 0, payload(middle, 3)).result().activations
    middle.close(slot)
    for value in (MAX_ACTIVATION, -MAX_ACTIVATION, 0.0, 1e-45):
        slot = middle.open(64)
        rows = np.full((64, middle.width), value, np.float32)
        try:
            found = middle.submit(slot, 0, rows).result().activations
            assert found is not None
            assert np.isfinite(found).all()
        except eng.NotFinite:
            assert value == 0.0
        middle.close(slot)
    slot = middle.open(64)
    np.testing.assert_array_equal(middle.submit(slot, 0, payload(middle, 3)).result().activations, expected)
    middle.close(slot)


def test_one_step_at_a_time_and_a_closed_session_s_step_fails(head: Engine) -> None:
    _, release = held(head)
    slot = head.open(128)
    first = head.submit(slot, 0, payload(head, 100))
    assert not first.cancel()
    for position in (100, 0):
        with pytest.raises(eng.OutOfOrder, match="still running"):
            head.submit(slot, position, payload(head, 1))
    head.close(slot)
    release.set()
    with pytest.raises(eng.UnknownSlot):
        first.result(10)
    assert head.stats().free == 4


def test_a_callback_that_raises_harms_nobody(head: Engine) -> None:
    slot = head.open(4)
    finished = threading.Event()

    def bad(_: object) -> None:
        finished.set()
        raise ValueError("on purpose")

    head.submit(slot, 0, payload(head, 1)).add_done_callback(bad)
    assert finished.wait(10)
    head.submit(slot, 1, payload(head, 1)).result()
    head.close(slot)


def test_stopping_fails_what_waits_and_frees_the_rest(files: tuple[Path, list[Path]]) -> None:
    engine = Engine(files[1][0], True, False, n_ctx_total=512, max_sessions=2, threads=1)
    _, release = held(engine)
    slot = engine.open(200)
    step = engine.submit(slot, 0, payload(engine, 200))
    stopper = threading.Thread(target=engine.stop)
    stopper.start()
    release.set()
    stopper.join()
    assert isinstance(step.exception(10), eng.EngineStopped)
    engine.stop()
    engine.close(slot)
    for use in (lambda: engine.open(1), lambda: engine.submit(slot, 0, payload(engine, 1)).result()):
        with pytest.raises(eng.EngineStopped):
            use()


def test_measuring_gives_times_and_leaves_no_session(head: Engine) -> None:
    times = measure(head)
    assert times.decode_ms > 0
    assert times.prefill_ms > 0
    assert head.stats().sessions == 0


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.gguf").write_bytes(b"GGUF" + np.random.default_rng(0).bytes(4096))
    for name in ("noise.gguf", "missing.gguf"):
        with pytest.raises(LoadFailed):
            Engine(tmp_path / name, True, True, n_ctx_total=64, max_sessions=1, threads=1)


def test_the_number_of_threads_changes_nothing(files: tuple[Path, list[Path]]) -> None:
    prompt = np.random.default_rng(6).integers(0, 320, 100).tolist()
    one, two = (reference.generate(files[0], prompt, 10, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.logits, two.logits)


def test_an_engine_may_be_stopped_from_its_own_callback(files: tuple[Path, list[Path]]) -> None:
    engine = Engine(files[1][0], True, False, n_ctx_total=64, max_sessions=1, threads=1)
    engine.submit(engine.open(4), 0, payload(engine, 1)).add_done_callback(lambda _: engine.stop())
    engine.stop()


def test_errors_tell_a_peer_their_code() -> None:
    codes = {error.__name__: error.code.name for error in eng.EngineError.__subclasses__()}
    assert codes == {
        "EngineFull": "FULL",
        "UnknownSlot": "UNKNOWN_SESSION",
        "OutOfOrder": "OUT_OF_ORDER",
        "CannotRewind": "OUT_OF_ORDER",
        "TooLong": "TOO_LONG",
        "BadShape": "BAD_SHAPE",
        "NotFinite": "NOT_FINITE",
        "StepFailed": "INTERNAL",
        "EngineFailed": "ENGINE_FAILED",
        "EngineStopped": "INTERNAL",
    }


def test_a_failed_decode_leaves_everyone_where_they_were(
    middle: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = middle.open(100)
    middle.submit(slot, 0, payload(middle, 3)).result()
    expected = middle.submit(slot, 3, payload(middle, 70, seed=1)).result().activations
    compute, calls = middle._computing.compute, []

    def fails_the_second_time(n: int) -> None:
        compute(n)
        calls.append(n)
        if len(calls) == 2:
            raise DecodeFailed("on purpose")

    monkeypatch.setattr(middle._computing, "compute", fails_the_second_time)
    with pytest.raises(eng.StepFailed, match="on purpose"):
        middle.submit(slot, 3, payload(middle, 70, seed=1)).result()
    assert calls == [64, 6]
    np.testing.assert_array_equal(
        middle.submit(slot, 3, payload(middle, 70, seed=1)).result().activations, expected
    )
    middle.close(slot)
