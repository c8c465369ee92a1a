"""Who may serve: the chain's answer, kept for a while."""

import time

import trio

from hypercluster.market.chain import Chain
from hypercluster.market.errors import ChainError
from hypercluster.node.threads import Threads

KEEP_SECONDS = 60.0
GRACE_SECONDS = 900.0
"""for which an older yes holds while the chain does not answer"""
MAX_KEPT = 10_000
MOST_AT_ONCE = 50
GATHER_SECONDS = 0.01


class Eligibility:
    """Is a node key authorised by its operator, and has that operator enough at stake?

    Called with the node's address and the operator's; the registry's answer is kept for a minute, so a flood of
    adverts is no flood of RPC calls. Those who ask at the same time share one call. While the chain does not answer,
    who had enough a quarter of an hour ago still has: to take a stake back takes longer. Raises ChainError for others.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._known: dict[tuple[str, str], tuple[float, bool]] = {}
        self._waiting: set[tuple[str, str]] = set()
        self._turn = trio.Lock()
        self._on_chain = Threads(2, abandon=True)

    async def __call__(self, node: str, operator: str) -> bool:
        """True if `node` may serve for `operator` now."""
        pair = node, operator
        if (answer := self._kept(pair)) is not None:
            return answer
        self._waiting.add(pair)
        try:
            async with self._turn:
                if (answer := self._kept(pair)) is not None:
                    return answer
                # Adverts come in swarms: a moment later their makers can be asked for together.
                await trio.sleep(GATHER_SECONDS)
                asked = [pair, *(each for each in self._waiting if each != pair)][:MOST_AT_ONCE]
                try:
                    answers = await self._on_chain(self._ask, asked)
                except ChainError:
                    if self._kept(pair, GRACE_SECONDS):
                        return True
                    raise
                if len(self._known) + len(asked) > MAX_KEPT:
                    self._known.clear()
                now = time.monotonic()
                self._known |= {each: (now, yes) for each, yes in zip(asked, answers, strict=True)}
                return self._known[pair][1]
        finally:
            self._waiting.discard(pair)

    def _kept(self, pair: tuple[str, str], seconds: float = KEEP_SECONDS) -> bool | None:
        kept = self._known.get(pair)
        return kept[1] if kept and time.monotonic() - kept[0] < seconds else None

    def _ask(self, pairs: list[tuple[str, str]]) -> list[bool]:
        return self._chain.staking.may_serve(pairs)
