"""Chooses the next token from a tail's best candidates, with llama.cpp's samplers in llama.cpp's order."""

from __future__ import annotations

import ctypes
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import llama_cpp as native
import numpy as np
import numpy.typing as npt

from hypercluster.node.engine.llama import start
from hypercluster.node.engine.penalties import Penalising, Penalties
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import TopK

BAN = -100.0
"""a bias that low leaves nothing of a token, as with OpenAI"""
_ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

Mask = npt.NDArray[np.bool_]


class BadSampling(NodeError):
    """A sampling parameter is outside its range."""


class NothingToDraw(NodeError):
    """None of the candidates may come: all are banned, or outside the format."""


@dataclass(frozen=True, slots=True)
class _Beyond:
    """What is known of the tokens that were not sent: their mass, as a share of exp(logsumexp)."""

    logsumexp: float
    least: float
    likely: float
    most: float


class Sampler:
    """Biases and penalties on the logits; then temperature 0 is greedy, and otherwise top-k, top-p, min-p and
    temperature, then a draw.

    top_k 0, top_p 1 and min_p 0 switch a filter off; `seed` (0 to 2^32 - 2, random where None) fixes the draws;
    a bias of BAN bans a token. The result equals llama.cpp's on all logits wherever the candidates hold what its
    filters would keep: always when top_k is no more than the candidates received and nothing else is asked for.
    Top-p is taken of the true probabilities, which logsumexp gives: of candidates whose mass is M the share
    top_p / M is kept. `cut_short` counts the draws of which that is not certain: where even all candidates are
    too few (top_p > M, or no filter at all), where penalties or a mask took the best of them, where a token with a
    bias is not among them (it is then taken to be as good as the last of them, which it can be at most). Ask the
    tail for more candidates then.
    """

    def __init__(
        self,
        n_vocab: int,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        *,
        penalties: Penalties | None = None,
        bias: Sequence[tuple[int, float]] = (),
    ) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise BadSampling(f"The temperature must be a number from 0 on, not {temperature}.")
        if not (top_k >= 0 and 0 < top_p <= 1 and 0 <= min_p < 1):
            raise BadSampling("top_k must be at least 0, top_p within (0, 1] and min_p within [0, 1).")
        # 2^32 - 1 tells llama.cpp to choose a seed, which nobody would learn
        self.seed = secrets.randbelow(2**32 - 1) if seed is None else seed
        if not 0 <= self.seed < 2**32 - 1:
            raise BadSampling(f"The seed must be between 0 and 2^32 - 2, not {self.seed}.")
        outside = [token for token, _ in bias if not 0 <= token < n_vocab]
        if outside:
            raise BadSampling(f"Token {outside[0]} has a bias and lies outside the vocabulary of {n_vocab}.")
        start()
        self.n_vocab = n_vocab
        self.cut_short = 0
        self.banned = np.array([token for token, value in bias if value <= BAN], np.int32)
        self._lowered = np.array([token for token, value in bias if value < 0], np.int32)
        self._bias = {token: np.float32(value) for token, value in bias if value > BAN and value}
        self._penalising = Penalising(penalties, n_vocab) if penalties and not penalties.off else None
        self._top_k, self._top_p, self._greedy = top_k, top_p, temperature == 0
        self._filters: list[Any] = []
        if self._greedy:
            self._last = [native.llama_sampler_init_greedy()]
        else:
            self._filters = [
                native.llama_sampler_init_top_k(top_k),
                native.llama_sampler_init_min_p(min_p, 1),
            ]
            self._last = [
                native.llama_sampler_init_temp(temperature),
                native.llama_sampler_init_dist(self.seed),
            ]

    def accept(self, tokens: Iterable[int]) -> None:
        """Remember tokens that have come, of the prompt as well, for the penalties."""
        if self._penalising:
            self._penalising.accept(tokens)

    def sample(self, best: TopK, row: int = -1, mask: Mask | None = None) -> int:
        """Return the token chosen from one row of candidates, of those that `mask` [n_vocab] allows.

        Candidates from elsewhere have to be looked through before (node.rows.check). Raises NothingToDraw.
        """
        if not self._last:
            raise BadSampling("The sampler is closed.")
        if self._greedy and mask is None and not (self._penalising or self._bias or len(self.banned)):
            # of several that are best llama.cpp takes the one with the least id
            return int(best.ids[row][best.logits[row] == best.logits[row][0]].min())
        entries, guessed = self._entries(best, row, mask)
        if not len(entries):
            raise NothingToDraw("All candidates are banned, or outside the format that was asked for.")
        array = native.llama_token_data_array(
            data=ctypes.cast(entries.ctypes.data, native.llama_token_data_p),
            size=len(entries),
            selected=-1,
            sorted=False,
        )
        absent = np.empty(0)
        floor = float(best.logits[row][-1])
        if self._penalising:
            self._penalising.apply(array)
            absent = self._penalising.beyond(best.ids[row], floor)
        # nothing that was not sent can be better than that
        bar = max(floor, *absent) if len(absent) else floor
        certain = int((entries["logit"] >= bar).sum()) - len(guessed)
        if self._greedy:
            native.llama_sampler_apply(self._last[0], array)
            kept, exact = entries[array.selected : array.selected + 1], certain > 0
        else:
            masked = mask is not None
            exact = self._filter(
                array, entries, guessed, certain, bar, lambda: self._beyond(best, row, absent, masked)
            )
            kept = entries[: array.size]
        if best.ids.shape[1] < self.n_vocab and not (
            exact
            and (kept["logit"] >= bar).all()
            and not (len(guessed) and np.isin(guessed, kept["id"]).any())
        ):
            self.cut_short += 1
        if not self._greedy:
            for sampler in self._last:
                native.llama_sampler_apply(sampler, array)
        return int(array.data[array.selected].id)

    def _entries(
        self, best: TopK, row: int, mask: Mask | None
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int32]]:
        """llama.cpp's array of what may come, biases added, and those of it that are no candidates."""
        ids, logits = best.ids[row], best.logits[row]
        lifted = [token for token, value in self._bias.items() if value > 0]
        guessed = np.setdiff1d(np.array(lifted, np.int32), ids) if lifted else np.empty(0, np.int32)
        if len(guessed):
            logits = np.concatenate([logits, np.full(len(guessed), logits[-1])])
            ids = np.concatenate([ids, guessed])
        # llama.cpp draws from tokens in the order of their ids unless a filter has sorted them
        order = np.argsort(ids)
        ids, logits = ids[order], logits[order]
        if self._bias:
            logits = logits + np.array([self._bias.get(token, 0) for token in ids.tolist()], np.float32)
        if len(self.banned) or mask is not None:
            free = np.ones(len(ids), bool) if mask is None else mask[ids]
            if len(self.banned):
                free = free & ~np.isin(ids, self.banned)
            ids, logits = ids[free], logits[free]
            guessed = np.intersect1d(guessed, ids) if lifted else guessed
        entries = np.zeros(len(ids), _ENTRY)
        entries["id"], entries["logit"] = ids, logits
        return entries, guessed

    def _filter(
        self,
        array: Any,
        entries: npt.NDArray[np.void],
        guessed: npt.NDArray[np.int32],
        certain: int,
        bar: float,
        beyond: Callable[[], _Beyond],
    ) -> bool:
        """Cut the array down; whether nothing that was not sent would have been kept.

        The best `certain` entries reach the bar, which nothing that is `beyond` them can pass.
        """
        topped = 0 < self._top_k <= certain
        if self._top_k:
            native.llama_sampler_apply(self._filters[0], array)
        agreed = True
        if self._top_p < 1:
            rest = beyond()
            weights = np.exp(np.sort(entries["logit"][: array.size].astype(float))[::-1] - rest.logsumexp)
            mass = np.cumsum(weights)
            least, likely, most = rest.least, rest.likely, rest.most
            if self._top_k:
                # so many more would be within top-k, and none of them is better than the bar
                more = max(0, self._top_k - certain) * math.exp(bar - rest.logsumexp)
                least, likely, most = 0.0, min(likely, more), min(most, more)
            if len(guessed):
                doubtful = entries["logit"][np.isin(entries["id"], guessed)].astype(float)
                least -= float(np.exp(doubtful - rest.logsumexp).sum())
            whole = mass[-1] + np.array([least, likely, most])
            first, last = np.searchsorted(mass, self._top_p * whole[[0, 2]])
            agreed = first == last
            if (share := self._top_p * whole[1] / mass[-1]) < 1:
                sampler = native.llama_sampler_init_top_p(share, 1)
                native.llama_sampler_apply(sampler, array)
                native.llama_sampler_free(sampler)
            else:  # all of them are kept, in the order in which llama.cpp would have left them
                held = entries[: array.size]
                held[:] = held[np.argsort(-held["logit"], kind="stable")]
                array.sorted = True
        native.llama_sampler_apply(self._filters[1], array)
        return bool(agreed) and (topped or array.size < certain)

    def _beyond(self, best: TopK, row: int, penalised: npt.NDArray[np.float64], masked: bool) -> _Beyond:
        """Where `penalised` are the most that the logits of some of them can be."""
        logits, whole = best.logits[row].astype(float), float(best.logsumexp[row])
        if len(logits) == self.n_vocab:
            return _Beyond(whole, 0.0, 0.0, 0.0)
        rest = max(0.0, 1.0 - float(np.exp(logits - whole).sum()))
        most = rest + float(np.exp(penalised - whole).sum())
        if masked:  # nobody knows how much of it is within the mask; of what is well formed it is little
            return _Beyond(whole, 0.0, 0.0, most)
        lowered = len(penalised)
        if len(self._lowered):
            lowered += len(np.setdiff1d(self._lowered, best.ids[row]))
        least = rest - lowered * float(np.exp(logits[-1] - whole))
        return _Beyond(whole, max(0.0, least), rest, most)

    def close(self) -> None:
        """Free the samplers; calling it again does nothing."""
        for sampler in [*self._filters, *self._last]:
            native.llama_sampler_free(sampler)
        if self._penalising:
            self._penalising.close()
        self._filters, self._last, self._penalising = [], [], None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
