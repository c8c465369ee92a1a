"""What it costs that llama.cpp runs in another process: python scripts/bench_engine.py [--shape NAME] [--json FILE].

A step of one token is timed from the call until its answer is there, in turn on engines in processes of their own and
on one in this process, over the same shard. The difference of the medians is what is added; that of the tenth parts is
what is added where nobody else wants the cores. A step is asked for as a provider does beside which nobody waits
(node/engine/alone.py), and once more through the engine's thread, as where several sessions wait; in this process it
always goes through that thread. Beside it, how late a clock of this process is that wants to tick every
millisecond while the engine computes without a pause: with llama.cpp here, its callbacks and the ranking of candidates
hold the interpreter lock that the clock waits for.
"""

from __future__ import annotations

import argparse
import json
import select
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
from random_model import LlamaShape, write_random_llama
from rich.console import Console
from rich.table import Table

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.speed import random_input
from hypercluster.node.rows import Payload
from hypercluster.node.shards.slicing import split

SHAPES = {
    "tiny": LlamaShape(layers=6, n_embd=256, heads=4, kv_heads=2, n_ff=512, n_vocab=4096),
    "1b": LlamaShape(layers=16, n_embd=2048, heads=32, kv_heads=8, n_ff=8192, n_vocab=32_000),
}
TICK = 0.001
TOKENS = 1024


def step(engine: Engine, slot: int, at: int, payload: Payload, *, alone: bool) -> float:
    """Microseconds of one step."""
    began = time.perf_counter()
    past = engine.begin(slot, at, payload) if alone else None
    if past is None:
        engine.submit(slot, at, payload).result()
    else:
        while past.ours:
            select.select([past.fd], [], [])
            past.look()
        past.done.result()
    return 1e6 * (time.perf_counter() - began)


def compared(engines: Sequence[Engine], steps: int, rows: int) -> list[list[float]]:
    """Microseconds of `steps` steps of so many rows on each engine, by turns so that all see the same machine: the
    first one's are asked for alone.
    """
    slots = [engine.open(TOKENS) for engine in engines]
    payload = random_input(engines[0], rows, np.random.default_rng(0))
    times: list[list[float]] = [[] for _ in engines]
    for number in range(steps):
        at = rows * number % (TOKENS - rows)
        for index, (engine, slot, found) in enumerate(zip(engines, slots, times, strict=True)):
            found.append(step(engine, slot, at, payload, alone=index == 0))
    for engine, slot in zip(engines, slots, strict=True):
        engine.close(slot)
    return times


def lateness(engine: Engine, seconds: float) -> list[float]:
    """Microseconds by which ticks of this process come late while the engine computes."""
    slot, stop = engine.open(TOKENS), threading.Event()
    payload = random_input(engine, 64, np.random.default_rng(0))

    def busy() -> None:
        while not stop.is_set():
            engine.submit(slot, 0, payload, "all").result()

    worker = threading.Thread(target=busy)
    worker.start()
    late = []
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        time.sleep(TICK)
        late.append(1e6 * max(0.0, time.perf_counter() - now - TICK))
    stop.set()
    worker.join()
    engine.close(slot)
    return late


def measured(folder: Path, shape: str, steps: int, seconds: float, threads: int) -> list[dict[str, object]]:
    """A row of figures for each part of the model."""
    model = write_random_llama(folder / "model.gguf", SHAPES[shape])
    m = SHAPES[shape].layers
    rows: list[dict[str, object]] = []
    for part, (start, stop) in {"head": (0, m // 2), "middle": (1, m - 1), "tail": (m // 2, m)}.items():
        shard = split(model, start, stop, folder / f"{part}.gguf")
        with ExitStack() as stack:
            engines = [
                stack.enter_context(
                    Engine(
                        shard,
                        start == 0,
                        stop == m,
                        n_ctx_total=TOKENS,
                        max_sessions=1,
                        threads=threads,
                        apart=each,
                    )
                )
                for each in (True, True, False)
            ]
            compared(engines, steps // 10 + 1, 1)
            single, chunk = compared(engines, steps, 1), compared(engines, steps // 10 + 1, 64)
            late = [lateness(engine, seconds) for engine in engines[1:]]
        medians = [statistics.median(each) for each in single]
        fast = [float(np.percentile(each, 10)) for each in single]
        chunks = [statistics.median(each) for each in chunk]
        rows.append(
            {
                "part": part,
                "apart_us": medians[0],
                "here_us": medians[2],
                "added_us": medians[0] - medians[2],
                "added_fast_us": fast[0] - fast[2],
                "thread_added_us": medians[1] - medians[2],
                "thread_added_fast_us": fast[1] - fast[2],
                "chunk_added_us": chunks[0] - chunks[2],
                "late_apart_us": float(np.percentile(late[0], 99)),
                "late_here_us": float(np.percentile(late[1], 99)),
            }
        )
    return rows


COLUMNS = {
    "part": "layers",
    "apart_us": "step apart",
    "here_us": "step here",
    "added_us": "added",
    "added_fast_us": "added at 10 %",
    "thread_added_us": "by the thread",
    "thread_added_fast_us": "and at 10 %",
    "chunk_added_us": "added to 64 rows",
    "late_apart_us": "tick late, apart",
    "late_here_us": "tick late, here",
}


def main(arguments: Sequence[str]) -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=3.0, help="of ticks, for each engine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), options.shape, options.steps, options.seconds, options.threads)
    load = psutil.getloadavg()[0]
    title = f"{options.shape}, {options.threads} threads, medians in µs, lateness at 99 %; load {load:.1f}"
    table = Table(*COLUMNS.values(), title=title)
    for row in rows:
        table.add_row(
            *(each if isinstance(each, str) else f"{each:,.0f}" for each in (row[key] for key in COLUMNS))
        )
    Console(width=120).print(table)
    if options.json:
        options.json.write_text(
            json.dumps({"shape": options.shape, "load": load, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
