"""One who stands by for a hop of a path: opened and paid as that is, and sent the rows that the hop before answered.

It is sent them some time after they came, in steps of many, so that it is paid as for a prompt. Rows that are not here
are asked of the hop before, as an audit does (kept.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.own_layers import OwnStage
from hypercluster.node.client.patience import Leash
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import with_tokens

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.client.account import OutgoingAccount, Recipient
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.opening import Terms
    from hypercluster.node.client.pipeline import Pipeline

log = logging.getLogger(__name__)

LEAST_ROWS = 16
"""that came since, before they are sent: a step of few rows costs as much as one of many"""
PART = 16
"""of what it holds, as which it may be behind: what is read for a piece grows with that"""
PIECE_ROWS = 128
"""of one step at most, for which whoever wants the session waits"""
READ_ROWS = 1024
"""that are read at once for such steps"""
QUIET_SECONDS = 15.0
"""after which it is sent what there is: a provider ends sessions that are silent"""


class NotWorthIt(NodeError):
    """Who stands by costs more than may be spent on it."""


class Spare:
    """Who stands by for the hop of layers [start, stop): a provider, or several one behind the other.

    Attributes:
        hops: its sessions, once they are open.
        error: why it is of no use any more.
    """

    def __init__(self, start: int, stop: int, adverts: tuple[Advert, ...]) -> None:
        self.start, self.stop, self.adverts = start, stop, adverts
        self.hops: Sequence[Hop] = ()
        self.error: Exception | None = None
        self._wanted = False
        """whether nothing more is to be begun with it"""
        self._levelled = 0.0
        """when it was sent something last, in trio's time"""
        self._scope, self._reading = trio.CancelScope(), trio.CancelScope()
        self._at_rest, self._woken = trio.Event(), trio.Event()
        self._sure = 0

    @property
    def peers(self) -> list[str]:
        """Who it is."""
        return [each.peer for each in self.adverts]

    @property
    def position(self) -> int:
        """Tokens that it holds."""
        return min(hop.position for hop in self.hops)

    @property
    def is_ready(self) -> bool:
        """Whether it may take a place on the path."""
        return bool(self.hops) and self.error is None and not any(hop.broken for hop in self.hops)

    def level(self, sure: int) -> None:
        """Note that the sessions of the path hold `sure` tokens that none of them forgets any more."""
        self._sure = sure
        self._wake()

    async def rest(self, seconds: float) -> None:
        """Have nothing under way with it any more: what is may take so many seconds, and is given up then."""
        self._wanted = True
        self._reading.cancel()
        self._wake()
        with trio.move_on_after(seconds):
            await self._at_rest.wait()
        if not self._at_rest.is_set():
            self._scope.cancel()
            await self._at_rest.wait()

    async def run(
        self,
        client: Client,
        done: Completion,
        pipeline: Pipeline,
        terms: Terms,
        accounts: Mapping[Recipient, OutgoingAccount],
        spending: Spending,
        failed: Callable[[Spare], Awaitable[None]],
    ) -> None:
        """Open its sessions and keep them level with `pipeline` until it is to rest, or has `failed`."""
        try:
            with self._scope:
                try:
                    await self._open(client, done, terms, accounts, spending)
                    while not self._wanted:
                        if (stop := self._next(done, pipeline)) > self.position:
                            await self._catch_up(client, done, pipeline, spending, stop)
                        else:
                            with trio.move_on_after(QUIET_SECONDS):
                                await self._woken.wait()
                except (NodeError, MarketError, OSError) as error:
                    log.info("who stood by for layers %d:%d: %s", self.start, self.stop, error)
                    self.error = error
                    if not self._wanted:
                        await failed(self)
        finally:
            self._at_rest.set()

    async def _open(
        self,
        client: Client,
        done: Completion,
        terms: Terms,
        accounts: Mapping[Recipient, OutgoingAccount],
        spending: Spending,
    ) -> None:
        def leash_of(advert: Advert) -> Leash:
            # The answer goes on without it in any case.
            return Leash(client.experience.pace, client.patience, advert, lambda: True)

        terms = terms.given_by(self.adverts)
        self.hops = await client.opener.sessions(self.adverts, accounts, terms, spending, leash_of)
        for hop in self.hops:
            hop.stands_by = True
        client.vacancies.accepted(self.peers)
        await client.opened(done, self.hops)

    def _next(self, done: Completion, pipeline: Pipeline) -> int:
        """The position to bring it to now; none above its own where there is no need."""
        before = self._before(done, pipeline)
        if before is None and self.start != done.begins:
            return 0
        position = self.position
        sure = self._sure if before is None else min(self._sure, before.position)
        late = trio.current_time() >= self._levelled + QUIET_SECONDS
        if position and not late and sure - position < max(LEAST_ROWS, position // PART):
            return 0
        return min(sure, position + READ_ROWS)

    def _before(self, done: Completion, pipeline: Pipeline) -> Hop | OwnStage | None:
        """Whose rows it is sent; None where it is sent tokens, or nobody is there at this moment."""
        for stage in pipeline.stages:
            if isinstance(stage, OwnStage):
                there = stage.first and self.start == done.begins
            else:
                there = stage.advert.layer_stop == self.start and not (stage.broken or stage.unsigned)
            if there:
                return stage
        return None

    async def _catch_up(
        self, client: Client, done: Completion, pipeline: Pipeline, spending: Spending, stop: int
    ) -> None:
        """Send it the rows from its position on to `stop`, in steps that follow each other, unless it is to rest.

        Raises NotWorthIt, NotKept, and what a step does.
        """
        start = self.position
        tokens = [*done.prompt, *done.tokens][start:stop]
        data: bytes | None = None
        if (before := self._before(done, pipeline)) is not None:
            with trio.CancelScope() as self._reading:
                if isinstance(before, OwnStage):
                    data = before.kept(start, stop)
                elif not self._wanted:
                    data = await client.opener.kept.of(before, start, stop)
            if data is None:
                return
        most = min(PIECE_ROWS, *(hop.max_step_tokens for hop in self.hops))
        width = len(data) // len(tokens) if data is not None else 0
        count = -(-len(tokens) // most)
        ends = [len(tokens) * each // count for each in range(count + 1)]
        for first, last in pairwise(ends):
            if self._wanted:
                return
            left = sum(hop.price_wei for hop in pipeline.hops) * (done.allowed - len(done.tokens))
            cost = sum(hop.cost(last - first) for hop in self.hops)
            if reached := spending.refusal(cost + left):
                raise NotWorthIt(f"It would be paid with what the answer itself may need. {reached}")
            rows = None if data is None else data[first * width : last * width]
            await self._step(tokens[first:last], rows, reads_tokens=pipeline.reads_tokens)

    async def _step(self, tokens: Sequence[int], rows: bytes | None, *, reads_tokens: bool) -> None:
        """One step of token ids, or where it takes them of packed `rows` for these."""
        payload: Sequence[int] | bytes = tokens if rows is None else rows
        for hop in self.hops:
            if isinstance(payload, bytes) and reads_tokens:
                payload = with_tokens(payload, tokens)
            answer = await hop.step(payload, len(tokens))
            payload = answer if isinstance(answer, bytes) else b""
        self._levelled = trio.current_time()

    def _wake(self) -> None:
        self._woken.set()
        self._woken = trio.Event()
