"""What a model loses by how rows travel between its shards: the likeliest tokens, and the perplexity of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.equality import Shard
from hypercluster.node.rows import (
    Payload,
    Tokens,
    WireDtype,
    pack_activations,
    unpack_input,
    with_tokens,
)

WINDOW = 256
"""tokens that are read one behind the other"""
ROWS = 32
"""that the tail ranks at once: it has the whole vocabulary of each in memory"""


@dataclass(frozen=True, slots=True)
class Reading:
    """For each token but the first of every window: what was likeliest, int32 [n], and the log-probability of what
    came, float64 [n].
    """

    likeliest: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float64]

    @property
    def perplexity(self) -> float:
        """Of the text."""
        return float(np.exp(-self.logprobs.mean()))

    def agreement(self, other: Reading) -> float:
        """Share of the tokens where the other one has the same likeliest one."""
        return float((self.likeliest == other.likeliest).mean())


def read(
    stages: Sequence[Shard],
    text: Sequence[int],
    dtype: WireDtype,
    *,
    threads: int,
    window: int = WINDOW,
    progress: Callable[[int], None] = lambda done: None,
) -> Reading:
    """Read a text of token ids through shards, whose rows travel as `dtype`; `progress` is told of tokens.

    It is read in pieces of `window` tokens, each without those before it.

    Raises LlamaError, EngineError, WireError: values that are too large for it, or rows that it cannot hold.
    """
    likeliest, logprobs = [], []
    with ExitStack() as stack:
        engines = [
            stack.enter_context(Engine(each.path, each.first, each.last, window, 1, threads))
            for each in stages
        ]
        for tokens in windows(text, window):
            best, came = _window(engines, tokens, dtype)
            likeliest.append(best)
            logprobs.append(came)
            progress(len(tokens))
    return Reading(np.concatenate(likeliest), np.concatenate(logprobs))


def windows(text: Sequence[int], size: int) -> Iterator[Tokens]:
    """The text in pieces of so many tokens; a rest of one is left out, as nothing comes before it."""
    for at in range(0, len(text), size):
        if len(piece := text[at : at + size]) > 1:
            yield np.array(piece, np.int32)


def _window(
    engines: Sequence[Engine], tokens: Tokens, dtype: WireDtype
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    slots = [engine.open(len(tokens)) for engine in engines]
    likeliest, logprobs = np.empty(0, np.int32), np.empty(0)
    try:
        for at in range(0, len(tokens), ROWS):
            step = tokens[at : at + ROWS]
            payload: Payload = step
            for engine, slot in zip(engines, slots, strict=True):
                if not engine.first:
                    payload = _travelled(payload, step, dtype, engine)
                output = engine.submit(slot, at, payload, "all", engine.n_vocab).result()
                if output.activations is not None:
                    payload = output.activations
            assert output.topk is not None
            following = tokens[at + 1 : at + 1 + len(step)]
            n = len(following)
            place = np.argmax(output.topk.ids[:n] == following[:, None], axis=1)
            came = output.topk.logits[np.arange(n), place] - output.topk.logsumexp[:n]
            likeliest = np.concatenate([likeliest, output.topk.ids[:n, 0]])
            logprobs = np.concatenate([logprobs, came])
    finally:
        for engine, slot in zip(engines, slots, strict=True):
            engine.close(slot)
    return likeliest, logprobs


def _travelled(rows: Payload, tokens: Tokens, dtype: WireDtype, engine: Engine) -> Payload:
    """Rows as the next shard reads them."""
    data = pack_activations(rows, dtype)
    if engine.reads_tokens:
        data = with_tokens(data, tokens.tolist())
    return unpack_input(
        data, len(tokens), first=False, width=engine.width, reads_tokens=engine.reads_tokens, dtype=dtype
    )
