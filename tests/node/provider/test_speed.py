"""A provider's own figure of its speed: the best of several at the start, and right again whenever it changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.speed import measure
from hypercluster.node.engine.steps import Measurement
from hypercluster.node.provider.speed import FIRST_AGAIN, LAST_AGAIN, ROUNDS, START_ROWS, Speed
from hypercluster.node.shards.store import StoredModel


class Timing:
    """Times an engine as a machine does on which it runs so many times slower, time after time; the last one stays."""

    def __init__(self, engine: Engine) -> None:
        self.slower = [1.0]
        self.rounds = 0
        self.rows: list[int | None] = []
        self.honest = measure(engine)

    def __call__(self, engine: Engine, rows: int | None) -> Measurement:
        self.rounds += 1
        self.rows.append(rows)
        # One real measurement for all, so that the figures can be compared.
        measure(engine)
        factor = self.slower.pop(0) if len(self.slower) > 1 else self.slower[0]
        return Measurement(factor * self.honest.decode_ms, factor * self.honest.prefill_ms)


@pytest.fixture
def engine(stored_tiny: StoredModel) -> Iterator[Engine]:
    shard = stored_tiny.shard(0, 4)
    with Engine(shard, first=True, last=True, n_ctx_total=128, max_sessions=2, threads=1) as engine:
        yield engine


@pytest.fixture
def timing(engine: Engine) -> Timing:
    return Timing(engine)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_o6_what_else_the_machine_does_at_the_start_is_no_part_of_the_figure(
    engine: Engine, timing: Timing
) -> None:
    """O6: the best of several rounds counts."""
    timing.slower = [9.0, 3.0, 1.0, 5.0, 2.0, 2.0]
    speed = Speed(engine, timing=timing, throttle_ms=4.0, step_tokens=16, clock=Clock())
    speed.measure()
    assert speed.cost_ms == pytest.approx(4.0 + timing.honest.decode_ms)
    assert speed.prompt_ms == pytest.approx(4.0 / 16 + timing.honest.prefill_ms)


def test_only_the_first_round_at_a_start_is_of_fewer_rows(engine: Engine, timing: Timing) -> None:
    clock = Clock()
    speed = Speed(engine, timing=timing, clock=clock)
    speed.measure(START_ROWS)
    assert timing.rows == [START_ROWS] + [None] * (ROUNDS - 1)
    timing.rows, clock.now = [], FIRST_AGAIN
    speed.look()
    assert timing.rows == [None] * ROUNDS


def test_o6_an_idle_provider_measures_itself_again_ever_more_seldom(engine: Engine, timing: Timing) -> None:
    """O6: a figure that was wrong at the start is right soon after the machine is free."""
    clock = Clock()
    timing.slower = [3.0]
    speed = Speed(engine, timing=timing, clock=clock)
    speed.measure()
    assert speed.cost_ms == pytest.approx(3 * timing.honest.decode_ms)
    timing.slower = [1.0]
    speed.look()
    assert speed.cost_ms == pytest.approx(3 * timing.honest.decode_ms)
    clock.now = FIRST_AGAIN
    speed.look()
    assert speed.cost_ms == pytest.approx(timing.honest.decode_ms)
    timing.rounds, times = 0, []
    while clock.now < 10 * LAST_AGAIN:
        clock.now += 5.0
        before, due = timing.rounds, speed.due
        speed.look()
        assert due == (timing.rounds > before)
        if due:
            times.append(clock.now)
    pauses = np.diff(times)
    assert pauses[0] >= 2 * FIRST_AGAIN
    assert pauses[-1] == LAST_AGAIN
    assert (np.diff(pauses) >= 0).all()


def test_o6_what_is_served_is_the_measurement(engine: Engine, timing: Timing) -> None:
    """O6: while there are clients the figure is what their steps take, and nobody is kept waiting to measure."""
    clock = Clock()
    timing.slower = [50.0]
    speed = Speed(engine, timing=timing, clock=clock)
    speed.measure()
    timing.rounds = 0
    slot = engine.open(40)
    for position in range(40):
        engine.submit(slot, position, np.array([7], np.int32)).result()
    assert speed.due
    speed.look()
    clock.now = 10 * FIRST_AGAIN
    speed.look()
    assert timing.rounds == 0
    assert speed.cost_ms == pytest.approx(engine.stats().ms_per_decode)
    # A session that only waits is no reason to measure either, nor to forget.
    clock.now += LAST_AGAIN
    speed.look()
    assert timing.rounds == 0
    engine.close(slot)
    speed.look()
    assert timing.rounds > 0
