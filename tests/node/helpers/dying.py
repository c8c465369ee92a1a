"""Programs that end at one of the moments at which they wait for a chain or a disk, as a kill would have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import trio

from hypercluster.node.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")


class Killed(BaseException):
    """Nothing of the program goes on from here; no handler for errors sees it."""


class Dying(Threads):
    """Threads that end the program at the `moment`-th call, counted over all that share `count`: before it is done,
    or when it is done and nobody heard of it.
    """

    def __init__(self, count: list[int], moment: int, *, done: bool) -> None:
        super().__init__(4)
        self._count, self._moment, self._done = count, moment, done

    async def __call__(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        self._count[0] += 1
        ends = self._count[0] == self._moment
        if ends and not self._done:
            raise Killed
        result = await super().__call__(function, *arguments, **named)
        await trio.lowlevel.checkpoint()
        if ends:
            raise Killed
        return result
