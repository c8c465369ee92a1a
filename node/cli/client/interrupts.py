"""Ctrl-C in two steps: the first ends what runs in good order, the next ends the process."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from hypercluster.node.cli.ending import INTERRUPTED
from hypercluster.node.client.joining import background
from hypercluster.node.serving.stopping import ENDING, anew


class Interrupts:
    """Counts Ctrl-C, SIGTERM and the end of the terminal, and cancels what is guarded.

    `last_words` says what is known before the process ends at once.
    """

    def __init__(self, last_words: Callable[[], None]) -> None:
        self.seen = 0
        self._last_words = last_words
        self._scope: trio.CancelScope | None = None

    @contextmanager
    def guard(self) -> Iterator[trio.CancelScope]:
        """A scope that the next interrupt cancels; one more ends the process."""
        with trio.CancelScope() as self._scope:
            yield self._scope

    async def listen(self, signals: AsyncIterator[int]) -> None:
        """Take note of every signal."""
        async for _ in anew(signals):
            self.seen += 1
            if self._scope is None or self._scope.cancel_called:
                self._last_words()
                os._exit(INTERRUPTED)
            self._scope.cancel()


@asynccontextmanager
async def interrupts(last_words: Callable[[], None]) -> AsyncIterator[Interrupts]:
    """Handle interrupts until the end of the block; signals that were ignored before stay so."""
    heard = [each for each in ENDING if signal.getsignal(each) is not signal.SIG_IGN]
    with trio.open_signal_receiver(*heard) as signals:
        async with background() as nursery:
            state = Interrupts(last_words)
            nursery.start_soon(state.listen, signals)
            yield state
