"""A shard is loaded while its weights are compared, and nothing of one that differs is ever served."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.profile import Backend
from hypercluster.node.engine.steps import EngineFull, EngineStopped
from hypercluster.node.provider.readying import Loader, Readying
from hypercluster.node.rows import TopK
from hypercluster.node.shards import ShardError
from hypercluster.node.shards.store import StoredModel, open_model

LOADER = Loader(start=2, stop=4, sessions=1, session_tokens=64, threads=1, backend=Backend(), step_tokens=8)


@pytest.fixture
def stored(tiny_model: Path, tmp_path: Path) -> StoredModel:
    return open_model(tiny_model, tmp_path)


def best(engine: Engine) -> TopK:
    slot = engine.open(8)
    found = engine.submit(slot, 0, np.ones((1, engine.width), np.float32)).result().topk
    engine.close(slot)
    assert found is not None
    return found


def good(stored: StoredModel) -> TopK:
    engine = LOADER.load(stored.shard(2, 4), stored.manifest)
    with engine:
        return best(engine)


def rot(path: Path) -> None:
    """Change a byte within the last tensor."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 64)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x40]))


@pytest.mark.parametrize("there", [True, False])
def test_a_shard_is_checked_loaded_and_timed(stored: StoredModel, there: bool) -> None:
    expected = good(stored)
    if not there:
        stored.shard_path(2, 4).unlink()
    told: list[int] = []
    with closing(Readying(stored, LOADER)) as readying:
        assert readying.shard(told.append) == stored.shard_path(2, 4)
        engine, speed = readying.ready()
        assert sum(told) > 0
        assert speed.cost_ms > 0
        assert np.array_equal(best(engine).logits, expected.logits)
    assert engine.stats().sessions == 0


def test_a_rotten_shard_is_made_again_and_loaded_anew(stored: StoredModel) -> None:
    expected = good(stored)
    rot(stored.shard_path(2, 4))
    with closing(Readying(stored, LOADER)) as readying:
        readying.shard(lambda _: None)
        engine, _ = readying.ready()
        assert np.array_equal(best(engine).logits, expected.logits)


def test_a_rotten_shard_without_its_model_is_not_served(stored: StoredModel) -> None:
    stored.shard(2, 4)
    rot(stored.shard_path(2, 4))
    shards_alone = replace(stored, source=None)
    with (
        closing(Readying(shards_alone, LOADER)) as readying,
        pytest.raises(ShardError, match="Delete it and make it again"),
    ):
        readying.shard(lambda _: None)


def test_who_gives_up_leaves_no_engine_behind(stored: StoredModel) -> None:
    stored.shard(2, 4)
    loading = threading.Event()

    def load(*arguments: Any, **named: Any) -> Engine:
        loading.wait()
        engines.append(Engine(*arguments, **named))
        return engines[-1]

    engines: list[Engine] = []
    readying = Readying(stored, replace(LOADER, engine=load))
    readying.close()  # and waits for no file, however long it takes to load
    readying.close()
    loading.set()
    for _ in range(6000):
        try:
            if engines:
                engines[0].open(8)
        except EngineFull:
            pass
        except EngineStopped:
            return
        time.sleep(0.01)
    pytest.fail("the engine still runs")
