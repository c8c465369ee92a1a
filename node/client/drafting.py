"""Guesses of the tokens to come, so that one trip over the path can bring several of them.

The path runs the last token and its drafts in one step and gives the candidates behind each; the client draws token
after token as always, and goes on to the next row only where what it drew is what it had guessed. So drafts change what
is paid and when, never what comes. Whoever makes the guesses is a Drafter: what stood in the text before (NGrams), or a
small model of the client's own (ModelDrafter).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hypercluster.node.client.guessing import Drafter, NGrams

if TYPE_CHECKING:
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.node.client.draft_model import DraftModel
    from hypercluster.node.client.request import Wishes

_SHARE = 0.15
"""of a new observation in a mean"""
_FORGET = 0.01
"""of what is known, at each step without drafts: what did not pay a while ago is tried again"""
MOST_WINDOW_ROWS = 4
"""of a step in flight: longer ones are answered later, and fewer providers compute at the same time"""
LEAST_WIRE_MS = 20.0
"""that a step is on its way before anything is gained by sending others meanwhile: below, it waits for machines"""
_FLIGHT = 8
"""guesses in flight for which the rows of a window are chosen"""


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
        self._sent = False
        """whether what was guessed for the next tokens was sent"""
        self._air: list[tuple[int, int]] = []
        """guesses in flight and their kinds; `_next` are those behind them that were not worth sending yet"""
        self._next: list[tuple[int, int]] = []
        self._hops = 1

    def over(self, *, rewinds: bool, history: Sequence[int]) -> None:
        """Begin on a path, behind these tokens; nothing is guessed on one that cannot go back."""
        self._most = self._wished if rewinds else 0
        self._step_ms = self._row_ms = None
        self.fell()
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
                if found is not None and not (used and self._sent):
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
        self._choose(cost)
        guessed = await self._guessed(self._drafter, cost, most)
        self._sent = bool(guessed)
        if not guessed:
            self._forget()
        return guessed

    @property
    def measured(self) -> bool:
        """Whether there are drafts, and what a step takes is known."""
        return self._most > 0 and self._step_ms is not None

    def waits(self, busy_ms: float) -> bool:
        """Whether there are drafts, and a step is longer on its way than providers are busy with it."""
        wire_ms = (self._step_ms or 0.0) - busy_ms
        return self._most > 0 and wire_ms > max(busy_ms, LEAST_WIRE_MS)

    def window(self, cost: Callable[[int], int], hops: int) -> int:
        """Rows of a window in flight over so many hops for which the same guesses weigh least."""
        self._hops, rows = hops, 1 + _FLIGHT
        return min(
            range(1, MOST_WINDOW_ROWS + 1),
            key=lambda each: self._flight_weight(cost(each) * rows / each, each, rows),
        )

    async def ahead(
        self,
        cost: Callable[[int], int],
        window: int,
        most: int,
        hurried: Callable[[], bool] = lambda: False,
    ) -> list[int]:
        """The guesses for the next window in flight, `most` of them at most, behind those that are in flight already.

        `window` is the number of rows of a window, `cost` as for `guess`. Once somebody is `hurried` there are none,
        and what was guessed is there the next time.
        """
        if self._step_ms is None or not self._most:
            return []
        if not (self._air or self._next):
            self._choose(cost)
        holds, most = self._holds[self._drafter], min(most, window)
        likely = tokens = 1.0
        for _, kind in self._air:
            likely *= holds[kind]
            tokens += likely
        rows, alone = 1 + len(self._air), not self._air and most < window
        wei = max(cost(1), cost(window) * rows / window)
        least = tokens / self._flight_weight(wei, window, rows)
        behind = self._next
        at, worth = 0, 0.0
        while at < most:
            # Were all the others right, would it be worth it?
            sure = tokens + likely * (most - at)
            if sure / self._flight_weight(wei + cost(most) * (not alone), window, rows + most) <= least:
                break
            if at == len(behind):
                if hurried():
                    return []
                found = await self._timed(self._drafter, [token for token, _ in (*self._air, *behind)])
                if found is None:
                    break
                behind.append(found)
            likely *= holds[behind[at][1]]
            tokens += likely
            at += 1
            more = cost(1 + at) - cost(1) if alone else cost(at)
            worth = tokens / self._flight_weight(wei + more, window, rows + at)
        if not at or worth <= least:
            return []
        sent, self._next = behind[:at], behind[at:]
        self._air += sent
        self.tried += at
        return [token for token, _ in sent]

    def landed(self, held: int, *, missed: bool) -> None:
        """Note that so many of the guesses in flight were drawn, and whether the one behind them was not: then none is
        in flight any more.
        """
        self._sent = bool(self._air)
        if not self._air:
            # Whether what was not worth sending holds is seen all the same.
            self._unsent = self._next[0] if self._next else None
            self._forget()
        self.held += held
        for number, (_, kind) in enumerate(self._air[: held + missed]):
            self._judge(self._drafter, kind, holds=number < held)
        del self._air[:held]
        if missed:
            self.fell()

    def unsend(self, guesses: int) -> None:
        """Note that so many guesses, the last ones, were not sent after all."""
        self._next = self._air[-guesses:] + self._next
        del self._air[-guesses:]
        self.tried -= guesses

    def fell(self) -> None:
        """Note that nothing is in flight."""
        self._air, self._next = [], []

    def _choose(self, cost: Callable[[int], int]) -> None:
        self._kinds, self._unsent = [], None
        asked = [each for each in self._drafters if each.ready and self._pays(each, cost)]
        self._drafter = max(asked, key=self._promised)

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
            found = await self._timed(drafter, guessed)
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

    async def _timed(self, drafter: Drafter, guessed: Sequence[int]) -> tuple[int, int] | None:
        began = time.perf_counter()
        found = await drafter.next(guessed)
        if drafter in self._usual:
            took = 1000 * (time.perf_counter() - began)
            self._guess_ms[drafter] = _mean(self._guess_ms[drafter] or None, took)
        return found

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
        return self._weighed(cost(1 + drafts), (self._step_ms or 0.0) + drafts * each)

    def _flight_weight(self, wei: float, window: int, rows: int) -> float:
        """Of so many rows in windows: providers compute them at the same time, and guesses are made meanwhile."""
        row_ms = self._row_ms or 0.0
        each = max(row_ms / self._hops, self._guess_ms[self._drafter])
        return self._weighed(wei, (self._step_ms or 0.0) + (window - 1) * row_ms + rows * each)

    def _weighed(self, wei: float, ms: float) -> float:
        market = self._market
        return max(market.alpha * wei / market.p_ref + (1 - market.alpha) * ms / market.c_ref, 1e-9)

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
