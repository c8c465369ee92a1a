"""What a path answers whose rows travel rounded: the same shards in this process, without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from hypercluster.node.engine.engine import Engine
from hypercluster.node.rows import Payload, TopK, WireDtype, pack_activations, unpack_activations
from hypercluster.node.shards.certificate import LEAST_CUTS, LEAST_TOKENS, Certificate, Figures
from hypercluster.node.shards.store import StoredModel


def certify(stored: StoredModel, *dtypes: str, agreement: float = 1.0) -> Path:
    """Say of a model that these types on the wire do it no harm; returns the file."""
    figures = (
        Figures(
            dtype=dtype,
            cuts=LEAST_CUTS,
            tokens=LEAST_TOKENS,
            agreement=agreement,
            perplexity=10.0,
            plain=10.0,
        )
        for dtype in dtypes
    )
    return Certificate(stored.manifest.model_id, tuple(figures)).save(stored.folder)


def greedy(
    stored: StoredModel,
    ranges: Sequence[tuple[int, int]],
    prompt: Sequence[int],
    tokens: int,
    dtype: WireDtype,
) -> list[int]:
    """The likeliest tokens behind a prompt of one step, over shards of these layers."""
    return generate(stored, ranges, prompt, tokens, dtype, 1, lambda best: int(best.ids[0, 0]))


def generate(
    stored: StoredModel,
    ranges: Sequence[tuple[int, int]],
    prompt: Sequence[int],
    tokens: int,
    dtype: WireDtype,
    k: int,
    choose: Callable[[TopK], int],
) -> list[int]:
    """The same for tokens that are chosen from the k best, [1, k]."""
    capacity, layers = len(prompt) + tokens, stored.manifest.layers
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                Engine(stored.shard(a, b), a == 0, b == layers, capacity, 1, threads=1, apart=False)
            )
            for a, b in ranges
        ]
        slots = [engine.open(capacity) for engine in engines]
        ids, position, step = list(prompt), 0, list(prompt)
        for _ in range(tokens):
            payload: Payload = np.array(step, np.int32)
            for engine, slot in zip(engines, slots, strict=True):
                if not engine.first:
                    data = pack_activations(payload, dtype)
                    payload = unpack_activations(data, len(step), engine.width, dtype)
                output = engine.submit(slot, position, payload, "last", k).result()
                if output.activations is not None:
                    payload = output.activations
            assert output.topk is not None
            position += len(step)
            step = [choose(output.topk)]
            ids += step
    return ids[len(prompt) :]
