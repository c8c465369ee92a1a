"""Chooses the next token from a tail's best candidates, with llama.cpp's samplers in llama.cpp's order."""

from __future__ import annotations

import ctypes
import math
import secrets
from types import TracebackType
from typing import Any, Self

import llama_cpp as native
import numpy as np

from hypercluster.node.engine.llama import start
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import TopK, check

_ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class BadSampling(NodeError):
    """A sampling parameter is outside its range."""


class Sampler:
    """Temperature 0 is greedy. Otherwise top-k, then top-p, min-p and temperature, then a draw.

    top_k 0, top_p 1 and min_p 0 switch a filter off; `seed` (0 to 2^32 - 2, random where None) fixes the
    draws. The result equals llama.cpp's on all logits wherever the candidates hold what its filters would
    keep: always when top_k is no more than the candidates received. Otherwise top-p is taken of the true
    probabilities, which logsumexp gives: of candidates whose mass is M the share top_p / M is kept. Where
    even all of them are too few (top_p > M, or no filter at all) the draw is among the candidates, and
    `cut_short` counts it; ask the tail for more candidates then.
    """

    def __init__(
        self,
        n_vocab: int,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
    ) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise BadSampling(f"The temperature must be a number from 0 on, not {temperature}.")
        if not (top_k >= 0 and 0 < top_p <= 1 and 0 <= min_p < 1):
            raise BadSampling("top_k must be at least 0, top_p within (0, 1] and min_p within [0, 1).")
        # 2^32 - 1 tells llama.cpp to choose a seed, which nobody would learn
        self.seed = secrets.randbelow(2**32 - 1) if seed is None else seed
        if not 0 <= self.seed < 2**32 - 1:
            raise BadSampling(f"The seed must be between 0 and 2^32 - 2, not {self.seed}.")
        start()
        self.n_vocab = n_vocab
        self.cut_short = 0
        self._top_k, self._top_p, self._greedy = top_k, top_p, temperature == 0
        self._last: list[Any] = []
        self._first: list[Any] = []
        if self._greedy:
            self._last = [native.llama_sampler_init_greedy()]
        else:
            self._first = [native.llama_sampler_init_top_k(top_k)] if top_k else []
            self._last = [
                native.llama_sampler_init_min_p(min_p, 1),
                native.llama_sampler_init_temp(temperature),
                native.llama_sampler_init_dist(self.seed),
            ]

    def sample(self, best: TopK, row: int = -1) -> int:
        """Return the token chosen from one row of candidates. Raises BadCandidates."""
        if not self._last:
            raise BadSampling("The sampler is closed.")
        check(best, self.n_vocab)
        ids = best.ids[row]
        # llama.cpp draws from tokens in the order of their ids unless a filter has sorted them
        order = np.argsort(ids)
        entries = np.zeros(len(ids), _ENTRY)
        entries["id"] = ids[order]
        entries["logit"] = best.logits[row][order]
        array = native.llama_token_data_array(
            data=ctypes.cast(entries.ctypes.data, native.llama_token_data_p),
            size=len(entries),
            selected=-1,
            sorted=False,
        )
        for sampler in self._first:
            native.llama_sampler_apply(sampler, array)
        if not self._greedy:
            self._nucleus(best, row, array)
        for sampler in self._last:
            native.llama_sampler_apply(sampler, array)
        if not self._greedy and array.size == len(ids) < (self._top_k or self.n_vocab):
            self.cut_short += 1
        return int(array.data[array.selected].id)

    def _nucleus(self, best: TopK, row: int, array: Any) -> None:
        share = self._top_p
        k = best.ids.shape[1]
        if k < (self._top_k or self.n_vocab) and k < self.n_vocab:
            mass = np.exp(best.logits[row] - best.logsumexp[row]).sum()
            share = min(1.0, self._top_p / mass)
        if share < 1:
            sampler = native.llama_sampler_init_top_p(share, 1)
            native.llama_sampler_apply(sampler, array)
            native.llama_sampler_free(sampler)

    def close(self) -> None:
        """Free the samplers; calling it again does nothing."""
        for sampler in [*self._first, *self._last]:
            native.llama_sampler_free(sampler)
        self._first, self._last = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
