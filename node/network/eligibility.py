"""Who may serve: the chain's answer, kept for a while."""

import time

import trio

from hypercluster.market.chain import Chain
from hypercluster.node.threads import in_abandoned_thread

KEEP_SECONDS = 60.0
MAX_KEPT = 10_000


class Eligibility:
    """Is a node key authorised by its operator, and has that operator enough at stake?

    Called with the node's address and the operator's; the registry's answer is kept for a minute, so a flood of
    adverts is no flood of RPC calls. Raises ChainError when the chain does not answer.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._known: dict[tuple[str, str], tuple[float, bool]] = {}
        self._threads = trio.CapacityLimiter(2)

    async def __call__(self, node: str, operator: str) -> bool:
        """True if `node` may serve for `operator` now."""
        now = time.monotonic()
        kept = self._known.get((node, operator))
        if kept and now - kept[0] < KEEP_SECONDS:
            return kept[1]
        answer = await in_abandoned_thread(self._threads, self._ask, node, operator)
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
        self._known[node, operator] = (now, answer)
        return answer

    def _ask(self, node: str, operator: str) -> bool:
        staking = self._chain.staking
        return staking.operator_of(node) == operator and staking.is_eligible(node)
