"""Who may serve, and how much: the chain's answer, kept for a while."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import ChainError
from hypercluster.node.network.budgets import Negatives
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain

KEEP_SECONDS = 60.0
GRACE_SECONDS = 900.0
"""for which an older yes holds while the chain does not answer"""
PATIENCE_SECONDS = 3.0
"""for the chain's answer where an older one holds as well: calls to an RPC go on for longer than an advert may live"""
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


_Pair = tuple[str, str]
"""a node's address and its operator's"""


@dataclass(eq=False, slots=True)
class _Asked:
    """A question that is on its way, and how it ended."""

    done: bool = False
    backing: Backing | None = None
    error: ChainError | None = None

    def end(self, outcome: Backing | ChainError | None) -> None:
        self.done = True
        if isinstance(outcome, ChainError):
            self.error = outcome
        else:
            self.backing = outcome


class Eligibility:
    """Is a node key authorised by its operator, and how much stake is behind it?

    Called with the node's address and the operator's; the registry's answer is kept for a minute, so a flood of
    adverts is no flood of RPC calls. One call asks for many, first for those whom it knows to have had a stake: whoever
    has none delays only others of that kind, and what is known of these takes nobody's place. While the chain does not
    answer, who had enough a quarter of an hour ago still has: to take a stake back takes longer. Raises ChainError for
    others.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._known: dict[_Pair, tuple[float, Backing]] = {}
        self._used: set[_Pair] = set()
        """those of which an answer was used since it was given"""
        self._without = Negatives[_Pair](KEEP_SECONDS, MAX_KEPT)
        self._waiting: dict[_Pair, _Asked] = {}
        self._asking = False
        self._answered = trio.Event()
        self._on_chain = Threads(2, abandon=True)

    async def __call__(self, node: str, operator: str) -> Backing | None:
        """What is behind `node` if it may serve for `operator` now."""
        pair = node, operator
        if backing := self._kept(pair, KEEP_SECONDS):
            self._used.add(pair)
            return backing
        if pair in self._without:
            return None
        asked = self._waiting.setdefault(pair, _Asked())
        older = self._kept(pair, GRACE_SECONDS)
        with trio.move_on_after(PATIENCE_SECONDS if older else math.inf):
            while not asked.done:
                if self._asking:
                    await self._answered.wait()
                else:
                    await self._ask()
        if asked.error is not None and older is None:
            raise asked.error
        return older if asked.error is not None or not asked.done else asked.backing

    async def _ask(self) -> None:
        """Ask for those who wait, as many as one call takes; whoever waits is told afterwards."""
        self._asking, self._answered = True, trio.Event()
        try:
            # Adverts come in swarms: a moment later their makers can be asked for together.
            await trio.sleep(GATHER_SECONDS)
            waiting = sorted(self._waiting, key=lambda pair: pair not in self._known)
            # Whose answers run out soon and are used come with them: otherwise each would be a call of its own.
            soon = [pair for pair in self._used if self._kept(pair, KEEP_SECONDS / 2) is None]
            pairs = list(dict.fromkeys([*waiting, *soon]))[:MOST_AT_ONCE]
            try:
                answers = await self._on_chain(self._read, pairs)
            except ChainError as error:
                self._end(dict.fromkeys(pairs, error))
                return
            for pair, backing in zip(pairs, answers, strict=True):
                self._keep(pair, backing)
            self._end(dict(zip(pairs, answers, strict=True)))
        finally:
            self._asking = False
            self._answered.set()

    def _end(self, outcomes: Mapping[_Pair, Backing | ChainError | None]) -> None:
        for pair, outcome in outcomes.items():
            if (asked := self._waiting.pop(pair, None)) is not None:
                asked.end(outcome)

    def _kept(self, pair: _Pair, seconds: float) -> Backing | None:
        at, backing = self._known.get(pair, (-math.inf, None))
        return backing if time.monotonic() - at < seconds else None

    def _keep(self, pair: _Pair, backing: Backing | None) -> None:
        self._known.pop(pair, None)
        self._used.discard(pair)
        if backing is None:
            self._without.add(pair)
            return
        self._known[pair] = time.monotonic(), backing
        while len(self._known) > MAX_KEPT:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._used.discard(oldest)

    def _read(self, pairs: list[_Pair]) -> list[Backing | None]:
        staking = self._chain.staking
        return [
            Backing(wei, wei // staking.session_stake) if wei else None for wei in staking.backings(pairs)
        ]
