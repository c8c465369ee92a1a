"""The market for programs without an event loop: the same, in a thread of its own, whose caller waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import trio

from hypercluster.node.threads import first_cause
from hypercluster.node.traffic.answer import text_of
from hypercluster.node.traffic.entries import MarketClosed
from hypercluster.node.traffic.loop import Loop

if TYPE_CHECKING:
    from hypercluster.node.client.completion import Bill, Completion
    from hypercluster.node.client.request import Request
    from hypercluster.node.engine.chat import Message
    from hypercluster.node.traffic.answer import Answer
    from hypercluster.node.traffic.caller import Caller
    from hypercluster.node.traffic.connecting import Connection
    from hypercluster.node.traffic.entries import ModelEntry
    from hypercluster.node.traffic.events import Event
    from hypercluster.node.traffic.market import Market, Wallet, Wanted

T = TypeVar("T")


class BlockingMarket:
    """A Market whose methods return when they are done; see `connect`. May be used from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = Loop()
        self._opened_or_failed, self._closing, self._ended = trio.Event(), trio.Event(), trio.Event()
        self._market: Market | None = None
        self._failure: Exception | None = None

    def enter(self) -> BlockingMarket:
        """Open it. Raises what `connect` says."""
        self._loop.start()
        try:
            self._loop.call(self._open)
        except BaseException:
            self._loop.stop()
            raise
        return self

    def exit(self) -> None:
        """Close it: what still runs is ended, paid for and written down."""
        try:
            self._loop.call(self._close)
        finally:
            self._loop.stop()

    async def _open(self) -> None:
        assert self._loop.nursery is not None
        self._loop.nursery.start_soon(self._live)
        await self._opened_or_failed.wait()
        self._raise_failure()

    async def _close(self) -> None:
        self._closing.set()
        await self._ended.wait()
        self._raise_failure()

    async def _live(self) -> None:
        """The market lives in a task of its own, since a block begins and ends in one task."""
        try:
            async with self._connection as market:
                self._market = market
                self._opened_or_failed.set()
                await self._closing.wait()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._failure = error
        finally:
            self._market = None
            self._opened_or_failed.set()
            self._ended.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise first_cause(self._failure)

    # --- what there is --------------------------------------------------------------------------------------------

    def models(self) -> tuple[ModelEntry, ...]:
        """What is offered of each model now."""
        return self._do(lambda market: market.models())

    def model(self, name: str | None = None) -> ModelEntry:
        """One of them by its name, alias or id; the first without a name. Raises UnknownModel."""
        return self._do(lambda market: market.model(name))

    def wallet(self) -> Wallet:
        """What the wallet holds. Raises ChainError."""
        return self._loop.call(self._opened.wallet)

    @property
    def spent_wei(self) -> int:
        """What all requests of this market cost so far, audits included."""
        return self._opened.spent_wei

    # --- what is asked --------------------------------------------------------------------------------------------

    def run(self, request: Request, caller: Caller | None = None) -> BlockingAnswer:
        """See Market.run."""
        return BlockingAnswer(self._loop, self._do(lambda market: market.run(request, caller)))

    def chat(
        self, messages: str | Sequence[Message | Mapping[str, str]], **wanted: Unpack[Wanted]
    ) -> BlockingAnswer:
        """See Market.chat."""
        return BlockingAnswer(self._loop, self._do(lambda market: market.chat(messages, **wanted)))

    def complete(self, prompt: str | Sequence[int], **wanted: Unpack[Wanted]) -> BlockingAnswer:
        """See Market.complete."""
        return BlockingAnswer(self._loop, self._do(lambda market: market.complete(prompt, **wanted)))

    @property
    def _opened(self) -> Market:
        if self._market is None:
            raise MarketClosed("The market is closed: use it within its block.") from self._failure
        return self._market

    def _do(self, what: Callable[[Market], T]) -> T:
        """In the loop, as a market is for one thread."""
        market = self._opened

        async def do() -> T:
            return what(market)

        return self._loop.call(do)


class BlockingAnswer:
    """An Answer to iterate over without an event loop; leave it by its block, or run it to its end."""

    def __init__(self, loop: Loop, answer: Answer) -> None:
        self._loop, self._answer = loop, answer

    @property
    def request_id(self) -> str:
        """Of the row in the ledger."""
        return self._answer.request_id

    @property
    def completion(self) -> Completion:
        """What has come so far."""
        return self._answer.completion

    @property
    def bill(self) -> Bill:
        """What it cost so far."""
        return self._answer.bill

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return self._loop.call(self._answer.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None
        except MarketClosed:
            raise
        except BaseException:
            # Interrupted in mid-step: nothing goes on behind the back of whoever goes on.
            with suppress(MarketClosed):
                self._loop.call(self._answer.aclose)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it here; nothing if it has ended."""
        self._loop.call(self._answer.aclose)

    def texts(self) -> Iterator[str]:
        """The text piece by piece, as it may be shown. Raises what `text` raises."""
        with self:
            for event in self:
                if piece := text_of(event):
                    yield piece
        self._answer.raise_failure()

    def text(self) -> str:
        """Run it to its end and return its text. Raises what Answer.text raises."""
        return "".join(self.texts())
