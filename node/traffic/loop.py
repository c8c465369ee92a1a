"""An event loop in a thread of its own, for callers that have none and wait."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import trio

from hypercluster.node.traffic.entries import MarketClosed

P = ParamSpec("P")
T = TypeVar("T")


class Loop:
    """An event loop in a thread: `call` runs a coroutine function in it and waits for what it returns.

    Whoever is interrupted while it waits (Ctrl-C) leaves nothing running: the work is cancelled, and has ended when
    the interrupt goes on.
    """

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None
        self.nursery: trio.Nursery | None = None
        self._ready = threading.Event()
        self._waiting: set[Future[Any]] = set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="market", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """End; what still runs is cancelled first."""
        if self._token is not None:
            nursery = self.nursery
            assert nursery is not None
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(nursery.cancel_scope.cancel)
        self._thread.join()

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns, or raise what it raises.

        Raises:
            MarketClosed: the loop has ended.
        """
        future: Future[T] = Future()
        scope = trio.CancelScope()

        async def work() -> None:
            try:
                with scope:
                    future.set_result(await function(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                future.set_exception(error)
            finally:
                if not future.done():
                    future.set_exception(MarketClosed("The market was closed meanwhile."))
                self._waiting.discard(future)

        def begin() -> None:
            assert self.nursery is not None
            self.nursery.start_soon(work)

        self._waiting.add(future)
        try:
            if self._token is None:
                raise trio.RunFinishedError
            self._token.run_sync_soon(begin)
        except trio.RunFinishedError:
            self._waiting.discard(future)
            raise MarketClosed("The market is closed: use it within its block.") from self._failure
        try:
            return future.result()
        except BaseException:
            if not future.done():
                with suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(scope.cancel)
                with suppress(Exception):
                    future.result()
            raise

    def _run(self) -> None:
        try:
            trio.run(self._live)
        except BaseException as error:  # noqa: BLE001 - raised where the market is used next
            self._failure = error
        finally:
            self._ready.set()
            for future in list(self._waiting):
                if not future.done():
                    future.set_exception(MarketClosed("The market ended by itself."))

    async def _live(self) -> None:
        async with trio.open_nursery() as nursery:
            self.nursery, self._token = nursery, trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.sleep_forever()
