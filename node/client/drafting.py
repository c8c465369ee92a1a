"""Guesses of the tokens to come, so that one trip over the path can bring several of them.

A draft is what followed the same few tokens before, in the prompt or the answer. The path runs the last token and its
drafts in one step and gives the candidates behind each; the client draws token after token as always, and goes on to
the next row only where what it drew is what it had guessed. So drafts change what is paid and when, never what comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypercluster.market.economics.parameters import MarketParameters

LENGTHS = (4, 3, 2)
"""tokens that have to come again before what followed them is guessed, the surest first"""
PRIOR = 0.3
"""share of drafts that is taken to hold before any was tried"""
_SHARE = 0.15
"""of a new observation in a mean"""
_FORGET = 0.01
"""of what is known, at each step without drafts: what did not pay a while ago is tried again"""


class Drafts:
    """The drafts of one completion: `most` of them in a step, none where it is 0.

    Args:
        market: weighs what a step costs against the time it takes, as for paths.
        history: the prompt's tokens.
    """

    def __init__(self, most: int, market: MarketParameters, history: Sequence[int]) -> None:
        self.tried = self.held = 0
        """drafts that were sent, and those of them that were drawn"""
        self._most, self._market = most, market
        self._history: list[int] = []
        self._followed: dict[tuple[int, ...], int] = {}
        self._holds = dict.fromkeys(LENGTHS, PRIOR)
        self._length = LENGTHS[-1]
        self._step_ms: float | None = None
        self._row_ms: float | None = None
        if most:
            self.came(history)

    def came(self, tokens: Sequence[int]) -> None:
        """Note that these tokens are there now."""
        for token in tokens:
            at = len(self._history)
            for length in LENGTHS:
                if at >= length:
                    self._followed[tuple(self._history[-length:])] = at
            self._history.append(token)

    def guess(self, cost: Callable[[int], int], most: int) -> list[int]:
        """The tokens that are worth guessing now, `most` of them at most.

        `cost` says what a step of so many rows costs over the path, in wei.
        """
        if not self._most or self._step_ms is None:
            return []
        for length in LENGTHS:
            at = self._followed.get(tuple(self._history[-length:]))
            if at is not None:
                self._length = length
                found = self._copied(at, self._depth(self._holds[length], cost, min(most, self._most)))
                break
        else:
            found = []
        if not found:
            for each in LENGTHS:
                self._holds[each] += _FORGET * (PRIOR - self._holds[each])
            self._row_ms = (1 - _FORGET) * (self._row_ms or 0.0)
        return found

    def ran(self, rows: int, ms: float, drafts: int = 0, held: int = 0) -> None:
        """Note that a step of `rows` rows took `ms`, and that `held` of the drafts in it were drawn."""
        if rows == 1:
            self._step_ms = ms if self._step_ms is None else self._step_ms + _SHARE * (ms - self._step_ms)
        elif drafts and self._step_ms is not None:
            extra = max(0.0, ms - self._step_ms) / drafts
            self._row_ms = extra if self._row_ms is None else self._row_ms + _SHARE * (extra - self._row_ms)
        else:
            self._row_ms = ms / rows
        self.tried, self.held = self.tried + drafts, self.held + held
        # Behind the first that did not hold, the others tell nothing.
        for n in range(min(held + 1, drafts)):
            self._holds[self._length] += _SHARE * ((n < held) - self._holds[self._length])

    def _depth(self, holds: float, cost: Callable[[int], int], most: int) -> int:
        """How many drafts bring the most tokens for what a step weighs, if each holds with this probability."""
        tokens, best, depth, likely = 1.0, 1.0 / self._weight(cost, 0), 0, 1.0
        for drafts in range(1, most + 1):
            likely *= holds
            tokens += likely
            if (worth := tokens / self._weight(cost, drafts)) > best:
                best, depth = worth, drafts
        return depth

    def _weight(self, cost: Callable[[int], int], drafts: int) -> float:
        market, ms = self._market, (self._step_ms or 0.0) + drafts * (self._row_ms or 0.0)
        weight = market.alpha * cost(1 + drafts) / market.p_ref + (1 - market.alpha) * ms / market.c_ref
        return max(weight, 1e-9)

    def _copied(self, at: int, count: int) -> list[int]:
        """What followed at `at`; where that is the end, what has been guessed follows it."""
        guessed: list[int] = []
        for n in range(count):
            place = at + n - len(self._history)
            guessed.append(guessed[place] if place >= 0 else self._history[place])
        return guessed
