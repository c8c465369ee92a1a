"""Who guesses the tokens to come: what a drafter is, and the one that looks at what stood in the text before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

LENGTHS = (4, 3, 2)
"""tokens that have to come again before what followed them is guessed, the surest first"""
PRIOR = 0.3
"""share of drafts that is taken to hold before any was tried"""


class Drafter(Protocol):
    """Makes guesses, one behind the other. Guesses of one kind hold about as often as each other."""

    @property
    def priors(self) -> Mapping[int, float]:
        """Every kind of guess, and the share of it that is taken to hold before any was tried."""

    @property
    def usual(self) -> float | None:
        """The share of all guesses that is taken to hold at first, where making one takes time; None: it takes none."""

    @property
    def ready(self) -> bool:
        """Whether it can guess now."""

    def came(self, tokens: Sequence[int]) -> None:
        """Note that these tokens are there now."""

    def seen(self) -> tuple[int, int] | None:
        """What `next` would say first, where that takes no time."""

    async def next(self, guessed: Sequence[int]) -> tuple[int, int] | None:
        """The token that may follow all that came and these guesses, and its kind; None where it has no guess."""

    def close(self) -> None:
        """Free what it holds; it guesses nothing any more."""


class NGrams:
    """Guesses what followed the same few tokens before, in the prompt or the answer; a kind is how many these were."""

    priors = MappingProxyType(dict.fromkeys(LENGTHS, PRIOR))
    usual = None
    ready = True

    def __init__(self) -> None:
        self._history: list[int] = []
        self._followed: dict[tuple[int, ...], int] = {}
        self._at = self._length = self._seen = 0
        """where what was seen last went on, how many tokens were the same, and how many there were then"""

    def came(self, tokens: Sequence[int]) -> None:
        """Note that these tokens are there now."""
        for token in tokens:
            at = len(self._history)
            for length in LENGTHS:
                if at >= length:
                    self._followed[tuple(self._history[-length:])] = at
            self._history.append(token)

    def seen(self) -> tuple[int, int] | None:
        """What followed the longest of what came again."""
        for length in LENGTHS:
            at = self._followed.get(tuple(self._history[-length:]))
            if at is not None:
                self._at, self._length, self._seen = at, length, len(self._history)
                return self._history[at], length
        return None

    async def next(self, guessed: Sequence[int]) -> tuple[int, int] | None:
        """What followed there; where that is the end, what has been guessed follows it."""
        if not guessed:
            return self.seen()
        place = self._at + len(self._history) - self._seen + len(guessed)
        beyond = place - len(self._history)
        return (guessed[beyond] if beyond >= 0 else self._history[place]), self._length

    def close(self) -> None:
        """It holds nothing."""
