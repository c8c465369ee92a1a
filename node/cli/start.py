"""Where every program begins: nothing of weight is loaded yet, so that Ctrl-C ends it at once and without a word."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
COLLECT_AFTER, COLLECT_SERVING = 500_000, 100_000
"""new objects, where Python looks for garbage after 700: importing libraries makes 400,000 that stay"""


def program(module: str) -> Callable[[], NoReturn]:
    """The entry point that loads `module` and calls its `main`."""

    def main() -> NoReturn:
        gc.set_threshold(COLLECT_AFTER)
        _open_what_is_closed()
        with loading():
            loaded = import_module(module)
        loaded.main()
        raise AssertionError(f"{module}.main does not return")

    return main


@contextmanager
def loading() -> Iterator[None]:
    """Within it Ctrl-C ends the process at once: modules written in C swallow a KeyboardInterrupt as they begin."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def settle() -> None:
    """All that a program which runs for long needs is loaded: it stays, and garbage is looked for beside it."""
    gc.freeze()
    gc.set_threshold(COLLECT_SERVING)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _open_what_is_closed() -> None:
    """Point closed standard streams at nothing: a ledger opened as number 1 would be printed into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
