"""One request while it runs, from its place in the queue to its bill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hypercluster.node.client.events import Finished, HopReplaced, Token
from hypercluster.node.traffic.happenings import HopLost, RequestBegun, RequestEnded

if TYPE_CHECKING:
    from hypercluster.node.client.completing import Completing
    from hypercluster.node.client.completion import Bill, Completion
    from hypercluster.node.traffic.caller import Caller
    from hypercluster.node.traffic.entries import NamedModel
    from hypercluster.node.traffic.events import Event
    from hypercluster.node.traffic.watching import Watch


class Answer:
    """A request as a stream of its events; see `Market.run`.

    ::

        async with market.run(request, caller) as answer:
            async for event in answer:
                ...

    The last event is Finished, with the reason, the bill, and the error where it failed. It may be left at any
    event: then `completion` holds what came and what it cost.
    """

    def __init__(
        self,
        completing: Completing,
        model: NamedModel,
        caller: Caller,
        watch: Watch,
        *,
        on_begun: Callable[[Answer], None],
        on_ended: Callable[[Answer], None],
    ) -> None:
        self.model, self.caller = model, caller
        self._completing, self._watch = completing, watch
        self._on_begun, self._on_ended = on_begun, on_ended
        self._begun = self._ended = False

    @property
    def request_id(self) -> str:
        """Of the row in the ledger."""
        return self.completion.request_id

    @property
    def completion(self) -> Completion:
        """What has come so far; whole, its bill included, when the stream has ended or its block is left."""
        return self._completing.completion

    @property
    def bill(self) -> Bill:
        """What it cost so far, hop by hop, with what was put into channels for it."""
        return self.completion.bill

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._begun:
            self._begun = True
            self._on_begun(self)
            self._watch.tell(RequestBegun(self.request_id, self.model.model_id))
        try:
            event = await anext(self._completing)
        except BaseException:
            # Cancelled, or beyond the last event.
            self._end()
            raise
        match event:
            case HopReplaced():
                self._watch.tell(HopLost(self.request_id, self.model.model_id, event.peer, event.reason))
            case Finished():
                self._end()
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it here; nothing if it has ended."""
        await self._completing.aclose()
        self._end()

    def _end(self) -> None:
        if self._begun and not self._ended:
            self._ended = True
            done = self.completion
            self._watch.tell(RequestEnded(self.request_id, self.model.model_id, done.finish, done.spent_wei))
            self._on_ended(self)

    async def texts(self) -> AsyncIterator[str]:
        """The text piece by piece, as it may be shown. Raises what `text` raises, when the text has ended."""
        async with self:
            async for event in self:
                if piece := text_of(event):
                    yield piece
        self.raise_failure()

    async def text(self) -> str:
        """Run it to its end and return its text.

        Raises:
            NodeError, MarketError, OSError: what made it fail; `completion` holds what came before.
        """
        return (await self.finished()).text

    async def finished(self) -> Completion:
        """Run it to its end. Raises what `text` raises."""
        async with self:
            async for _ in self:
                pass
        self.raise_failure()
        return self.completion

    def raise_failure(self) -> None:
        """Raise what made it fail, if anything did."""
        if self.completion.error is not None:
            raise self.completion.error


def text_of(event: Event) -> str:
    """What an event adds to the text that may be shown."""
    match event:
        case Token():
            return event.text
        case Finished():
            return event.rest
        case _:
            return ""
