"""Blocking work on the trio loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import trio

P = ParamSpec("P")
T = TypeVar("T")


async def in_abandoned_thread(
    limiter: trio.CapacityLimiter | None, function: Callable[P, T], *arguments: P.args, **named: P.kwargs
) -> T:
    """Call `function` in a thread that is left alone when the caller is cancelled: what it does must bear that.

    For calls to a chain that may hang. `limiter` bounds how many threads there are, those left alone included.
    """
    return await trio.to_thread.run_sync(
        partial(function, *arguments, **named),
        limiter=limiter,
        abandon_on_cancel=True,  # type: ignore[call-arg]  # trio's stubs are those of an older version
    )
