"""Programs that end at one of the moments at which they wait for a chain or a disk, as a kill would have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from hypercluster.node.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")


class Killed(BaseException):
    """Nothing of the program goes on from here; no handler for errors sees it."""


class Dying(Threads):
    """Threads that end the program at the `moment`-th call: when it is done, and before anybody hears of it."""

    def __init__(self, moment: int) -> None:
        super().__init__(4)
        self._left = moment

    async def __call__(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        result = await super().__call__(function, *arguments, **named)
        self._left -= 1
        if not self._left:
            raise Killed
        return result
