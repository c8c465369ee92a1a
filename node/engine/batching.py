"""From steps of sessions to rows of one llama_decode, and from what these gave to the parts of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hypercluster.node.engine.loading import Area, Facts, Loading
from hypercluster.node.engine.steps import BadShape, NotFinite, Work
from hypercluster.node.rows import Float32s, Payload, TopK, input_dtype, mild

MAX_ACTIVATION = 1e15
"""beyond it squares and sums inside a norm could overflow; real residuals stay below 1e6"""

Found = Float32s | TopK | NotFinite | None


class Computing(Protocol):
    """What runs the rows of an area, here (Computer) or in another process (Apart). For one thread."""

    @property
    def facts(self) -> Facts:
        """What is known of the shard."""

    @property
    def area(self) -> Area:
        """Where rows go in and come out."""

    def compute(self, n: int) -> None:
        """Run the first n rows of the area in one llama_decode. Raises LlamaError."""

    def cut_back(self, sequence: int, position: int) -> bool:
        """Forget what a sequence holds from `position` on; False where the model's memory cannot do that."""

    def copy(self, source: int, target: int) -> None:
        """Let one sequence hold what another does, instead of what it held."""

    def wipe(self) -> None:
        """Forget every sequence and zero the cells."""

    def look(self) -> None:
        """Raise Ended if what computes has ended."""

    def kill(self) -> None:
        """End a call that does not come back, where that can be. From any thread."""

    def close(self) -> None:
        """Free everything."""


def check_payload(payload: Payload, loading: Loading, facts: Facts) -> None:
    """Raise BadShape or NotFinite unless these can be rows of input."""
    if loading.first:
        if payload.dtype != np.int32 or payload.ndim != 1 or not len(payload):
            raise BadShape("A head shard takes at least one token id as int32 [n].")
        _check_tokens(payload, facts)
        return
    residual = payload
    if facts.reads_tokens:
        if payload.dtype != input_dtype(facts.width) or payload.ndim != 1 or not len(payload):
            raise BadShape(f"This shard takes at least one row of {facts.width} float32 and a token id.")
        _check_tokens(payload["token"], facts)
        residual = payload["residual"]
    elif payload.dtype != np.float32 or payload.shape[1:] != (facts.width,) or not len(payload):
        raise BadShape(f"This shard takes at least one row of float32 [n, {facts.width}].")
    if mild(residual):
        return
    # the largest magnitude is nan if any value is
    if not max(-residual.min(), residual.max()) <= MAX_ACTIVATION:
        raise NotFinite(f"The activations hold a value that is not finite or beyond {MAX_ACTIVATION:g}.")


def _check_tokens(tokens: Payload, facts: Facts) -> None:
    if tokens.min() < 0 or tokens.max() >= facts.n_vocab:
        raise BadShape(f"A token id lies outside the vocabulary of {facts.n_vocab}.")


def compute(computing: Computing, loading: Loading, works: Sequence[Work], rows: int) -> list[Found]:
    """Run the next `rows` rows of each step in one llama_decode; what they gave, None where nobody asked.

    Raises LlamaError; then each sequence has to be cut back.
    """
    entered(computing, loading, works, rows)
    computing.compute(len(works) * rows)
    return left(computing, loading, works, rows)


def entered(computing: Computing, loading: Loading, works: Sequence[Work], rows: int) -> None:
    """Put the next `rows` rows of each step into the area."""
    for i, work in enumerate(works):
        _fill(computing.area, loading, computing.facts, work, slice(i * rows, (i + 1) * rows))


def left(computing: Computing, loading: Loading, works: Sequence[Work], rows: int) -> list[Found]:
    """What these rows gave, once they are computed."""
    area = computing.area
    if not loading.last:
        return [_residual(area, slice(i * rows, (i + 1) * rows)) for i in range(len(works))]
    found: list[Found] = []
    at = 0
    for i in range(len(works)):
        best, at = _ranked(area, i * rows, rows, at)
        found.append(best)
    return found


def _fill(area: Area, loading: Loading, facts: Facts, work: Work, span: slice) -> None:
    rows = span.stop - span.start
    source = work.payload[work.at : work.at + rows]
    if loading.first:
        area.tokens[span] = source
    elif facts.reads_tokens:
        area.tokens[span], area.entering[span] = source["token"], source["residual"]
    else:
        area.entering[span] = source
    position = work.start + work.at
    area.positions[span] = np.arange(position, position + rows, dtype=np.int32)
    area.sequences[span] = work.sequence
    k = min(work.k, facts.n_vocab) if loading.last else 0
    area.candidates[span] = k if work.all_rows else 0
    if work.at + rows == len(work.payload):
        area.candidates[span.stop - 1] = k


def _residual(area: Area, span: slice) -> Found:
    out = area.leaving[span].copy()
    return out if mild(out) or np.isfinite(out).all() else NotFinite("The result of the step is not finite.")


def _ranked(area: Area, row: int, rows: int, at: int) -> tuple[Found, int]:
    """The candidates of `rows` rows from `row` on, which begin at `at`, and where the next ones begin."""
    wanted = row + np.flatnonzero(area.candidates[row : row + rows])
    if not len(wanted):
        return None, at
    k = int(area.candidates[wanted[0]])
    span = slice(at, at + k * len(wanted))
    logsumexp = area.logsumexp[wanted]
    if np.isnan(logsumexp).any():
        return NotFinite("The result of the step is not finite."), span.stop
    shape = len(wanted), k
    return TopK(
        area.ids[span].reshape(shape).copy(), area.logits[span].reshape(shape).copy(), logsumexp
    ), span.stop
