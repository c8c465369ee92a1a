"""How fast an engine is, when it has nothing else to do."""

from __future__ import annotations

import statistics

import numpy as np

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.steps import Measurement
from hypercluster.node.rows import Payload, input_dtype


def random_input(engine: Engine, n: int, draw: np.random.Generator) -> Payload:
    """n rows as the engine takes them."""
    tokens = draw.integers(0, engine.n_vocab, n, dtype=np.int32)
    if engine.first:
        return tokens
    residual = draw.standard_normal((n, engine.width), dtype=np.float32)
    if not engine.reads_tokens:
        return residual
    table = np.empty(n, input_dtype(engine.width))
    table["residual"], table["token"] = residual, tokens
    return table


def measure(engine: Engine, rows: int | None = None, *, steps: int = 8) -> Measurement:
    """Time `rows` rows of a prompt, a chunk where nobody says and at most, and `steps` single tokens in a session of
    its own. Raises EngineFull, EngineStopped.
    """
    rows = min(rows or engine.chunk, engine.chunk, engine.max_capacity // 2)
    steps = min(steps, engine.max_capacity - rows)
    slot = engine.open(rows + steps)
    draw = np.random.default_rng(0)

    def timed(position: int, n: int) -> float:
        payload = random_input(engine, n, draw)
        return engine.submit(slot, position, payload).result().compute_ms

    try:
        prefill = timed(0, rows) / rows
        return Measurement(statistics.median(timed(rows + i, 1) for i in range(steps)), prefill)
    finally:
        engine.close(slot)
