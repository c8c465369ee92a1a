"""A node's money: channels that pay it, vouchers stored before the answer, claims sent in time."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import trio

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import MarketError, Refusal, VoucherRefused
from hypercluster.market.ledger import IncomingChannel, Ledger, SessionRecord
from hypercluster.market.money.channel import PayeeChannel
from hypercluster.market.money.claiming import CLAIM_BATCH, ClaimRule
from hypercluster.market.money.voucher import TAG, ChannelDescriptor, node_tag
from hypercluster.node.errors import IdentityError
from hypercluster.node.identity import address_of_peer
from hypercluster.node.serving.classes import Class
from hypercluster.node.serving.terms import NodeTerms, Wallets
from hypercluster.node.threads import Threads

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LAST_CLAIM_SECONDS = 8.0
"""for the claim when a node ends"""


@dataclass(eq=False, slots=True)
class IncomingAccount:
    """One channel that pays us, shared by all sessions on it."""

    channel: PayeeChannel
    settled: int
    stored: int = 0
    """cumulative wei of the voucher that the ledger holds"""

    @property
    def channel_id(self) -> bytes:
        """32 bytes."""
        return self.channel.channel_id

    @property
    def unclaimed(self) -> int:
        """Wei of the best voucher that the chain has not paid yet."""
        return max(0, self.channel.best - self.settled) if self.channel.signature else 0


class Collector:
    """Admits channels, keeps their vouchers, watches them on chain and claims.

    Args:
        operator: account that is paid; channels to anybody else are foreign.
        node: address of the node key; channels whose salt names another node of the operator are foreign.
        sender: sends the claims and pays their gas; settling is open to everybody, so the hot node key does.
        rule: when the money is worth its gas.
    """

    def __init__(
        self,
        *,
        operator: str,
        node: str,
        chain: Chain,
        sender: Sender,
        ledger: Ledger,
        rule: ClaimRule,
    ) -> None:
        self.operator = operator
        self._tag = node_tag(node)
        self.domain = chain.channels.domain
        self._chain = chain
        self._sender = sender
        self._ledger = ledger
        self._rule = rule
        self._accounts: dict[bytes, IncomingAccount] = {}
        self._next_block: int | None = None
        self._claiming = trio.Lock()
        self._under_way: set[bytes] = set()
        """channels whose claim was sent and left alone, when the node was told to end"""
        self._unwritten: set[IncomingAccount] = set()
        self._writing = trio.Lock()
        # What the chain says of a channel is taken over in the order in which it was read.
        self._reading = trio.Lock()
        # One connection at a time to the database keeps the writes in order; the chain gets threads of its own.
        self._in_ledger = Threads(1)
        self.on_claim: Callable[[str], None] = lambda outcome: None
        """told "paid" or "failed" after each transaction"""
        # A chain that hangs must not hold up the end of the node: what is left alone is looked up at the next start.
        self._on_chain = Threads(4, abandon=True)

    @property
    def known(self) -> frozenset[bytes]:
        """Ids of the channels that are open and of this chain."""
        return frozenset(self._accounts)

    def class_of(self, peer: str) -> Class:
        """What is known of who holds the session key behind a peer id, from channels of this run and earlier ones."""
        try:
            signer = address_of_peer(peer)
        except IdentityError:
            return Class.STRANGER
        paid = [a.channel.best > 0 for a in self._accounts.values() if a.channel.descriptor.signer == signer]
        return Class.PAYER if any(paid) else Class.NEWCOMER if paid else Class.STRANGER

    async def load(self) -> None:
        """Take up the channels of earlier runs, so that what they paid is claimed and watched."""
        rows = await self._in_ledger(self._ledger.payee.channels, self.domain)
        for row in rows:
            if not row.ended:
                self._accounts[row.channel_id] = IncomingAccount(row.machine(), row.settled, row.best)

    async def admit_channel(self, descriptor: ChannelDescriptor) -> IncomingAccount:
        """The account of the channel that a client wants to pay from, looked up on chain when it is new.

        Raises:
            VoucherRefused: FOREIGN_CHANNEL, UNKNOWN_CHANNEL or CLOSING.
            ChainError: the chain cannot be asked.
        """
        if descriptor.payee != self.operator:
            raise VoucherRefused(
                Refusal.FOREIGN_CHANNEL,
                f"The channel pays {descriptor.payee}; this provider is {self.operator}.",
            )
        if descriptor.salt[TAG] != self._tag:
            raise VoucherRefused(
                Refusal.FOREIGN_CHANNEL,
                "The channel's salt names another node; each node of an operator is paid over a channel of its own.",
            )
        channel_id = self.domain.channel_id(descriptor)
        async with self._reading:
            state = await self._on_chain(self._chain.channels.state, channel_id)
            if not state.exists:
                raise VoucherRefused(
                    Refusal.UNKNOWN_CHANNEL, f"The chain has no channel {channel_id.hex()}: open it first."
                )
            if state.closed or state.close_at:
                raise VoucherRefused(Refusal.CLOSING, "The channel is closing or closed: open another one.")
            account = self._accounts.get(channel_id)
            if account is None:
                row: IncomingChannel = await self._in_ledger(
                    self._ledger.payee.adopt,
                    self.domain,
                    descriptor,
                    deposit=state.deposit,
                    settled=state.settled,
                )
                # Two sessions of one client may open at the same time.
                account = self._accounts.setdefault(
                    channel_id, IncomingAccount(row.machine(), row.settled, row.best)
                )
            account.channel.deposit = state.deposit
            account.channel.close_at = 0
            return account

    async def bill(self, account: IncomingAccount, cost: int, cumulative: int, signature: bytes) -> None:
        """Bill a step of `cost` wei against its voucher, before it is computed.

        A voucher beyond the deposit may be the first to come after a top-up, so the chain is asked about it, once.

        Raises:
            VoucherRefused: see PayeeChannel.admit.
        """
        if cumulative > account.channel.deposit:
            try:
                await self._refresh(account)
            except MarketError as error:
                log.info("the deposit of a channel could not be looked up again: %s", error)
        account.channel.admit(cost, cumulative, signature)

    async def store(self, account: IncomingAccount) -> None:
        """Write the channel's best voucher down unless it is; when this returns it survives any crash.

        Vouchers that arrive while one is being written share the next commit: the disk's sync is what costs.
        """
        best = account.channel.best
        self._unwritten.add(account)
        async with self._writing:
            if account.stored >= best:
                return
            batch = list(self._unwritten | {account})
            self._unwritten.clear()
            vouchers = [(a.channel_id, a.channel.best, a.channel.signature, a.channel.billed) for a in batch]
            await self._in_ledger(self._ledger.payee.store_vouchers, vouchers)
            for written, (_, cumulative, _, _) in zip(batch, vouchers, strict=True):
                written.stored = max(written.stored, cumulative)

    async def record(self, session: SessionRecord) -> None:
        """Write down what a session was and what came of it."""
        await self._in_ledger(self._ledger.history.save_session, session)

    async def watch(self) -> None:
        """Read what happened to our channels since the last time; who asks to close is claimed at once."""
        if self._next_block is None:
            # Whatever happened while we were away is in the state of each channel.
            head = await self._on_chain(self._chain.block_number)
            for account in list(self._accounts.values()):
                await self._refresh(account)
            self._next_block = head + 1
        else:
            async with self._reading:
                events, next_block = await self._on_chain(
                    self._chain.channels.events_for, self.operator, self._next_block, list(self._accounts)
                )
            for channel_id in {event.channel_id for event in events}:
                if known := self._accounts.get(channel_id):
                    await self._refresh(known)
            # Only now: were the chain lost in between, the same events are read again.
            self._next_block = next_block
        closing = [a for a in self._accounts.values() if a.channel.close_at and a.unclaimed]
        if closing:
            async with self._claiming:
                await self._settle(closing)

    async def _refresh(self, account: IncomingAccount) -> None:
        async with self._reading:
            await self._take_over(account)

    async def _take_over(self, account: IncomingAccount) -> None:
        state = await self._on_chain(self._chain.channels.state, account.channel_id)
        if not state.exists:
            # Of a chain that was reset: it owes nothing here. The ledger keeps the row, should the old one come back.
            log.warning("the chain does not know channel %s: it is left out", account.channel_id.hex())
            self._accounts.pop(account.channel_id, None)
            return
        account.settled = state.settled
        if state.closed:
            self._accounts.pop(account.channel_id, None)
            # Sessions that still hold it are refused from here on.
            account.channel.close_at = state.close_at or int(time.time())
        else:
            account.channel.deposit = state.deposit
            account.channel.close_at = state.close_at
        await self._in_ledger(
            self._ledger.payee.note,
            account.channel_id,
            deposit=None if state.closed else state.deposit,
            settled=state.settled,
            close_at=state.close_at,
            ended=state.closed,
        )

    async def claim(self, *, last: bool = False) -> int:
        """Send the vouchers worth their gas to the chain, in one transaction per fifty; returns wei received.

        With `last` anything worth more than its gas is sent, as nobody will be there to do it later.

        Raises:
            ChainError: the chain refuses or cannot be reached; the vouchers stay stored and are tried again.
        """
        async with self._claiming:
            return await self._settle(await self._due(last))

    @asynccontextmanager
    async def claiming_at_the_end(self) -> AsyncIterator[None]:
        """Fetch whatever is worth its gas when the block ends: nobody watches the channels from there on.

        That takes LAST_CLAIM_SECONDS at most, also when the chain does not answer; the rest stays in the ledger.
        """
        try:
            yield
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(LAST_CLAIM_SECONDS) as limit:
                try:
                    await self.claim(last=True)
                except MarketError as error:
                    log.warning("what is owed could not be claimed, it stays in the ledger: %s", error)
            if limit.cancelled_caught:
                log.warning(
                    "the chain did not answer in time; what is owed stays in the ledger until the next start"
                )

    async def _settle(self, due: list[IncomingAccount]) -> int:
        received = 0
        for start in range(0, len(due), CLAIM_BATCH):
            batch = due[start : start + CLAIM_BATCH]
            claims = [(a.channel.descriptor, a.channel.best, a.channel.signature) for a in batch]
            before = sum(account.settled for account in batch)
            under_way = {account.channel_id for account in batch}
            self._under_way |= under_way
            try:
                await self._on_chain(self._chain.channels.settle_batch, self._sender, self.operator, claims)
            except MarketError:
                self._under_way -= under_way
                self.on_claim("failed")
                raise
            self._under_way -= under_way
            self.on_claim("paid")
            for account in batch:
                await self._refresh(account)
            received += sum(account.settled for account in batch) - before
        if received:
            log.info("claimed %d wei from %d channels", received, len(due))
        return received

    async def _due(self, last: bool) -> list[IncomingAccount]:
        owed = [
            account
            for account in self._accounts.values()
            if account.unclaimed and account.channel_id not in self._under_way
        ]
        if not owed:
            return owed
        cost = await self._on_chain(self._chain.channels.settle_cost)
        return [owed[i] for i in self._rule.chosen([each.unclaimed for each in owed], cost, last=last)]


def collector_of(wallets: Wallets, chain: Chain, ledger: Ledger, terms: NodeTerms) -> Collector:
    """The collector of a node that runs by `terms`."""
    return Collector(
        operator=wallets.operator,
        node=wallets.sender.address,
        chain=chain,
        sender=wallets.sender,
        ledger=ledger,
        rule=terms.claim,
    )
