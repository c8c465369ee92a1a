"""Random lives of sessions: whatever happened before, a session's results are those of its tokens alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType as Type
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from hypercluster.node.engine import steps as eng
from hypercluster.node.engine.engine import Engine
from hypercluster.node.shards import split
from tests.node.helpers.random_models import Shape, write_random_model

CAPACITY = 90
SHAPE = Shape(layers=3, n_embd=128, n_ff=256, quantisation=Type.Q4_0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("states") / "model.gguf", SHAPE)


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    shard = split(model, 0, 2, model.with_name("head.gguf"))
    with Engine(shard, True, False, n_ctx_total=4 * 256, max_sessions=4, threads=1, chunk=16) as engine:
        yield engine


def test_any_life_of_sessions_agrees_with_a_fresh_start(engine: Engine) -> None:
    class Lives(RuleBasedStateMachine):
        """Sessions of one engine, with the steps each would have to repeat to stand where it stands."""

        slots = Bundle("slots")

        @initialize()
        def clean(self) -> None:
            self.steps: dict[int, list[np.ndarray]] = {}
            self.rows: dict[int, list[np.ndarray]] = {}
            self.held: dict[int, int] = {}

        @rule(target=slots)
        def open(self) -> int:
            if len(self.steps) == 3:  # the fourth session is for starting afresh
                return -1
            slot = engine.open(CAPACITY)
            self.steps[slot], self.rows[slot], self.held[slot] = [], [], 0
            return slot

        @rule(slot=slots, ids=st.lists(st.integers(0, SHAPE.n_vocab - 1), min_size=1, max_size=40))
        def step(self, slot: int, ids: list[int]) -> None:
            if slot not in self.steps:
                with pytest.raises(eng.UnknownSlot):
                    engine.submit(slot, 0, np.array(ids, np.int32)).result()
                return
            at = sum(map(len, self.steps[slot]))
            payload = np.array(ids, np.int32)
            if at + len(ids) > CAPACITY:
                with pytest.raises(eng.TooLong):
                    engine.submit(slot, at, payload).result()
                return
            with pytest.raises(eng.OutOfOrder):
                engine.submit(slot, self.held[slot] + 1, payload)
            out = engine.submit(slot, at, payload).result().activations
            assert out is not None
            self.steps[slot].append(payload)
            self.rows[slot].append(out)
            self.held[slot] = at + len(ids)

        @rule(slot=slots, keep=st.floats(0, 1))
        def go_back(self, slot: int, keep: float) -> None:
            """The next step will start here, below what the engine holds."""
            if slot not in self.steps:
                return
            left = round(keep * len(self.steps[slot]))
            self.steps[slot], self.rows[slot] = self.steps[slot][:left], self.rows[slot][:left]

        @rule(slot=consumes(slots))
        def close(self, slot: int) -> None:
            if self.steps.pop(slot, None) is not None:
                engine.close(slot)

        @rule(slot=slots)
        def compare(self, slot: int) -> None:
            if slot not in self.steps:
                return
            fresh = engine.open(CAPACITY)
            at = 0
            for payload, rows in zip(self.steps[slot], self.rows[slot], strict=True):
                np.testing.assert_array_equal(engine.submit(fresh, at, payload).result().activations, rows)
                at += len(payload)
            engine.close(fresh)

        @invariant()
        def counted(self) -> None:
            assert engine.stats().sessions == len(self.steps)
            assert engine.stats().free == 4 - len(self.steps)

        def teardown(self) -> None:
            for slot in list(self.steps):
                self.compare(slot)
                self.close(slot)

    run: Any = Lives.TestCase
    run.settings = settings(
        max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run().runTest()


def test_thousands_of_random_requests_end_in_answers_or_errors(engine: Engine) -> None:
    draw = np.random.default_rng(0)
    good = engine.open(CAPACITY)
    before = engine.submit(good, 0, np.arange(20, dtype=np.int32)).result().activations
    kinds = [np.int32, np.int64, np.float32, np.uint8, np.bool_]
    extremes = [-(2**31), -1, 0, 1, SHAPE.n_vocab - 1, SHAPE.n_vocab, 2**31 - 1]
    slots = [0, -1, 2**63, 10**30]
    refused = answered = 0
    for _ in range(4000):
        try:
            action = draw.integers(4)
            slot: int = slots[draw.integers(len(slots))]
            if action == 0:
                slots.append(engine.open(int(draw.choice([*extremes, 5, 50]))))
            elif action == 1 and draw.random() < 0.3:
                engine.close(slot)
            else:
                shape = tuple(draw.integers(0, 5, draw.integers(0, 3)))
                values = draw.choice(extremes, shape) if draw.random() < 0.5 else draw.integers(0, 300, shape)
                payload: Any = np.asarray(values).astype(
                    kinds[draw.integers(len(kinds)) if draw.random() < 0.5 else 0]
                )
                engine.submit(
                    slot, int(draw.choice([0, 0, 1, *extremes])), payload, "all", int(draw.choice(extremes))
                ).result()
            answered += 1
        except eng.EngineError:
            refused += 1
    assert refused > 1000
    assert answered > 50
    for slot in slots:
        try:
            engine.close(slot)
        except eng.UnknownSlot:
            continue
    np.testing.assert_array_equal(
        engine.submit(good, 0, np.arange(20, dtype=np.int32)).result().activations, before
    )
    engine.close(good)


@pytest.mark.parametrize("last", [False, True])
def test_a_result_that_is_not_finite_fails_one_session_only(tmp_path: Path, last: bool) -> None:
    model = write_random_model(tmp_path / "model.gguf", Shape(layers=3))
    shard = split(model, 0, 3 if last else 2, tmp_path / "shard.gguf")
    embedding = next(t for t in GGUFReader(shard, "r+").tensors if t.name == "token_embd.weight")
    embedding.data[7] = np.nan
    assert isinstance(embedding.data, np.memmap)
    embedding.data.flush()

    with Engine(shard, True, last, n_ctx_total=512, max_sessions=2, threads=1) as engine:

        def run(slot: int, position: int, *ids: int) -> np.ndarray:
            out = engine.submit(slot, position, np.array(ids, np.int32)).result()
            return out.topk.logits if out.topk is not None else out.activations  # type: ignore[return-value]

        fine = engine.open(20)
        expected = run(fine, 0, 1, 2, 3)
        broken = engine.open(20)
        run(broken, 0, 1, 2)
        for ids in ([7], [3, 7, 4]):
            with pytest.raises(eng.NotFinite):
                run(broken, 2, *ids)
        with pytest.raises(eng.OutOfOrder, match="stands at 2"):
            run(broken, 3, 4)
        engine.close(broken)
        # the cells hold nan: nobody gets them until they can be zeroed
        with pytest.raises(eng.EngineFull):
            engine.open(20)
        np.testing.assert_array_equal(run(fine, 0, 1, 2, 3), expected)
        engine.close(fine)
        for slot in [engine.open(20), engine.open(20)]:
            np.testing.assert_array_equal(run(slot, 0, 1, 2, 3), expected)
