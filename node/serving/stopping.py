"""How a node ends: asked once it takes its leave within a bound, asked twice it goes at once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""from the first signal to the end of the process at the latest"""

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""signals that tell a program to end, as far as this system has them"""

ECHO_SECONDS = 0.2
"""the same signal again within this time is the same one: `timeout` sends it to the process and to its group"""


async def anew(signals: AsyncIterator[int]) -> AsyncIterator[int]:
    """Signals as they come, without the echoes of the last one."""
    last, at = 0, 0.0
    async for number in signals:
        now = trio.current_time()
        if number != last or now - at > ECHO_SECONDS:
            last, at = number, now
            yield number


@asynccontextmanager
async def until_signal(before_end: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Cancel the block at SIGINT, SIGTERM or SIGHUP; what has to be done before leaving is shielded in it.

    After STOP_SECONDS, or at the next signal, the process ends whatever it is doing, and `before_end` is its last act:
    all that matters is in the ledger by then. In another thread than the main one signals do not arrive, and whoever
    started it cancels it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [
        number
        for number in ENDING
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT
    ]
    failure: Exception | None = None
    bound = threading.Timer(
        STOP_SECONDS, _end, (1, f"not everything could be ended within {STOP_SECONDS:g} s", before_end)
    )
    bound.daemon = True
    with trio.open_signal_receiver(*wanted) as signals:

        async def listen(block: trio.CancelScope) -> None:
            async for _ in anew(signals):
                if block.cancel_called:
                    _end(130, "told twice to end", before_end)
                log.warning("stopping; a second signal ends this at once")
                block.cancel()
                bound.start()

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as block:
                nursery.start_soon(listen, block)
                try:
                    yield
                except Exception as error:  # noqa: BLE001 - raised again below, outside of the nursery
                    failure = error
            nursery.cancel_scope.cancel()
    bound.cancel()
    if failure:
        raise failure


def _end(code: int, why: str, before_end: Callable[[], None]) -> None:
    before_end()
    log.warning("%s: gone; what is not claimed yet stays in the ledger", why)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
