"""Guesses of the tokens to come, so that one trip over the path can bring several of them.

The path runs the last token and its drafts in one step and gives the candidates behind each; the client draws token
after token as always, and goes on to the next row only where what it drew is what it had guessed. So drafts change what
is paid and when, never what comes. Whoever makes the guesses is a Drafter: what stood in the text before (NGrams), or a
small model of the client's own (ModelDrafter).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.node.client.draft_model import DraftModel
    from hypercluster.node.client.request import Wishes

LENGTHS = (4, 3, 2)
"""tokens that have to come again before what followed them is guessed, the surest first"""
PRIOR = 0.3
"""share of drafts that is taken to hold before any was tried"""
_SHARE = 0.15
"""of a new observation in a mean"""
_FORGET = 0.01
"""of what is known, at each step without drafts: what did not pay a while ago is tried again"""


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
        self._at = self._length = 0

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
                self._at, self._length = at, length
                return self._history[at], length
        return None

    async def next(self, guessed: Sequence[int]) -> tuple[int, int] | None:
        """What followed there; where that is the end, what has been guessed follows it."""
        if not guessed:
            return self.seen()
        place = self._at + len(guessed)
        beyond = place - len(self._history)
        return (guessed[beyond] if beyond >= 0 else self._history[place]), self._length

    def close(self) -> None:
        """It holds nothing."""


class Drafts:
    """The drafts of one completion: `most` of them in a step, none where it is 0. To be closed.

    Args:
        market: weighs what a step costs against the time it takes, as for paths.
        drafters: who guesses beside n-grams: of those that are ready, the one whose guesses hold most often.
    """

    def __init__(self, most: int, market: MarketParameters, drafters: Sequence[Drafter] = ()) -> None:
        self.tried = self.held = 0
        """drafts that were sent, and those of them that were drawn"""
        self._wished, self._most, self._market = most, 0, market
        self._drafters = (*drafters, NGrams())
        self._drafter: Drafter = self._drafters[-1]
        self._holds = {each: dict(each.priors) for each in self._drafters}
        self._usual = {each: each.usual for each in self._drafters if each.usual is not None}
        self._known = 0
        self._kinds: list[int] = []
        """of the guesses that were sent last"""
        self._unsent: tuple[int, int] | None = None
        """a first guess that was not worth sending, and its kind: whether it holds is seen all the same"""
        self._step_ms: float | None = None
        self._row_ms: float | None = None
        self._guess_ms = dict.fromkeys(self._drafters, 0.0)

    def over(self, *, rewinds: bool, history: Sequence[int]) -> None:
        """Begin on a path, behind these tokens; nothing is guessed on one that cannot go back."""
        self._most = self._wished if rewinds else 0
        self._step_ms = self._row_ms = None
        if self._most:
            self._note(history[self._known :])

    def came(self, tokens: Sequence[int]) -> None:
        """Note that these tokens are there now; who could have guessed them for nothing is judged by that as well."""
        if not self._most:
            return
        for token in tokens:
            for each in self._drafters:
                used = each is self._drafter
                found = self._unsent if used and self._unsent is not None else each.seen()
                # What was sent was judged with the step.
                if found is not None and not (used and self._kinds):
                    self._judge(each, found[1], holds=found[0] == token)
            self._unsent = None
            self._note([token])

    async def guess(self, cost: Callable[[int], int], most: int) -> list[int]:
        """The tokens that are worth guessing now, `most` of them at most.

        `cost` says what a step of so many rows costs over the path, in wei.
        """
        most = min(most, self._most)
        if self._step_ms is None or most < 1:
            return []
        self._kinds, self._unsent = [], None
        asked = [each for each in self._drafters if each.ready and self._pays(each, cost)]
        self._drafter = max(asked, key=self._promised)
        guessed = await self._guessed(self._drafter, cost, most)
        if not guessed:
            self._forget()
        return guessed

    def ran(self, rows: int, ms: float, drafts: int = 0, held: int = 0) -> None:
        """Note that a step of `rows` rows took `ms`, and that `held` of the drafts in it were drawn."""
        if rows == 1:
            self._step_ms = _mean(self._step_ms, ms)
        elif drafts and self._step_ms is not None:
            self._row_ms = _mean(self._row_ms, max(0.0, ms - self._step_ms) / drafts)
        else:
            self._row_ms = ms / rows
        self.tried, self.held = self.tried + drafts, self.held + held
        # Behind the first that did not hold, the others tell nothing.
        for n, kind in enumerate(self._kinds[: min(held + 1, drafts)]):
            self._judge(self._drafter, kind, holds=n < held)

    def _judge(self, drafter: Drafter, kind: int, *, holds: bool) -> None:
        known = self._holds[drafter]
        known[kind] = _mean(known[kind], float(holds))
        if drafter in self._usual:
            self._usual[drafter] = _mean(self._usual[drafter], float(holds))

    def _note(self, tokens: Sequence[int]) -> None:
        self._known += len(tokens)
        for each in self._drafters:
            each.came(tokens)

    def _promised(self, drafter: Drafter) -> float:
        """How often guesses like its next one hold."""
        if drafter in self._usual:
            return self._usual[drafter]
        found = drafter.seen()
        return self._holds[drafter][found[1]] if found is not None else 0.0

    async def _guessed(self, drafter: Drafter, cost: Callable[[int], int], most: int) -> list[int]:
        """As many guesses as bring the most tokens for what a step weighs, if each holds as often as its kind did."""
        guessed: list[int] = []
        tokens, best, likely = 1.0, 1.0 / self._weight(drafter, cost, 0), 1.0
        while len(guessed) < most:
            began = time.perf_counter()
            found = await drafter.next(guessed)
            took = 1000 * (time.perf_counter() - began)
            if drafter in self._usual:
                self._guess_ms[drafter] = _mean(self._guess_ms[drafter] or None, took)
            if found is None:
                break
            token, kind = found
            likely *= self._holds[drafter][kind]
            tokens += likely
            if (worth := tokens / self._weight(drafter, cost, len(guessed) + 1)) <= best:
                self._unsent = found if not guessed else None
                break
            best = worth
            guessed.append(token)
            self._kinds.append(kind)
        return guessed

    def _pays(self, drafter: Drafter, cost: Callable[[int], int]) -> bool:
        """Whether a guess of a drafter is worth the time that it takes, if it takes any."""
        if drafter not in self._usual:
            return True
        return (1.0 + self._usual[drafter]) / self._weight(drafter, cost, 1) > 1.0 / self._weight(
            drafter, cost, 0
        )

    def _forget(self) -> None:
        for drafter, holds in self._holds.items():
            for kind, prior in drafter.priors.items():
                holds[kind] += _FORGET * (prior - holds[kind])
            if drafter.usual is not None:
                self._usual[drafter] = _mean(self._usual[drafter], drafter.usual, _FORGET)
                self._guess_ms[drafter] *= 1 - _FORGET
        self._row_ms = (1 - _FORGET) * (self._row_ms or 0.0)

    def _weight(self, drafter: Drafter, cost: Callable[[int], int], drafts: int) -> float:
        each = (self._row_ms or 0.0) + self._guess_ms[drafter]
        market, ms = self._market, (self._step_ms or 0.0) + drafts * each
        weight = market.alpha * cost(1 + drafts) / market.p_ref + (1 - market.alpha) * ms / market.c_ref
        return max(weight, 1e-9)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._drafters:
            each.close()


def drafts_for(wishes: Wishes, model: DraftModel | None) -> Drafts:
    """The drafts of one completion with these wishes, guessed by a model if there is one."""
    return Drafts(wishes.drafts, wishes.market, [model.drafter()] if model and wishes.drafts else ())


def _mean(before: float | None, new: float, share: float = _SHARE) -> float:
    return new if before is None else before + share * (new - before)
