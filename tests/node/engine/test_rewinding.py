"""A step may start below what its session holds: what lies behind it is forgotten first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.slots import Slots
from hypercluster.node.engine.steps import CannotRewind, EngineFull, OutOfOrder, Outputs, TooLong, Work
from hypercluster.node.rows import TopK
from hypercluster.node.shards import split
from tests.node.helpers.mamba import write_random_mamba
from tests.node.helpers.random_models import Shape, write_random_model

TEXT = [int(token) for token in np.random.default_rng(1).integers(0, 320, 90)]


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("model")
    shape = Shape(request.param, layers=3, head_dim=32 if request.param == "qwen3" else None)
    whole = split(write_random_model(folder / "model.gguf", shape), 0, 3, folder / "whole.gguf")
    with Engine(whole, True, True, n_ctx_total=400, max_sessions=4, threads=1, chunk=16) as engine:
        yield engine


def run(engine: Engine, slot: int, position: int, ids: Sequence[int], outputs: Outputs = "last") -> TopK:
    found = engine.submit(slot, position, np.array(ids, np.int32), outputs, engine.n_vocab).result(30).topk
    assert found is not None
    return found


def same(one: TopK, other: TopK) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.logits, other.logits)


@pytest.mark.parametrize("position", [0, 1, 7, 15, 16, 17, 38])
@pytest.mark.parametrize("rows", [1, 2, 20])
def test_tokens_after_a_step_back_are_those_of_a_fresh_session(
    engine: Engine, position: int, rows: int
) -> None:
    assert engine.rewinds
    slot, fresh = engine.open(100), engine.open(100)
    others = [(token + 100) % 320 for token in TEXT]
    for each in (slot, fresh) if position else ():
        run(engine, each, 0, TEXT[:position])
    run(engine, slot, position, others[: 39 - position])
    again = run(engine, slot, position, TEXT[:rows], "all")
    same(again, run(engine, fresh, position, TEXT[:rows], "all"))
    for at in range(position + rows, position + rows + 5):
        same(run(engine, slot, at, TEXT[at : at + 1]), run(engine, fresh, at, TEXT[at : at + 1]))
    engine.close(slot)
    engine.close(fresh)


def test_a_step_back_does_not_touch_the_neighbours(engine: Engine) -> None:
    slots = [engine.open(60) for _ in range(3)]
    for slot in slots:
        run(engine, slot, 0, TEXT[:20])
    expected = run(engine, slots[0], 20, TEXT[20:22], "all")
    run(engine, slots[1], 3, TEXT[30:35])
    same(run(engine, slots[2], 20, TEXT[20:22], "all"), expected)
    for slot in slots:
        engine.close(slot)


def test_what_is_refused_forgets_nothing(engine: Engine) -> None:
    slot, fresh = engine.open(20), engine.open(20)
    for each in (slot, fresh):
        run(engine, each, 0, TEXT[:10])
    with pytest.raises(OutOfOrder, match="starts at 11, the session stands at 10"):
        engine.submit(slot, 11, np.array([1], np.int32))
    with pytest.raises(TooLong):
        engine.submit(slot, 5, np.array(TEXT[:16], np.int32))
    same(run(engine, slot, 10, TEXT[10:11]), run(engine, fresh, 10, TEXT[10:11]))
    engine.close(slot)
    engine.close(fresh)


def test_a_capacity_is_of_what_is_held_and_not_of_what_was_run(engine: Engine) -> None:
    slot = engine.open(10)
    run(engine, slot, 0, TEXT[:10])
    for _ in range(5):
        run(engine, slot, 4, TEXT[4:10])
    with pytest.raises(TooLong):
        engine.submit(slot, 10, np.array([1], np.int32))
    engine.close(slot)


def test_a_model_that_cannot_go_back_says_so_and_goes_on(tmp_path: Path) -> None:
    model = write_random_mamba(tmp_path / "mamba.gguf")
    with Engine(model, True, True, n_ctx_total=200, max_sessions=2, threads=1) as engine:
        assert not engine.rewinds
        slot, fresh = engine.open(50), engine.open(50)
        for each in (slot, fresh):
            run(engine, each, 0, TEXT[:10])
        with pytest.raises(CannotRewind, match="stands at 10 and this model cannot go back"):
            engine.submit(slot, 5, np.array([1], np.int32))
        same(run(engine, slot, 10, TEXT[10:11]), run(engine, fresh, 10, TEXT[10:11]))
        # From the very beginning every model can start again.
        expected = run(engine, fresh, 0, TEXT[5:9])
        same(run(engine, slot, 0, TEXT[5:9]), expected)
        # Where llama.cpp refuses what we thought that it can do, one session is told, and stays as it was.
        engine.rewinds = True
        with pytest.raises(CannotRewind, match="cannot go back to position 2"):
            run(engine, slot, 2, TEXT[:1])
        same(run(engine, slot, 4, TEXT[:1]), run(engine, fresh, 4, TEXT[:1]))


@pytest.mark.parametrize("position", [1, 16, 29, 30])
def test_a_copy_goes_on_as_if_it_had_computed_it_all(engine: Engine, position: int) -> None:
    """Also where the other one went on, and ended, and somebody else has its cells, before anything was computed."""
    slot, fresh = engine.open(60), engine.open(60)
    run(engine, slot, 0, TEXT[:30])
    copy = engine.branch(slot, position, 60)
    run(engine, fresh, 0, TEXT[:30])
    same(run(engine, slot, 30, TEXT[40:41]), run(engine, fresh, 30, TEXT[40:41]))
    again = engine.branch(copy, position, 60)
    engine.close(copy)
    engine.close(slot)
    other = engine.open(60)
    run(engine, other, 0, TEXT[60:80])
    for at in range(position, position + 3):
        same(run(engine, again, at, TEXT[at : at + 1]), run(engine, fresh, at, TEXT[at : at + 1]))
    for each in (again, other, fresh):
        engine.close(each)


def test_what_does_not_stay_is_not_copied(engine: Engine) -> None:
    slot = engine.open(60)
    with pytest.raises(OutOfOrder):
        engine.branch(slot, 1, 60)
    run(engine, slot, 0, TEXT[:10])
    for position in (0, 11):
        with pytest.raises(OutOfOrder):
            engine.branch(slot, position, 60)
    with pytest.raises(TooLong):
        engine.branch(slot, 10, 9)
    engine.close(slot)


def test_what_a_step_under_way_goes_back_behind_is_not_copied() -> None:
    slots = Slots(3)
    number = slots.take(60, 60)
    place = slots.of(number)
    place.length = 10
    place.work = Work(place.sequence, 4, np.zeros(2, np.int32), False, 8)
    with pytest.raises(OutOfOrder):
        slots.branch(number, 5, 60, 60)
    assert slots.of(slots.branch(number, 4, 60, 60)).length == 4
    # Cells that may hold what is no number are nobody else's.
    place.tainted, place.work = True, None
    with pytest.raises(OutOfOrder):
        slots.branch(number, 4, 60, 60)
    place.tainted = False
    slots.branch(number, 10, 60, 60)
    with pytest.raises(EngineFull):
        slots.branch(number, 10, 60, 60)
