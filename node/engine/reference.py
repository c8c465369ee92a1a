"""The whole model on one machine: what a path of shards is checked and measured against."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hypercluster.node.engine.llama import Batch, Context, LlamaError, LoadedModel
from hypercluster.node.rows import Float32s

CHUNK = 64
"""Rows of one prefill call; the engine's default, so that both do the same arithmetic."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Chosen ids int32 [n], the logits they were chosen from float32 [n, vocabulary], and the times in ms."""

    ids: npt.NDArray[np.int32]
    logits: Float32s
    prefill_ms: float
    decode_ms: tuple[float, ...]


def greedy(logits: Float32s) -> int:
    """The token of the highest logit, float32 [vocabulary]."""
    return int(logits.argmax())


def generate(
    model_path: Path,
    prompt: Sequence[int],
    n: int,
    threads: int,
    chunk: int = CHUNK,
    gpu_layers: int = -1,
    choose: Callable[[Float32s], int] = greedy,
) -> Generation:
    """Continue `prompt` by n tokens; end-of-text tokens do not stop it.

    `choose` picks each token from its logits, float32 [vocabulary].
    decode_ms holds the n - 1 single-token steps. Raises LoadFailed, or LlamaError for tokens that do not fit.
    """
    with LoadedModel(model_path, gpu_layers=gpu_layers) as model:
        if not prompt or n < 1 or min(prompt) < 0 or max(prompt) >= model.n_vocab:
            raise LlamaError("A generation needs at least one token of the vocabulary, and one to generate.")
        if len(prompt) + n > model.n_ctx_train:
            raise LlamaError(f"{len(prompt) + n} tokens are beyond the model's context, {model.n_ctx_train}.")
        context = Context(model, len(prompt) + n, 1, threads, chunk, chunk)
        try:
            return _generate(context, model.n_vocab, prompt, n, chunk, choose)
        finally:
            context.close()


def _generate(
    context: Context,
    n_vocab: int,
    prompt: Sequence[int],
    n: int,
    chunk: int,
    choose: Callable[[Float32s], int],
) -> Generation:
    batch = Batch(chunk)
    ids = np.empty(n, np.int32)
    logits = np.empty((n, n_vocab), np.float32)

    def step(tokens: Sequence[int], position: int, row: int) -> float:
        started = time.monotonic()
        batch.tokens[: len(tokens)] = tokens
        batch.positions[: len(tokens)] = np.arange(position, position + len(tokens))
        batch.wanted[: len(tokens)] = 0
        batch.wanted[len(tokens) - 1] = 1
        context.decode(batch, len(tokens))
        logits[row] = context.logits(len(tokens) - 1)
        ids[row] = choose(logits[row])
        return 1e3 * (time.monotonic() - started)

    prefill = sum(step(prompt[at : at + chunk], at, 0) for at in range(0, len(prompt), chunk))
    decode = tuple(step([int(ids[i - 1])], len(prompt) + i - 1, i) for i in range(1, n))
    return Generation(ids, logits, prefill, decode)
