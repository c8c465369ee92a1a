"""Does a path of shards compute what the unsplit model computes? Both run here, on one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hypercluster.node.engine import reference
from hypercluster.node.engine.engine import Engine
from hypercluster.node.rows import Float32s, Payload, Tokens, input_dtype


@dataclass(frozen=True)
class Shard:
    """One shard of a path; `first` holds the embedding, `last` the head."""

    path: Path
    first: bool
    last: bool


@dataclass(frozen=True)
class Comparison:
    """Greedy ids of both runs, and the largest absolute difference over all logits of the steps compared.

    The runs are compared up to and including the first step whose ids differ: behind it they are about
    different texts.
    """

    prompt: list[int]
    unsplit: list[int]
    split: list[int]
    max_difference: float
    compared: int

    @property
    def identical(self) -> bool:
        """Whether the greedy ids are equal."""
        return self.unsplit == self.split


def compare(
    source: Path,
    stages: Sequence[Shard],
    prompt: Sequence[int],
    tokens: int,
    *,
    threads: int,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Continue `prompt` greedily by `tokens` ids with the unsplit model and with the shards, f32 in between.

    `progress` is called with 1 after each token of the shards. Raises LlamaError, EngineError.
    """
    unsplit = reference.generate(source, prompt, tokens, threads)
    ids, logits = through(stages, prompt, tokens, threads, progress)
    differing = np.flatnonzero(unsplit.ids != ids)
    compared = int(differing[0]) + 1 if len(differing) else tokens
    difference = np.abs(unsplit.logits[:compared] - logits[:compared]).max()
    return Comparison(list(prompt), unsplit.ids.tolist(), ids.tolist(), float(difference), compared)


def through(
    stages: Sequence[Shard],
    prompt: Sequence[int],
    tokens: int,
    threads: int,
    progress: Callable[[int], None] | None = None,
    *,
    apart: bool = True,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int32]], Float32s]:
    """Greedy ids int32 [tokens] and logits float32 [tokens, n_vocab] of the path of shards.

    Each engine has a process of its own unless they are not to be `apart`. Raises LlamaError, EngineError.
    """
    capacity = len(prompt) + tokens
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                Engine(stage.path, stage.first, stage.last, capacity, 1, threads, apart=apart)
            )
            for stage in stages
        ]
        slots = [engine.open(capacity) for engine in engines]
        n_vocab = engines[-1].n_vocab
        ids = np.empty(tokens, np.int32)
        logits = np.empty((tokens, n_vocab), np.float32)
        step, position = np.array(prompt, np.int32), 0
        for i in range(tokens):
            payload: Payload = step
            for engine, slot in zip(engines, slots, strict=True):
                if engine.reads_tokens and not engine.first:
                    payload = _with_tokens(payload, step)
                output = engine.submit(slot, position, payload, top_k=n_vocab).result()
                if output.activations is not None:
                    payload = output.activations
            assert output.topk is not None
            logits[i, output.topk.ids[0]] = output.topk.logits[0]
            ids[i] = logits[i].argmax()
            position += len(step)
            step = ids[i : i + 1].copy()
            if progress is not None:
                progress(1)
        return ids, logits


def _with_tokens(rows: Payload, tokens: Tokens) -> Payload:
    """Rows of float32 [n, width] with the token ids, int32 [n], that they stand for."""
    both = np.empty(len(rows), input_dtype(rows.shape[1]))
    both["residual"], both["token"] = rows, tokens
    return both
