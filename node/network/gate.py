"""The gate of a host: connections that have not shown a key yet, at every port where it listens.

They have a bounded number of places, and when all are taken the oldest one without a turn goes, of the block of
addresses that holds most: so a stranger that keeps a connection half open holds nobody up. Handshakes cost this
node more than who asks for them: so strangers get so many turns a second, blocks of addresses by turns, and the
newest of a block first, which is still there to use it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from hypercluster.node.network.budgets import BOUNDS, REFUSED, Bound, Budget, Source, block_of
from hypercluster.node.network.rate import Rate
from hypercluster.node.network.strangers import StrangersTime

_ALL = "all"


@dataclass(eq=False, slots=True)
class Entrant:
    """A connection on its way in."""

    block: str
    scope: trio.CancelScope
    turn: trio.Event = field(default_factory=trio.Event)


class Gate:
    """Lets connections in, see above. `run` has to run for strangers to get their turns."""

    def __init__(
        self,
        strangers: StrangersTime,
        connection: Bound = BOUNDS["connection"],
        handshake: Bound = BOUNDS["handshake"],
    ) -> None:
        assert handshake.at_once is not None
        self._strangers = strangers
        self._arrivals = Budget(connection)
        self._places = handshake.at_once
        self._seconds = handshake.seconds
        self._name = handshake.name
        self._rate = Rate(*handshake.total)
        self._entrants: dict[Entrant, None] = {}
        self._waiting: dict[str, dict[Entrant, None]] = {}
        self._somebody = trio.Event()

    def __len__(self) -> int:
        """How many connections are on their way in."""
        return len(self._entrants)

    @contextmanager
    def entering(self, ip: str) -> Iterator[Entrant]:
        """A place for as long as the block lasts. The block is cancelled if its time is up or another needs the place.

        Raises OverBudget.
        """
        block = block_of(ip)
        self._arrivals.take(Source("", block))
        if len(self._entrants) >= self._places:
            self._displace()
        with trio.CancelScope(deadline=trio.current_time() + self._seconds) as scope:
            entrant = Entrant(block, scope)
            self._entrants[entrant] = None
            try:
                yield entrant
            finally:
                self._entrants.pop(entrant, None)
                self._leave(entrant)

    async def turn(self, entrant: Entrant) -> None:
        """Wait until a stranger may begin its handshake."""
        self._waiting.setdefault(entrant.block, {})[entrant] = None
        self._somebody.set()
        await entrant.turn.wait()

    async def run(self) -> None:
        """Give turns until cancelled."""
        while True:
            await self._somebody.wait()
            await trio.sleep(max(self._rate.wait(_ALL), self._strangers.wait()))
            if (entrant := self._next()) is None:
                self._somebody = trio.Event()
            elif self._rate.allows(_ALL):
                self._leave(entrant)
                entrant.turn.set()

    def _next(self) -> Entrant | None:
        """The newest of the block whose turn it is; that block comes last from then on."""
        if not self._waiting:
            return None
        block = next(iter(self._waiting))
        self._waiting[block] = waiting = self._waiting.pop(block)
        return next(reversed(waiting))

    def _leave(self, entrant: Entrant) -> None:
        waiting = self._waiting.get(entrant.block)
        if waiting is not None:
            waiting.pop(entrant, None)
            if not waiting:
                del self._waiting[entrant.block]

    def _displace(self) -> None:
        idle = [entrant for entrant in self._entrants if not entrant.turn.is_set()] or list(self._entrants)
        most = Counter(entrant.block for entrant in idle).most_common(1)[0][0]
        oldest = next(entrant for entrant in idle if entrant.block == most)
        del self._entrants[oldest]
        oldest.scope.cancel()
        REFUSED[self._name, "total"] += 1
