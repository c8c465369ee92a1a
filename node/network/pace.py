"""How fast strangers are read: what they send over libp2p connections costs this node time, and nothing else does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import ISecureConn

from hypercluster.node.network.budgets import Budget, OverBudget, Source

_LOOK_SECONDS = 1.0
"""between looks at whether a peer is still a stranger"""
_PAUSE_SECONDS = 0.25
"""for which somebody waits at least"""


class PacedConn:
    """A secured connection that is read within `budget` while `is_stranger` says so; else the connection itself.

    The muxer reads twice for each frame, whatever the frame is for. Who sends too much is not refused: its own
    connection fills up and it has to wait.
    """

    def __init__(
        self, inner: ISecureConn, source: Source, budget: Budget, is_stranger: Callable[[str], bool]
    ) -> None:
        self._inner = inner
        self._source = source
        self._budget = budget
        self._is_stranger = is_stranger
        self._stranger = True
        self._looked = -math.inf

    async def read(self, n: int | None = None) -> bytes:
        """What the connection gives, a while later for a stranger that sent much."""
        data = await self._inner.read(n)
        now = trio.current_time()
        if now > self._looked + _LOOK_SECONDS:
            self._stranger, self._looked = self._is_stranger(self._source.peer), now
        while self._stranger:
            try:
                self._budget.take(self._source)
                break
            except OverBudget as error:
                # Many who wait for one token each would keep the node busy with nothing but waking them.
                await trio.sleep(max(error.wait, _PAUSE_SECONDS))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
