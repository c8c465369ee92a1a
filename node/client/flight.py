"""Steps of one path that follow each other before they are answered: windows of rows in flight.

A window holds the tokens behind those of the window before it, all but the very first guessed. Rows go from provider to
provider, so each computes one window while the next one computes the one before. Once a guess does not hold, all hops
are told at once to drop what they have not begun; what they have is paid and forgotten.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.rows import TopK
from hypercluster.node.wire.messages import MOST_IN_FLIGHT

if TYPE_CHECKING:
    from hypercluster.node.client.answers import Answer
    from hypercluster.node.client.flying import Flying
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.pipeline import Pipeline

log = logging.getLogger(__name__)

REST_SECONDS = 5.0
"""for all hops to say what became of what was out"""
Filling = Callable[["Flight"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Window:
    """One step over all hops: its tokens, and the position of the first."""

    position: int
    tokens: tuple[int, ...]
    epoch: int


class Flight:
    """What is on its way over a path, `most` windows of it at most.

    Args:
        spending: each window is set aside there as a whole before anything of it is signed.
        most_wei: that providers could claim and have not earned before another window follows; None: no bound.
    """

    def __init__(
        self, pipeline: Pipeline, spending: Spending, most: int, most_wei: int | None = None
    ) -> None:
        self._pipeline, self._spending, self._most = pipeline, spending, min(most, MOST_IN_FLIGHT)
        self._most_wei = most_wei
        self._windows: deque[Window] = deque()
        self._epoch = 1
        self._landed = False
        self._unseen: Hop | None = None
        """who signed for rows that did not come to the provider after as they were"""

    @property
    def may(self) -> bool:
        """Whether windows can follow each other over this path now."""
        return self._most > 1 and self._pipeline.rewinds and self._pipeline.linked

    @property
    def out(self) -> bool:
        """Whether any hop still owes an answer, be it to what was discarded."""
        return any(hop.out for hop in self._pipeline.hops)

    @property
    def windows(self) -> Sequence[Window]:
        """Those that count, the oldest first."""
        return self._windows

    @property
    def rows(self) -> int:
        """Of the windows that count."""
        return sum(len(window.tokens) for window in self._windows)

    def takes(self, rows: int) -> bool:
        """Whether a window of so many rows may follow now: within the limits, the deposits and the sessions."""
        hops, due = self._pipeline.hops, self._pipeline.due(rows)
        risked = sum(hop.unearned for hop in hops) + due
        return (
            all(hop.out < self._most and hop.account.channel.available >= hop.cost(rows) for hop in hops)
            and self._windows[0].position + self.rows + rows <= self._pipeline.capacity
            and (self._most_wei is None or risked <= self._most_wei)
            and self._spending.refusal(due) is None
        )

    async def begin(self, position: int, tokens: Sequence[int]) -> None:
        """Send the first window, from `position` on.

        Raises what `follow` does; after HopFailed all other hops are at rest, and none holds more than `position`.
        """
        try:
            await self._launch(position, tokens)
        except HopFailed as failure:
            await self.rest(position, failure.peer)
            raise
        except MarketError:
            await self.rest(position)
            raise

    async def follow(self, tokens: Sequence[int]) -> None:
        """Send a window behind the others.

        Raises:
            HopFailed: a hop does not take it; LimitReached: it is not covered, and nothing was sent; OverDeposit.
        """
        await self._launch(self._windows[0].position + self.rows, tokens)

    async def _launch(self, position: int, tokens: Sequence[int]) -> None:
        hops, rows = self._pipeline.hops, len(tokens)
        # Either all hops have it, or the flight is over.
        with self._spending.step(self._pipeline.due(rows)), trio.CancelScope(shield=True):
            self._windows.append(Window(position, tuple(tokens), self._epoch))
            for place, hop in enumerate(hops):
                onward = hops[place + 1].awaits if place + 1 < len(hops) else 0
                sent = None if place else tokens
                await hop.launch(sent, rows, position=position, epoch=self._epoch, onward=onward)
        self._pipeline.held[position:] = tokens

    async def land(self, filling: Filling) -> TopK | None:
        """The logits behind each row of the oldest window, while `filling` may launch others behind it.

        None: rows were lost on a link, which is relayed from now on; nothing is in flight any more.

        Raises:
            HopFailed: all other hops are at rest, and none holds more than what came before this window. So it is too
                where who sent such rows does not show the last ones that it says it sent on.
        """
        window = self._windows[0]
        failures: list[NodeError | MarketError] = []
        best: TopK | None = None

        async def fill() -> None:
            try:
                await filling(self)
            except (NodeError, MarketError) as error:
                failures.append(error)

        self._landed = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            try:
                best = await self._answers(window)
            except (NodeError, MarketError) as error:
                failures.insert(0, error)
            self._landed = True
        if failures:
            await self.rest(window.position, next((e.peer for e in failures if isinstance(e, HopFailed)), ""))
            raise failures[0]
        if best is None:
            await self._pass_by(window.position)
        else:
            self._windows.popleft()
        return best

    async def _pass_by(self, position: int) -> None:
        """Go on after rows were lost, with a step that is sent alone. Raises HopFailed, see `land`."""
        lost, self._unseen = self._unseen, None
        await self.settle(position)
        if lost is not None and lost.went_on:
            # It may have gone on from what was lost; but what it was paid for last it has, or it is as good as gone.
            await lost.shown()

    @property
    def landed(self) -> bool:
        """Whether the oldest window is there, so that whoever fills should look at it first."""
        return self._landed

    async def discard(self) -> None:
        """Have dropped whatever is out. Raises HopFailed: all others are at rest, at the oldest window's position."""
        if not self._windows:
            return
        position = self._windows[0].position
        try:
            await self._drop()
        except HopFailed as failure:
            await self.rest(position, failure.peer)
            raise

    async def end(self) -> None:
        """Have all sessions at rest, since nothing follows. Never raises."""
        if self.out:
            await self.rest(self._windows[0].position if self._windows else self._pipeline.position)

    async def settle(self, position: int) -> None:
        """Have all sessions at rest, since a step comes from `position` on that is sent alone.

        Raises HopFailed: one did not say in time what became of what was out.
        """
        if self.out or self._windows:
            late = await self.rest(position)
            if late is not None:
                raise HopFailed(late, "it did not say what became of its steps.", ErrorCode.TIMEOUT, How.LOST)

    async def rest(self, position: int, failed: str = "") -> str | None:
        """Discard all, and hear what became of it; the next step begins at `position`, or before it.

        A hop that does not say so in time, or is the one that `failed`, is given up: returns the first such one.
        """
        epoch, self._epoch = self._epoch, self._epoch + 1
        self._windows.clear()
        with trio.CancelScope(deadline=trio.current_time() + REST_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for hop in self._pipeline.hops:
                    if hop.out and hop.advert.peer != failed:
                        nursery.start_soon(self._settle, hop, epoch)
        late = [hop for hop in self._pipeline.hops if hop.out]
        for hop in late:
            hop.give_up()
        self._pipeline.rewind(position)
        del self._pipeline.held[position:]
        return late[0].advert.peer if late else None

    async def _drop(self) -> None:
        epoch, self._epoch = self._epoch, self._epoch + 1
        self._windows.clear()
        for hop in self._pipeline.hops:
            await hop.drop(epoch)

    async def _settle(self, hop: Flying, epoch: int) -> None:
        try:
            await hop.drop(epoch)
            while hop.out:
                await hop.landed()
        except HopFailed as error:
            log.debug("%s", error)

    async def _answers(self, window: Window) -> TopK | None:
        before: Answer | None = None
        for place, hop in enumerate(self._pipeline.hops):
            while hop.oldest_epoch < window.epoch:
                await hop.landed()
            answer = await hop.landed()
            if answer is None or (before is not None and answer.in_root != before.out_root):
                if place == 0:
                    raise HopFailed(hop.advert.peer, "it dropped a step that nobody had discarded.")
                self._pipeline.strain(place)
                self._unseen = self._pipeline.hops[place - 1]
                return None
            if isinstance(answer.output, TopK):
                return answer.output
            if answer.output is not None:
                # It could not send them on.
                self._pipeline.strain(place + 1)
                return None
            before = answer
        raise AssertionError("the last hop answers with logits")
