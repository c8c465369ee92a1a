"""Steps that are computed without the engine's thread: the same bits, and whatever goes wrong is that thread's."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from hypercluster.node.engine.alone import Alone
from hypercluster.node.engine.apart import Apart
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.steps import EngineFailed, NotFinite, OutOfOrder, StepOutput, TooLong
from hypercluster.node.shards.slicing import split
from tests.node.helpers.random_models import Shape, write_random_model

SECONDS = 120
TEXT = np.arange(1, 30, dtype=np.int32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("alone")
    model = write_random_model(folder / "model.gguf", Shape(layers=4))
    return [split(model, a, b, folder / f"{a}.gguf") for a, b in ((0, 2), (2, 4))]


@pytest.fixture(params=[True, False], ids=["head", "tail"])
def engine(shards: list[Path], request: pytest.FixtureRequest) -> Iterator[Engine]:
    first = bool(request.param)
    with Engine(
        shards[0 if first else 1], first, not first, n_ctx_total=400, max_sessions=4, threads=1
    ) as engine:
        yield engine


def rows(engine: Engine, n: int, seed: int = 0) -> np.ndarray:
    if engine.first:
        return TEXT[seed : seed + n]
    return np.random.default_rng(seed).normal(size=(n, engine.width)).astype(np.float32)


def looked(step: Alone | None) -> StepOutput:
    """What comes of it, for who looks."""
    assert step is not None
    while step.ours:
        assert select.select([step.fd], [], [], SECONDS)[0]
        step.look()
    return step.done.result(SECONDS)


def same(one: StepOutput, other: StepOutput) -> None:
    if one.activations is not None:
        np.testing.assert_array_equal(one.activations, other.activations)
    else:
        assert one.topk is not None
        assert other.topk is not None
        np.testing.assert_array_equal(one.topk.ids, other.topk.ids)
        np.testing.assert_array_equal(one.topk.logits, other.topk.logits)


def test_they_give_the_same_bits(engine: Engine) -> None:
    alone, queued = engine.open(12), engine.open(12)
    engine.submit(alone, 0, rows(engine, 1)).result(SECONDS)
    engine.submit(queued, 0, rows(engine, 1)).result(SECONDS)
    position = 1
    for n in (1, 5, 1, 1):
        payload = rows(engine, n, seed=position)
        one = looked(engine.begin(alone, position, payload, "all", 7))
        same(one, engine.submit(queued, position, payload, "all", 7).result(SECONDS))
        position += n
    stats = engine.stats()
    assert stats.steps == 10
    with pytest.raises(OutOfOrder):
        engine.begin(alone, position + 1, rows(engine, 1))
    with pytest.raises(TooLong):
        engine.begin(alone, position, rows(engine, 5))
    if not engine.first:
        with pytest.raises(NotFinite):
            engine.begin(alone, position, np.full((1, engine.width), np.nan, np.float32))


def test_they_wait_for_nobody_and_nobody_is_passed_over(engine: Engine) -> None:
    first, other = engine.open(80), engine.open(80)
    for slot in (first, other):
        engine.submit(slot, 0, rows(engine, 1)).result(SECONDS)
    assert engine.begin(first, 0, rows(engine, 1)) is None, "the session has to be cut back before"
    step = engine.begin(first, 1, rows(engine, 1))
    assert step is not None
    assert engine.begin(other, 1, rows(engine, 1)) is None
    waiting = engine.submit(other, 1, rows(engine, 1))
    with pytest.raises(OutOfOrder):
        engine.submit(first, 2, rows(engine, 1))
    looked(step)
    waiting.result(SECONDS)


def test_what_is_left_is_seen_to(engine: Engine) -> None:
    slot, twin = engine.open(80), engine.open(80)
    for each in (slot, twin):
        engine.submit(each, 0, rows(engine, 1)).result(SECONDS)
    step = engine.begin(slot, 1, rows(engine, 1, 1))
    assert step is not None
    step.leave()
    step.leave()
    same(step.done.result(SECONDS), engine.submit(twin, 1, rows(engine, 1, 1)).result(SECONDS))
    looked(engine.begin(slot, 2, rows(engine, 1)))
    closed = engine.begin(slot, 3, rows(engine, 1))
    engine.close(slot)
    looked(closed)
    assert engine.stats().sessions == 1


def test_a_death_under_way_is_the_step_s_and_passes(engine: Engine) -> None:
    slot = engine.open(80)
    engine.submit(slot, 0, rows(engine, 1)).result(SECONDS)
    computing = engine._computing
    assert isinstance(computing, Apart)
    psutil.Process(computing.pid).suspend()
    step = engine.begin(slot, 1, rows(engine, 1))
    psutil.Process(computing.pid).kill()
    with pytest.raises(EngineFailed, match="SIGKILL"):
        looked(step)
    end = time.monotonic() + SECONDS
    while engine.trouble is not None:
        assert time.monotonic() < end
        time.sleep(0.02)
    again = engine.open(80)
    engine.submit(again, 0, rows(engine, 1)).result(SECONDS)
    looked(engine.begin(again, 1, rows(engine, 1)))


def test_an_engine_stops_though_nobody_looks(shards: list[Path]) -> None:
    engine = Engine(shards[0], True, False, n_ctx_total=400, max_sessions=4, threads=1)
    slot = engine.open(80)
    engine.submit(slot, 0, TEXT[:1]).result(SECONDS)
    step = engine.begin(slot, 1, TEXT[:1])
    assert step is not None
    engine.stop()
    assert step.done.result(SECONDS).activations is not None
    step.look()
    assert not step.ours
