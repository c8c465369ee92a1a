"""Trio and what is not trio: blocking work in threads, futures that threads complete, what a nursery died of."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import ParamSpec, TypeVar

import trio

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs blocking functions in at most `most` threads at once: await it with a function and its arguments.

    What waits on one thing, such as a database or a chain, shares one of these, so that it does not use up the
    threads that others need. With one thread the work is done in the order in which it came.

    A thread cannot be stopped. Whoever is cancelled waits for it, or with `abandon` leaves it alone, as calls to a
    chain that hangs should be: then what the function does must bear that nobody looks at it any more.
    """

    def __init__(self, most: int, *, abandon: bool = False) -> None:
        self._limiter = trio.CapacityLimiter(most)
        self._abandon = abandon

    async def __call__(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What the function returns."""
        return await trio.to_thread.run_sync(
            partial(function, *arguments, **named),
            limiter=self._limiter,
            abandon_on_cancel=self._abandon,  # type: ignore[call-arg]  # trio's stubs are those of an older version
        )


def in_thread(work: Callable[[], T], name: str) -> Future[T]:
    """What `work` returns, or raises, which a thread of that name does from now on. It ends with the process."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            done.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


async def completed(future: Future[T]) -> T:
    """The result of a future that another thread completes; raises what it failed with.

    Cancelling gives up the waiting, not the work.
    """
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def wake(_: Future[T]) -> None:
        # The loop may have ended before the thread came to it.
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future.add_done_callback(wake)
    await done.wait()
    return future.result()


def first_cause(error: BaseException, *kinds: type[BaseException]) -> BaseException:
    """What a group of exceptions came of: its first one, of these kinds if there is one of them.

    What a failure brings down with it are cancellations and broken queues. Anything but a group is returned as it is.
    """
    if isinstance(error, BaseExceptionGroup) and kinds:
        error = error.subgroup(kinds) or error
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
