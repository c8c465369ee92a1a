"""One shard with its context: rows of several sequences go through the layers in one llama_decode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hypercluster.node.engine.llama import Batch, Context, Float32s, LlamaError, LoadedModel, tap
from hypercluster.node.engine.ranking import NoCandidates, best
from hypercluster.node.engine.steps import BadShape, NotFinite, Payload, Work
from hypercluster.node.rows import TopK

MAX_ACTIVATION = 1e15
"""beyond it squares and sums inside a norm could overflow; real residuals stay below 1e6"""

Found = Float32s | TopK | NotFinite | None


class Computer:
    """A loaded shard, for one thread. Raises node.engine.llama.LoadFailed, LlamaError.

    `n_ctx` tokens for each of so many sequences; `chunk` rows of one sequence at most in one go.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        first: bool,
        last: bool,
        n_ctx: int,
        sequences: int,
        threads: int,
        chunk: int,
        flash_attention: bool,
        kv_type: str,
    ) -> None:
        self._model, self._first, self._last = model, first, last
        n_batch = max(chunk, sequences)
        self._batch = Batch(n_batch, 0 if first else model.n_embd)
        self._residual: Float32s = np.empty((n_batch, model.n_embd), np.float32)
        self._tapped = 0  # bytes of the residual written by the running llama_decode
        self._tap = None if last else tap(f"l_out-{model.n_layer - 1}", self._room_for_residual)
        self._context = Context(
            model,
            n_ctx,
            sequences,
            threads,
            n_batch,
            n_batch,
            self._tap,
            flash_attention=flash_attention,
            kv_type=kv_type,
        )

    def check(self, payload: Payload) -> None:
        """Raise BadShape or NotFinite unless these can be rows of input. May be called from any thread."""
        if self._first:
            if payload.dtype != np.int32 or payload.ndim != 1 or not len(payload):
                raise BadShape("A head shard takes at least one token id as int32 [n].")
            if payload.min() < 0 or payload.max() >= self._model.n_vocab:
                raise BadShape(f"A token id lies outside the vocabulary of {self._model.n_vocab}.")
            return
        width = self._model.n_embd
        if payload.dtype != np.float32 or payload.shape[1:] != (width,) or not len(payload):
            raise BadShape(f"This shard takes at least one row of float32 [n, {width}].")
        # the largest magnitude is nan if any value is
        if not max(-payload.min(), payload.max()) <= MAX_ACTIVATION:
            raise NotFinite(f"The activations hold a value that is not finite or beyond {MAX_ACTIVATION:g}.")

    def compute(self, works: Sequence[Work], rows: int) -> list[Found]:
        """Run the next `rows` rows of each step in one llama_decode; what they gave, None where nobody asked.

        Raises LlamaError; then each sequence has to be cut back.
        """
        n = self._fill(works, rows)
        self._tapped = 0
        self._context.decode(self._batch, n)
        if not self._last and self._tapped != self._residual[:n].nbytes:
            raise LlamaError("llama.cpp did not compute the residual of every row")
        return [self._collect(work, i * rows, rows) for i, work in enumerate(works)]

    def cut_back(self, sequence: int, position: int) -> bool:
        """Forget what a sequence holds from `position` on; False where the model's memory cannot do that."""
        return self._context.truncate(sequence, position)

    def wipe(self) -> None:
        """Forget every sequence and zero the cells."""
        self._context.wipe()

    def close(self) -> None:
        """Free context and model."""
        self._context.close()
        self._model.close()

    def _fill(self, works: Sequence[Work], rows: int) -> int:
        batch, row = self._batch, 0
        for work in works:
            span = slice(row, row + rows)
            source = work.payload[work.at : work.at + rows]
            if self._first:
                batch.tokens[span] = source
            else:
                batch.embd[span] = source
            position = work.start + work.at
            batch.positions[span] = np.arange(position, position + rows, dtype=np.int32)
            batch.slots[span] = work.sequence
            # off the tail every row is an output: llama.cpp drops the others within the last layer
            batch.wanted[span] = not self._last or work.all_rows
            if work.at + rows == len(work.payload):
                batch.wanted[row + rows - 1] = 1
            row += rows
        return row

    def _room_for_residual(self, size: int) -> int:
        at = self._tapped
        self._tapped += size
        return self._residual.ctypes.data + at if self._tapped <= self._residual.nbytes else 0

    def _collect(self, work: Work, row: int, rows: int) -> Found:
        """Take the results of `rows` rows of the batch from `row` on."""
        if not self._last:
            out = self._residual[row : row + rows].copy()
            if np.isfinite(out).all():
                return out
        else:
            wanted = np.flatnonzero(self._batch.wanted[row : row + rows])
            if not len(wanted):
                return None
            try:
                return best([self._context.logits(row + int(i)) for i in wanted], work.k)
            except NoCandidates:
                pass
        return NotFinite("The result of the step is not finite.")
