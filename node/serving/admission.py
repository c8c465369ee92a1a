"""Which channel a client may pay from. Whoever has none delays nobody: what is known costs no look at the chain.

New channels are learned from the events that the watch reads every few seconds. To look one up at once is a shortcut
that each peer gets seldom; where it is not to be had, the opening waits for the next watch.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError, Refusal, VoucherRefused
from hypercluster.market.money.channel import PayeeChannel
from hypercluster.market.money.units import format_hct
from hypercluster.market.money.voucher import TAG, ChannelDescriptor, node_tag
from hypercluster.node.network.budgets import BOUNDS, Budget, Negatives, OverBudget, Source
from hypercluster.node.serving.accounts import Accounts, IncomingAccount
from hypercluster.node.serving.readings import Readings
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain.events import Opened
    from hypercluster.market.ledger import Ledger
    from hypercluster.market.money.voucher import VoucherDomain
    from hypercluster.node.serving.watching import Watch

log = logging.getLogger(__name__)

ABSENT_SECONDS = 30.0
"""for which a channel that the chain does not have is not asked about again, unless it is seen to be opened"""
UNCONFIRMED_SECONDS = 12.0
"""after which asking again for a channel may help whose opening is in a block that others have to follow"""
MOST_ABSENT = 4096
MOST_OPENED = 65_536
"""channels seen to be opened that are remembered until they are first used"""
MOST_WAITING = 64
"""openings that wait for the next watch at once"""
MOST_WAITING_PER_PEER = 4


class NotYet(VoucherRefused):
    """The channel cannot be paid from now; `wait` is in how many seconds that may be otherwise."""

    def __init__(self, reason: Refusal, message: str, wait: float) -> None:
        super().__init__(reason, message)
        self.wait = wait


class TooLittle(VoucherRefused):
    """The deposit does not cover what a session reserves; `billed_wei` is what the channel was billed so far."""

    def __init__(self, message: str, billed_wei: int) -> None:
        super().__init__(Refusal.OVER_DEPOSIT, message)
        self.billed_wei = billed_wei


class Admission:
    """Admits channels that pay one node of an operator.

    Args:
        in_ledger: in which threads the ledger is used, one at a time.
    """

    def __init__(
        self,
        *,
        operator: str,
        node: str,
        domain: VoucherDomain,
        ledger: Ledger,
        accounts: Accounts,
        readings: Readings,
        watch: Watch,
        in_ledger: Threads,
    ) -> None:
        self._operator, self._tag, self._domain = operator, node_tag(node), domain
        self._ledger, self._in_ledger = ledger, in_ledger
        self._accounts, self._readings, self._watch = accounts, readings, watch
        bound = BOUNDS["channel look-up"]
        self._budget, self._seconds = Budget(bound), bound.seconds
        self._absent: Negatives[bytes] = Negatives(ABSENT_SECONDS, MOST_ABSENT)
        self._opened: dict[bytes, None] = {}
        self._looking: dict[bytes, trio.Event] = {}
        self._waiting: Counter[str] = Counter()

    def opened(self, events: Iterable[Opened]) -> None:
        """Take note of channels that were opened to our operator."""
        for event in events:
            self._absent.discard(event.channel_id)
            if event.salt[TAG] == self._tag and self._accounts.get(event.channel_id) is None:
                self._opened[event.channel_id] = None
        while len(self._opened) > MOST_OPENED:
            del self._opened[next(iter(self._opened))]

    def knows(self, descriptor: ChannelDescriptor) -> bool:
        """Whether the channel is known to be on chain; costs nothing but a hash."""
        channel_id = self._domain.channel_id(descriptor)
        return self._accounts.get(channel_id) is not None or channel_id in self._opened

    async def admit_channel(
        self, descriptor: ChannelDescriptor, source: Source, reserve: int = 0
    ) -> IncomingAccount:
        """The account of a channel whose deposit covers `reserve` wei beside what is billed and reserved on it.

        For a channel that is known and in order this returns at once, whatever the chain does.

        Raises:
            VoucherRefused: FOREIGN_CHANNEL, UNKNOWN_CHANNEL or CLOSING; NotYet where waiting may help.
            TooLittle: OVER_DEPOSIT.
        """
        self._check_ours(descriptor)
        channel_id = self._domain.channel_id(descriptor)
        account = self._accounts.get(channel_id) or await self._found(channel_id, descriptor, source)
        if account.channel.close_at or account.unreserved < reserve:
            # It may have been topped up since the last watch.
            await self._looked_again(account, source)
        if account.channel.close_at:
            raise VoucherRefused(Refusal.CLOSING, "The channel is closing or closed: open another one.")
        if account.unreserved < reserve:
            raise TooLittle(
                f"A session reserves {format_hct(reserve)} HCT of the channel's deposit and "
                f"{format_hct(account.unreserved)} HCT are left, beside what is billed and what its other sessions "
                "reserve: top it up.",
                account.channel.billed,
            )
        return account

    def _check_ours(self, descriptor: ChannelDescriptor) -> None:
        if descriptor.payee != self._operator:
            raise VoucherRefused(
                Refusal.FOREIGN_CHANNEL,
                f"The channel pays {descriptor.payee}; this provider is {self._operator}.",
            )
        if descriptor.salt[TAG] != self._tag:
            raise VoucherRefused(
                Refusal.FOREIGN_CHANNEL,
                "The channel's salt names another node; each node of an operator is paid over a channel of its own.",
            )

    async def _found(
        self, channel_id: bytes, descriptor: ChannelDescriptor, source: Source
    ) -> IncomingAccount:
        if channel_id in self._absent:
            raise self._unknown(channel_id)
        if channel_id not in self._opened:
            try:
                return await self._once(channel_id, descriptor, source)
            except OverBudget:
                await self._watched(source)
        if (account := self._accounts.get(channel_id)) is not None:
            return account
        if channel_id not in self._opened:
            raise self._unknown(channel_id)
        return await self._once(channel_id, descriptor, source)

    async def _looked_again(self, account: IncomingAccount, source: Source) -> None:
        try:
            with self._budget.holding(source), self._in_time():
                await self._readings.refresh(account)
        except OverBudget:
            await self._watched(source)

    async def _once(
        self, channel_id: bytes, descriptor: ChannelDescriptor, source: Source
    ) -> IncomingAccount:
        """Look a channel up; whoever else wants it at the same time waits for the same answer. Raises OverBudget."""
        while (other := self._looking.get(channel_id)) is not None:
            await other.wait()
            if (account := self._accounts.get(channel_id)) is not None:
                return account
            if channel_id in self._absent:
                raise self._unknown(channel_id)
        done = self._looking[channel_id] = trio.Event()
        seen = channel_id in self._opened
        try:
            with nullcontext() if seen else self._budget.holding(source), self._in_time():
                return await self._look_up(channel_id, descriptor)
        finally:
            del self._looking[channel_id]
            done.set()

    async def _look_up(self, channel_id: bytes, descriptor: ChannelDescriptor) -> IncomingAccount:
        reading = await self._readings.ask(channel_id, for_a_stranger=channel_id not in self._opened)
        state = reading.state
        if not state.exists:
            self._absent.add(channel_id)
            raise self._unknown(channel_id)
        if state.closed:
            self._opened.pop(channel_id, None)
            raise VoucherRefused(Refusal.CLOSING, "The channel is closing or closed: open another one.")
        if not reading.confirmed.exists:
            raise NotYet(
                Refusal.UNKNOWN_CHANNEL,
                f"The channel {channel_id.hex()} is too new: its opening has not the confirmations yet that this node "
                "waits for.",
                UNCONFIRMED_SECONDS,
            )
        row = await self._in_ledger(self._ledger.payee.channel, channel_id)
        if row is None:
            # Of a channel never seen before, what the chain has settled counts as billed.
            deposit = min(state.deposit, reading.confirmed.deposit)
            channel = PayeeChannel(
                self._domain, descriptor, deposit, state.close_at, state.settled, b"", state.settled
            )
            account = IncomingAccount(channel, state.settled, kept=False)
        else:
            account = IncomingAccount(row.machine(), row.settled, row.best)
        account = self._accounts.add(account)
        self._opened.pop(channel_id, None)
        await self._readings.take_over(account, reading)
        return account

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Ask the chain within the time that a peer's question gets. Raises NotYet."""
        try:
            with trio.fail_after(self._seconds):
                yield
        except (MarketError, trio.TooSlowError) as error:
            if isinstance(error, VoucherRefused):
                raise
            log.info("a channel could not be looked up: %s", error or "no answer in time")
            raise NotYet(
                Refusal.UNKNOWN_CHANNEL,
                "This node cannot ask the chain about the channel now.",
                self._watch.seconds,
            ) from None

    async def _watched(self, source: Source) -> None:
        """Wait until the chain was read again, by a watch that begins after this. Raises NotYet."""
        full = self._waiting.total() >= MOST_WAITING or self._waiting[source.peer] >= MOST_WAITING_PER_PEER
        if not full:
            self._waiting[source.peer] += 1
            try:
                with trio.move_on_after(self._seconds):
                    await self._watch.next_one()
                    return
            finally:
                self._waiting[source.peer] -= 1
                self._waiting += Counter()
        raise NotYet(
            Refusal.UNKNOWN_CHANNEL,
            "Others are asking for channels that this node does not know yet; it reads the chain again in a moment.",
            self._watch.seconds,
        )

    def _unknown(self, channel_id: bytes) -> NotYet:
        return NotYet(
            Refusal.UNKNOWN_CHANNEL,
            f"The chain has no channel {channel_id.hex()}: open it first.",
            self._watch.seconds,
        )
