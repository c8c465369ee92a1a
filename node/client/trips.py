"""One trip over a path after the other: steps that are sent alone, or windows of guessed tokens in flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypercluster.market.money.budget import LimitReached
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.flight import Flight
from hypercluster.node.wire.messages import MOST_IN_FLIGHT

if TYPE_CHECKING:
    from hypercluster.node.client.drafting import Drafts
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.rows import TopK


class Trips:
    """The trips of one completion over one path.

    Args:
        most: windows in flight at most; None: as many as may be, where that pays.
        most_wei: see Flight.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        drafts: Drafts,
        spending: Spending,
        most: int | None,
        most_wei: int | None,
    ) -> None:
        self.guessed: list[int] = []
        """what was guessed for behind each row of the trip, as far as anything was"""
        self.flying = False
        """whether the trip's rows are in flight with others"""
        self.drafted = 0
        """guesses that were sent so far"""
        self._pipeline, self._drafts, self._spending = pipeline, drafts, spending
        self._pays_only = most is None
        self._flight = Flight(pipeline, spending, MOST_IN_FLIGHT if most is None else most, most_wei)
        self._window, self._room = 1, 0
        self._failure: HopFailed | None = None

    async def plan(self, pending: Sequence[int], room: int) -> int:
        """Choose how these tokens go, with `room` guesses behind them at most; returns the rows that are to be sent:
        none where they are in flight already.
        """
        flight, pipeline, drafts = self._flight, self._pipeline, self._drafts
        self._room, self.guessed = room, []
        self.flying = bool(flight.windows)
        if self.flying or self._failure is not None:
            return 0
        if len(pending) == 1:
            waits = drafts.waits(pipeline.busy_ms) if self._pays_only else drafts.measured
            if flight.may and (flight.out or waits):
                self._window = drafts.window(pipeline.cost, len(pipeline.hops))
                self.guessed = await drafts.ahead(pipeline.cost, self._window, min(room, self._window - 1))
                self.flying = bool(self.guessed or flight.out or self._window == 1)
                if not self.flying:
                    drafts.landed(0, missed=True)
            else:
                self.guessed = await drafts.guess(pipeline.cost, room)
        rows = len(pending) + len(self.guessed)
        if self.guessed and self._spending.refusal(pipeline.due(rows)):
            drafts.fell()
            self.guessed, self.flying, rows = [], False, len(pending)
        self.drafted += len(self.guessed)
        return rows

    async def go(self, pending: Sequence[int], position: int) -> TopK | None:
        """Run the trip; `pending` begins at `position`. The logits behind each of its rows, or behind the last token
        and each guess of one that goes alone; None where rows were lost: then the first of its tokens has to go again.

        Raises:
            HopFailed, OverDeposit, LimitReached: see Pipeline.run; nothing is in flight any more.
        """
        flight = self._flight
        try:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if not self.flying:
                await flight.settle(position)
                with self._spending.step(self._pipeline.due(len(pending) + len(self.guessed))):
                    return await self._pipeline.run(pending, self.guessed)
            if not flight.windows:
                await flight.begin(position, [*pending, *self.guessed])
            window = flight.windows[0]
            best = await flight.land(self._fill)
        except BaseException:
            self._fall()
            raise
        if best is None:
            self._fall()
            return None
        self.guessed = [*window.tokens[1:], *(flight.windows[0].tokens[:1] if flight.windows else ())]
        return best

    async def drawn(self, rows: int, ms: float, held: int) -> None:
        """Note that a trip of `rows` rows took `ms`, and that `held` of the guesses behind them were drawn."""
        if not self.flying:
            if rows:
                self._drafts.ran(rows, ms, len(self.guessed), held)
            return
        missed = held < len(self.guessed)
        self._drafts.landed(held, missed=missed)
        if not self._flight.windows:
            self._drafts.fell()
        if missed:
            try:
                await self._flight.discard()
            except HopFailed as failure:
                self._failure = failure

    async def end(self) -> None:
        """Have all sessions at rest. Never raises."""
        await self._flight.end()

    def _fall(self) -> None:
        if self.flying:
            self._drafts.fell()
            self.guessed, self.flying = [], False

    async def _fill(self, flight: Flight) -> None:
        while not flight.landed:
            rows = min(self._window, self._room + 1 - flight.rows)
            if rows < 1 or not flight.takes(rows):
                return
            guessed = await self._drafts.ahead(self._pipeline.cost, self._window, rows, lambda: flight.landed)
            if not guessed:
                return
            try:
                await flight.follow(guessed)
                self.drafted += len(guessed)
            except LimitReached:
                # Others spent it meanwhile. What was guessed is not in flight.
                self._drafts.unsend(len(guessed))
                return
