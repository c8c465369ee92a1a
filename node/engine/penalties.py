"""Penalties on what has come already: llama.cpp's own, and how far they may lift a token that nobody sent."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import llama_cpp as native
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties:
    """Of a token that came `count` times among the last `last_n`: its logit is divided by `repetition` (multiplied
    where negative), then loses `presence` and `count * frequency`.
    """

    presence: float = 0.0
    frequency: float = 0.0
    repetition: float = 1.0
    last_n: int = 64

    @property
    def off(self) -> bool:
        """Whether they change nothing."""
        return not self.last_n or (self.presence, self.frequency, self.repetition) == (0.0, 0.0, 1.0)


class Penalising:
    """Penalties over the tokens of one completion. To be closed."""

    def __init__(self, penalties: Penalties, n_vocab: int) -> None:
        self._penalties = penalties
        self._window: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        self._sampler: Any = native.llama_sampler_init_penalties(
            n_vocab, penalties.last_n, penalties.repetition, penalties.frequency, penalties.presence
        )

    def accept(self, tokens: Iterable[int]) -> None:
        """Remember what has come."""
        for token in tokens:
            native.llama_sampler_accept(self._sampler, token)
            self._window.append(token)
            self._counts[token] += 1
            if len(self._window) > self._penalties.last_n:
                old = self._window.popleft()
                self._counts[old] -= 1
                if not self._counts[old]:
                    del self._counts[old]

    def apply(self, array: Any) -> None:
        """Change the logits of llama.cpp's array of candidates."""
        native.llama_sampler_apply(self._sampler, array)

    def beyond(self, ids: npt.NDArray[np.int32], floor: float) -> npt.NDArray[np.float64]:
        """The most that the logits can be of tokens that are penalised and not among the candidates `ids`, given that
        they are `floor` at most without penalties.
        """
        absent = self._counts.keys() - set(ids.tolist())
        counts = np.array([self._counts[token] for token in absent], np.float64)
        own = self._penalties
        scaled = floor / own.repetition if floor > 0 else floor * own.repetition
        return scaled - own.presence - own.frequency * counts

    def close(self) -> None:
        """Free it."""
        native.llama_sampler_free(self._sampler)
