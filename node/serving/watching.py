"""Watching the chain for what happens to the channels that pay us, so that whoever closes is claimed from in time."""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import trio

from hypercluster.market.chain.events import Opened
from hypercluster.market.chain.logs import again_from
from hypercluster.market.errors import MarketError
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.chain.events import ChannelEvent
    from hypercluster.node.serving.accounts import Accounts, IncomingAccount
    from hypercluster.node.serving.readings import Readings

log = logging.getLogger(__name__)

LOOK_BACK_BLOCKS = 8_000
"""before the start, for channels that were opened while the node was away; about a day of 12 s blocks"""
AGAIN_SECONDS = 120.0
"""within which each channel that matters is looked at, whatever the events say"""
MOST_AGAIN = 8
"""of them in one watch"""
LAG_SECONDS = 20.0
"""after which a channel that something happened to is looked at once more: the first answer may be of a node behind"""
MOST_LOST = 10
"""looks in a row at which nobody has the block that was the latest, after which it counts as replaced"""


class Watch:
    """Reads the events of our operator's channels; `work` is called every `seconds`.

    The latest blocks are read again each time, and where one of them was replaced every channel is looked at.
    Nothing that a peer does holds it up: it has threads of its own and takes no lock.

    Attributes:
        on_opened: told of channels that were opened to our operator.
    """

    def __init__(
        self, chain: Chain, operator: str, accounts: Accounts, readings: Readings, seconds: float
    ) -> None:
        self._chain, self._operator = chain, operator
        self._accounts, self._readings = accounts, readings
        self.seconds = seconds
        self.on_opened: Callable[[Sequence[Opened]], None] = lambda events: None
        self._on_chain = Threads(1, abandon=True)
        self._next_block: int | None = None
        self._seen: set[ChannelEvent] = set()
        """in the blocks that are read again"""
        self._once_more: dict[bytes, float] = {}
        """when channels are looked at once more"""
        self._tip: tuple[int, bytes] | None = None
        self._lost = 0
        self._begun = self._ended = self._wanted = 0
        self._changed = trio.Event()

    async def work(self, *, within: float = 0.0) -> list[MarketError]:
        """Bring all accounts up to date about which there is news; returns why some could not be. `within` as in
        Rpc.tip.

        Those are tried again by the next call. Raises ChainError where nothing could be read.
        """
        self._begun += 1
        number = self._begun
        if number <= self._wanted:
            # What somebody waits for may have happened a moment ago.
            within = 0.0
        ids = frozenset[bytes]() if self._next_block is None else self._accounts.ids
        tip, replaced, events, next_block = await self._on_chain(self._look, within, ids)
        if replaced:
            self._seen.clear()
        new = [event for event in events if event not in self._seen]
        self.on_opened([event for event in new if isinstance(event, Opened)])
        if self._next_block is None or replaced:
            # Whatever happened while we were away is in the state of each channel.
            failures = await self._refresh(self._accounts)
        else:
            due = {event.channel_id for event in new} | self._due_once_more()
            found = (self._accounts.get(channel_id) for channel_id in due)
            failures = await self._refresh({each for each in found if each is not None} | self._unseen())
        if not failures:
            # Only now: were the chain lost in between, the same events are read again.
            self._next_block, self._tip = next_block, tip
            again = trio.current_time() + LAG_SECONDS
            for event in new:
                if self._accounts.get(event.channel_id) is not None:
                    self._once_more.setdefault(event.channel_id, again)
            self._seen = {event for event in events if event.block >= again_from(next_block)}
        self._ended = max(self._ended, number)
        self._changed.set()
        self._changed = trio.Event()
        return failures

    async def next_one(self) -> None:
        """Return when a call of `work` that begins after now has read the chain."""
        wanted = self._wanted = self._begun + 1
        while self._ended < wanted:
            await self._changed.wait()

    def _look(
        self, within: float, ids: frozenset[bytes]
    ) -> tuple[tuple[int, bytes], bool, list[ChannelEvent], int]:
        """The block to remember as the latest, whether the last such was replaced, and what happened to our channels,
        those `ids` among them, up to which block.
        """
        head, tip, replaced = self._look_at_tip(within)
        last = self._next_block
        start = head[0] + 1 - LOOK_BACK_BLOCKS if last is None else again_from(last)
        first = max(self._chain.deployment.block, start)
        events, next_block = self._chain.channels.events_for(self._operator, first, ids, head)
        return tip, replaced, events, next_block

    def _look_at_tip(self, within: float) -> tuple[tuple[int, bytes], tuple[int, bytes], bool]:
        """The latest block, the one to remember as that, and whether the one that was the latest at the last look was
        replaced.

        Where the node has no such block it may lag behind the one that had it, or the chain is shorter: the next looks
        tell. Raises ChainError.
        """
        head = self._chain.tip(within=within)
        if self._tip is None:
            return head, head, False
        number, known = self._tip
        now = head[1] if head[0] == number else self._chain.block_hash(number)
        if now is None:
            self._lost += 1
            if self._lost < MOST_LOST:
                return head, self._tip, False
        self._lost = 0
        if now != known:
            log.warning("block %d of the chain was replaced: all channels are looked at", number)
        return head, head, now != known

    def _due_once_more(self) -> set[bytes]:
        now = trio.current_time()
        due = {channel_id for channel_id, at in self._once_more.items() if at <= now}
        for channel_id in due:
            del self._once_more[channel_id]
        return due

    def _unseen(self) -> set[IncomingAccount]:
        """Of the channels that money or sessions are on, some that were not looked at for longest: a reorganised chain
        or a node behind a balancer may have kept an event from us.
        """
        at_stake = [each for each in self._accounts if each.unclaimed or each.sessions or not each.final]
        share = math.ceil(len(at_stake) * self.seconds / AGAIN_SECONDS)
        some = set(heapq.nsmallest(min(share, MOST_AGAIN), at_stake, key=lambda each: each.asked))
        return some | {each for each in self._accounts if each.missed}

    async def _refresh(self, accounts: Iterable[IncomingAccount]) -> list[MarketError]:
        failures: list[MarketError] = []

        async def one(account: IncomingAccount) -> None:
            try:
                await self._readings.refresh(account, for_us=True)
            except MarketError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for account in accounts:
                nursery.start_soon(one, account)
        return failures
