"""The engine's other process: what its death costs, and what comes of it by itself."""

from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from hypercluster.node.engine import apart, leash, processes, starting
from hypercluster.node.engine import engine as engine_module
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.engine.loading import Loading
from hypercluster.node.engine.steps import EngineFailed, EngineStopped
from hypercluster.node.errors import ErrorCode
from hypercluster.node.shards.slicing import split
from tests.node.helpers.random_models import Shape, write_random_model

TEXT = np.arange(1, 30, dtype=np.int32)
SECONDS = 120


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("apart") / "model.gguf", Shape(layers=2))


@pytest.fixture
def engine(model: Path) -> Iterator[Engine]:
    with Engine(model, True, True, n_ctx_total=400, max_sessions=4, threads=1) as engine:
        yield engine


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def process_of(engine: Engine) -> psutil.Process:
    computing = engine._computing
    assert isinstance(computing, apart.Apart)
    return psutil.Process(computing.pid)


def test_both_ways_to_run_llama_cpp_give_the_same_bits(model: Path, engine: Engine) -> None:
    with Engine(model, True, True, n_ctx_total=400, max_sessions=4, threads=1, apart=False) as here:
        for step in ("all", "last"):
            both = [
                each.submit(each.open(40), 0, TEXT, step, top_k=7).result(SECONDS).topk
                for each in (engine, here)
            ]
            assert both[0] is not None
            assert both[1] is not None
            for name in ("ids", "logits", "logsumexp"):
                np.testing.assert_array_equal(getattr(both[0], name), getattr(both[1], name))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries do not read it")
