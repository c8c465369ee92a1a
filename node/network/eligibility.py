"""Who may serve, and how much: the chain's answer, kept for a while."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import ChainError
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain

KEEP_SECONDS = 60.0
GRACE_SECONDS = 900.0
"""for which an older yes holds while the chain does not answer"""
MAX_KEPT = 10_000
MOST_AT_ONCE = 50
GATHER_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Backing:
    """The active stake behind a node key in wei, and the sessions that it carries."""

    wei: int
    sessions: int


Eligible = Callable[[str, str], Awaitable[Backing | None]]
"""(node address, operator) -> what is behind the node key; None if it may not serve for that operator"""

_UNBOUNDED = Backing(2**96 - 1, 2**32 - 1)


async def anyone(_node_address: str, _operator: str) -> Backing:
    """An `Eligible` for a network without stake: a backing that carries everything."""
    return _UNBOUNDED


class Eligibility:
    """Is a node key authorised by its operator, and how much stake is behind it?

    Called with the node's address and the operator's; the registry's answer is kept for a minute, so a flood of
    adverts is no flood of RPC calls. Those who ask at the same time share one call. While the chain does not answer,
    who had enough a quarter of an hour ago still has: to take a stake back takes longer. Raises ChainError for others.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._known: dict[tuple[str, str], tuple[float, Backing | None]] = {}
        self._waiting: set[tuple[str, str]] = set()
        self._turn = trio.Lock()
        self._on_chain = Threads(2, abandon=True)

    async def __call__(self, node: str, operator: str) -> Backing | None:
        """What is behind `node` if it may serve for `operator` now."""
        pair = node, operator
        if kept := self._kept(pair):
            return kept[1]
        self._waiting.add(pair)
        try:
            async with self._turn:
                if kept := self._kept(pair):
                    return kept[1]
                # Adverts come in swarms: a moment later their makers can be asked for together.
                await trio.sleep(GATHER_SECONDS)
                asked = [pair, *(each for each in self._waiting if each != pair)][:MOST_AT_ONCE]
                try:
                    answers = await self._on_chain(self._ask, asked)
                except ChainError:
                    if (kept := self._kept(pair, GRACE_SECONDS)) and kept[1]:
                        return kept[1]
                    raise
                if len(self._known) + len(asked) > MAX_KEPT:
                    self._known.clear()
                now = time.monotonic()
                self._known |= {each: (now, found) for each, found in zip(asked, answers, strict=True)}
                return self._known[pair][1]
        finally:
            self._waiting.discard(pair)

    def _kept(
        self, pair: tuple[str, str], seconds: float = KEEP_SECONDS
    ) -> tuple[float, Backing | None] | None:
        kept = self._known.get(pair)
        return kept if kept and time.monotonic() - kept[0] < seconds else None

    def _ask(self, pairs: list[tuple[str, str]]) -> list[Backing | None]:
        staking = self._chain.staking
        return [
            Backing(wei, wei // staking.session_stake) if wei else None for wei in staking.backings(pairs)
        ]
