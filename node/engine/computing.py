"""One shard with its context: rows of several sequences go through the layers in one llama_decode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hypercluster.node.engine.boundary import Boundary
from hypercluster.node.engine.llama import Batch, Context, LoadedModel, LoadFailed
from hypercluster.node.engine.loading import Area, Facts, Loading, area_bytes
from hypercluster.node.engine.ranking import NoCandidates, best_of
from hypercluster.node.engine.skeleton import Skeleton
from hypercluster.node.shards.crossing import Crossing, crossing_of
from hypercluster.node.shards.errors import ShardError


class Computer:
    """A loaded shard, for one thread: `compute` takes rows from `area` and leaves what they gave there.

    `memory(size)` gives the writable buffer under the area. Raises node.engine.llama.LoadFailed, LlamaError.
    """

    def __init__(self, loading: Loading, memory: Callable[[int], Any]) -> None:
        try:
            crossing = crossing_of(loading.shard)
        except ShardError as error:
            raise LoadFailed(f"{loading.shard} cannot be loaded: {error}") from error
        self._model = LoadedModel(
            loading.shard,
            gpu_layers=loading.gpu_layers,
            repack=loading.repack,
            main_gpu=loading.main_gpu,
            tensor_split=loading.tensor_split,
        )
        try:
            self.facts = _facts(loading, self._model, crossing)
            self.area = Area.over(memory(area_bytes(loading, self.facts)), loading, self.facts)
            self._prepare(loading, crossing)
        except BaseException:
            self._model.close()
            raise

    def _prepare(self, loading: Loading, crossing: Crossing) -> None:
        area, self._last = self.area, loading.last
        by_row = crossing.how == "embd" and not loading.first
        entry = None if loading.first or by_row else crossing.entry
        kind = Skeleton if crossing.how == "skeleton" else Boundary
        leaving = None if loading.last else crossing.exit
        self._boundary = kind(entry, leaving, area.entering, area.leaving, crossing.planes)
        self._batch = Batch(
            loading.rows, area.entering if by_row else None, four_positions=self._model.four_positions
        )
        # without ids of their own the rows that enter by name stand on some token's
        self._reads_tokens = loading.first or crossing.reads_tokens
        self._context = Context(
            self._model,
            self.facts.capacity,
            loading.max_sessions,
            loading.threads,
            loading.rows,
            loading.rows,
            self._boundary.callback,
            flash_attention=loading.flash_attention,
            kv_type=loading.kv_type,
        )

    def compute(self, n: int) -> None:
        """Run the first n rows of the area in one llama_decode.

        Raises LlamaError; then each sequence has to be cut back.
        """
        area, batch = self.area, self._batch
        if self._reads_tokens and len(batch.tokens):
            batch.tokens[:n] = area.tokens[:n]
        batch.positions[:n] = area.positions[:n]
        batch.slots[:n] = area.sequences[:n]
        # off the tail every row is an output: llama.cpp drops the others within the last layer
        batch.wanted[:n] = area.candidates[:n] > 0 if self._last else 1
        self._boundary.begin(n)
        self._context.decode(batch, n)
        self._boundary.finish()
        if self._last:
            self._rank(n)

    def cut_back(self, sequence: int, position: int) -> bool:
        """Forget what a sequence holds from `position` on; False where the model's memory cannot do that."""
        return self._context.truncate(sequence, position)

    def copy(self, source: int, target: int) -> None:
        """Let one sequence hold what another does, instead of what it held."""
        self._context.copy(source, target)

    def wipe(self) -> None:
        """Forget every sequence and zero the cells."""
        self._context.wipe()

    def look(self) -> None:
        """It ends with this process."""

    def kill(self) -> None:
        """It ends with this process."""

    def close(self) -> None:
        """Free context and model."""
        self._context.close()
        self._model.close()

    def _rank(self, n: int) -> None:
        area, at = self.area, 0
        for row, k in enumerate(area.candidates[:n].tolist()):
            if not k:
                continue
            end = at + k
            try:
                area.ids[at:end], area.logits[at:end], area.logsumexp[row] = best_of(
                    self._context.logits(row), k
                )
            except NoCandidates:
                area.logsumexp[row] = np.nan
            at = end


def _facts(loading: Loading, model: LoadedModel, crossing: Crossing) -> Facts:
    return Facts(
        width=crossing.width,
        reads_tokens=crossing.reads_tokens,
        n_vocab=model.n_vocab,
        n_layer=model.n_layer,
        capacity=min(loading.n_ctx_total // loading.max_sessions, model.n_ctx_train),
        rewinds=crossing.rewinds and model.has_cells,
        shares=crossing.shares and crossing.how != "skeleton",
    )