@pytest.mark.parametrize(
    ("told", "huge"),
    [
        (None, True),
        ("glibc.malloc.arena_max=2", True),
        ("glibc.malloc.hugetlb=0", False),
    ],
)
def test_large_blocks_of_the_engine_ask_for_huge_pages_unless_the_user_says_otherwise(
    model: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, huge: bool
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if told is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", told)
    with Engine(model, True, True, n_ctx_total=400, max_sessions=4, threads=1) as engine:
        process = process_of(engine)
        asked = [
            line
            for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines()
            if line.startswith("VmFlags:") and "hg" in line.split()
        ]
        assert bool(asked) == huge
        assert (told or "") in process.environ()["GLIBC_TUNABLES"]


def test_a_death_is_noticed_though_nobody_asks(engine: Engine) -> None:
    slot, process = engine.open(40), process_of(engine)
    process.kill()
    until(lambda: engine.trouble is not None)
    until(lambda: engine.trouble is None)
    assert process_of(engine).pid != process.pid
    with pytest.raises(EngineFailed, match="SIGKILL"):
        engine.submit(slot, 0, TEXT)
    engine.submit(engine.open(40), 0, TEXT).result(SECONDS)


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_death_costs_the_sessions_and_the_next_ones_go_on(engine: Engine, how: signal.Signals) -> None:
    running, idle = engine.open(40), engine.open(40)
    expected = engine.submit(idle, 0, TEXT).result(SECONDS).topk
    assert expected is not None
    process = process_of(engine)
    process.suspend()  # so that the step is under way when it dies
    step = engine.submit(running, 0, TEXT)
    waiting = engine.submit(idle, len(TEXT), TEXT[:1])
    os.kill(process.pid, how)
    process.resume()
    for each in (step, waiting):
        error = each.exception(SECONDS)
        assert isinstance(error, EngineFailed)
        assert error.code is ErrorCode.ENGINE_FAILED
        assert how.name in str(error)
    for slot in (running, idle):
        with pytest.raises(EngineFailed, match="this session"):
            engine.submit(slot, 0, TEXT)
        engine.close(slot)
    until(lambda: engine.trouble is None)
    assert engine.stats().failures == 1
    assert engine.stats().free == 4
    again = engine.submit(engine.open(40), 0, TEXT).result(SECONDS).topk
    assert again is not None
    np.testing.assert_array_equal(again.logits, expected.logits)


def test_while_it_is_down_nobody_is_let_in_and_it_can_be_stopped(model: Path, engine: Engine) -> None:
    moved = model.with_name("elsewhere.gguf")
    model.rename(moved)  # it cannot start again
    try:
        process_of(engine).kill()
        with pytest.raises(EngineFailed):
            engine.submit(engine.open(40), 0, TEXT).result(SECONDS)
        until(lambda: "does not load again" in (engine.trouble or ""))
        with pytest.raises(EngineFailed, match=r"no model file|cannot be") as caught:
            engine.open(40)
        assert caught.value.wait > 0
        assert engine.stats().free == 0
        engine.stop()
        with pytest.raises(EngineStopped):
            engine.open(40)
    finally:
        moved.rename(model)


def test_what_aborts_while_it_loads_is_an_error_with_what_llama_cpp_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the child before it answers, here a library that the loader cannot find."""
    (tmp_path / "llama_cpp.py").write_text(
        "import os, sys\nprint('GGML_ASSERT(x) failed', file=sys.stderr)\nos.abort()"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LlamaError, match=r"ended by SIGABRT: GGML_ASSERT\(x\) failed"):
        Engine(model, True, True, n_ctx_total=40, max_sessions=1, threads=1)


def test_the_child_ends_with_its_engine_and_with_whoever_is_killed(model: Path) -> None:
    with Engine(model, True, True, n_ctx_total=40, max_sessions=1, threads=1) as engine:
        child = process_of(engine)
    assert not child.is_running()
    code = (
        "import sys, time; from pathlib import Path; from hypercluster.node.engine.engine import Engine\n"
        "engine = Engine(Path(sys.argv[1]), True, True, n_ctx_total=40, max_sessions=1, threads=1)\n"
        "print(engine._computing.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, model], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        child = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_process_begun_ahead_is_that_of_the_first_engine(model: Path) -> None:
    def engine() -> Engine:
        return Engine(model, True, True, n_ctx_total=40, max_sessions=1, threads=1)

    def children() -> set[int]:
        return {each.pid for each in psutil.Process().children()}

    before = children()
    with processes.begun_ahead():
        (ahead,) = children() - before
        with engine() as first, engine() as second:
            assert process_of(first).pid == ahead
            assert process_of(second).pid != ahead
            first.submit(first.open(40), 0, TEXT).result(SECONDS)
    assert children() == before


def test_a_process_begun_ahead_that_nobody_takes_is_ended(model: Path) -> None:
    with processes.begun_ahead():
        (ahead,) = processes._ahead
    assert ahead.process.poll() is not None
    with Engine(model, True, True, n_ctx_total=40, max_sessions=1, threads=1) as engine:
        assert process_of(engine).pid != ahead.process.pid


def test_a_process_begun_ahead_ends_when_nobody_can_ask_it_anything_more() -> None:
    """As when the one that began it is killed."""
    begun = processes.Begun()
    assert begun.process.stdin is not None
    begun.process.stdin.close()
    assert begun.process.wait(SECONDS) == 0
    begun.end()


def test_what_llama_cpp_logs_is_logged_here(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = split(model, 0, 1, tmp_path / "head.gguf")
    with (
        caplog.at_level(logging.DEBUG, "hypercluster.llama"),
        Engine(shard, True, False, n_ctx_total=40, max_sessions=1, threads=1),
    ):
        assert any("llama" in record.getMessage() for record in caplog.records)


def test_pauses_grow_until_a_start_has_lasted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = Loading(
        shard=model, first=True, last=True, n_ctx_total=40, max_sessions=1, threads=1, chunk=8,
        gpu_layers=-1, main_gpu=-1, tensor_split=(), flash_attention=False, kv_type="f16", repack=True,
    )  # fmt: skip
    starts = starting.Starts(loading, apart=False)
    starts.load().close()
    assert [starts.pause() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    monkeypatch.setattr(starting, "LASTING", -1.0)
    assert starts.pause() == 0.5


def test_what_hangs_is_ended_and_started_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit follows what calls took before; a call within it is waited for."""
    slot = engine.open(40)
    expected = engine.submit(slot, 0, TEXT).result(SECONDS).topk
    assert expected is not None
    process = process_of(engine)
    process.suspend()
    slow = engine.submit(slot, len(TEXT), TEXT[:2])
    time.sleep(0.2)  # nothing like hung
    process.resume()
    slow.result(SECONDS)
    monkeypatch.setattr(leash, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(leash, "TIMES", 2.0)
    monkeypatch.setattr(leash, "LOOK_SECONDS", 0.1)
    process.suspend()
    error = engine.submit(slot, len(TEXT), TEXT[:2]).exception(SECONDS)
    assert isinstance(error, EngineFailed)
    assert "gave no answer within" in str(error)
    assert not process.is_running()
    until(lambda: engine.trouble is None)
    again = engine.submit(engine.open(40), 0, TEXT).result(SECONDS).topk
    assert again is not None
    np.testing.assert_array_equal(again.logits, expected.logits)


def test_an_engine_that_hangs_can_be_stopped(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "STOP_SECONDS", 0.2)
    engine = Engine(model, True, True, n_ctx_total=40, max_sessions=1, threads=1)
    process = process_of(engine)
    process.suspend()
    step = engine.submit(engine.open(40), 0, TEXT)
    until(lambda: engine.stats().waiting == 0)
    engine.stop()
    assert isinstance(step.exception(SECONDS), EngineFailed)
    assert not process.is_running()


def test_the_limit_follows_the_slowest_call_of_its_kind() -> None:
    kept = leash.Leash()
    assert kept.limit(1) == kept.limit(64) == leash.FIRST_SECONDS
    kept.took(1, 0.01)
    assert kept.limit(1) == leash.LEAST_SECONDS
    assert kept.limit(64) == leash.FIRST_SECONDS
    kept.took(1, 10.0)
    kept.took(1, 0.01)
    kept.took(64, 64.0)
    assert kept.limit(1) == 10 * leash.TIMES
    assert kept.limit(32) == 32 * leash.TIMES
