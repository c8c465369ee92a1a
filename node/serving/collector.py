"""A node's money: channels that pay it, vouchers stored before the answer, claims sent in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.ledger import Ledger, SessionRecord
from hypercluster.market.money.claiming import ClaimRule
from hypercluster.market.money.voucher import ChannelDescriptor
from hypercluster.node.network.budgets import Source
from hypercluster.node.serving.accounts import Accounts
from hypercluster.node.serving.accounts import IncomingAccount as IncomingAccount
from hypercluster.node.serving.admission import Admission
from hypercluster.node.serving.claims import Claims
from hypercluster.node.serving.classes import Class
from hypercluster.node.serving.readings import Readings
from hypercluster.node.serving.terms import NodeTerms, Wallets
from hypercluster.node.serving.vouchers import Vouchers
from hypercluster.node.serving.watching import Watch
from hypercluster.node.threads import Threads

WATCH_SECONDS = 2.0


class Collector:
    """Admits channels, keeps their vouchers, watches them on chain and claims.

    Args:
        operator: account that is paid; channels to anybody else are foreign.
        node: address of the node key; channels whose salt names another node of the operator are foreign.
        sender: sends the claims and pays their gas; settling is open to everybody, so the hot node key does.
        rule: when the money is worth its gas.
        watch_seconds: between calls of `watch`.
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
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self.operator = operator
        self.domain = chain.channels.domain
        self.accounts = Accounts()
        self._ledger = ledger
        # One connection at a time to the database keeps the writes in order; the chain gets threads of its own.
        self._in_ledger = Threads(1)
        readings = Readings(chain, ledger, self.accounts, self._in_ledger)
        self._watch = Watch(chain, operator, self.accounts, readings, watch_seconds)
        self._vouchers = Vouchers(self.domain, ledger, self.accounts, readings, self._in_ledger)
        self._claims = Claims(
            chain=chain,
            sender=sender,
            operator=operator,
            rule=rule,
            accounts=self.accounts,
            readings=readings,
            store=self._vouchers.store,
        )
        self._admission = Admission(
            operator=operator,
            node=node,
            domain=self.domain,
            ledger=ledger,
            accounts=self.accounts,
            readings=readings,
            watch=self._watch,
            in_ledger=self._in_ledger,
        )
        self._watch.on_opened = self._admission.opened

    @property
    def known(self) -> frozenset[bytes]:
        """Ids of the channels that are open and of this chain."""
        return self.accounts.ids

    @property
    def on_claim(self) -> Callable[[str], None]:
        """Told "paid" or "failed" after each transaction."""
        return self._claims.on_claim

    @on_claim.setter
    def on_claim(self, told: Callable[[str], None]) -> None:
        self._claims.on_claim = told

    def class_of(self, peer: str) -> Class:
        """What is known of who holds the session key behind a peer id, from channels of this run and earlier ones."""
        return self.accounts.class_of(peer)

    def knows(self, descriptor: ChannelDescriptor) -> bool:
        """Whether the channel is known to be on chain; costs nothing but a hash."""
        return self._admission.knows(descriptor)

    async def load(self) -> None:
        """Take up the channels of earlier runs, so that what they paid is claimed and watched, and who paid known.

        Raises LedgerError.
        """
        await self._in_ledger(self._ledger.payee.feed)
        for row in await self._in_ledger(self._ledger.payee.channels, self.domain):
            if row.ended:
                self.accounts.paid_before(row.payer, row.signer, row.best)
            else:
                self.accounts.add(IncomingAccount(row.machine(), row.settled, row.best))

    async def admit_channel(
        self, descriptor: ChannelDescriptor, source: Source, reserve: int = 0
    ) -> IncomingAccount:
        """The account of the channel that a client wants to pay from, whose deposit still covers `reserve` wei.

        Raises:
            VoucherRefused: see Admission.admit_channel.
        """
        return await self._admission.admit_channel(descriptor, source, reserve)

    async def bill(self, account: IncomingAccount, cost: int, cumulative: int, signature: bytes) -> None:
        """Bill a step of `cost` wei against its voucher, before it is computed. Raises VoucherRefused."""
        await self._vouchers.bill(account, cost, cumulative, signature)

    async def store(self, account: IncomingAccount) -> None:
        """Write the channel's best voucher down unless it is; when this returns it survives any crash."""
        await self._vouchers.store(account)

    async def begin_storing(self, account: IncomingAccount) -> Callable[[], Awaitable[None]]:
        """Begin to write the channel's best voucher down, and return what waits until it survives any crash."""
        return await self._vouchers.begin(account)

    async def store_again(self, account: IncomingAccount) -> None:
        """Write down what the channel was billed, once a step was taken back."""
        await self._vouchers.store_again(account)

    async def record(self, session: SessionRecord) -> None:
        """Write down what a session was and what came of it."""
        await self.feed()
        await self._in_ledger(self._ledger.history.save_session, session)

    async def feed(self) -> None:
        """Bring the vouchers that were stored into the ledger's tables. Raises LedgerError: they stay stored."""
        if self._ledger.payee.waiting:
            await self._in_ledger(self._ledger.payee.feed)

    async def watch(self, *, within: float = 0.0) -> None:
        """Read what happened to our channels since the last time; who asks to close is claimed at once. The ledger's
        tables get what was stored since. `within` as in Rpc.tip.

        Raises:
            ChainError: some of it could not be read, and is by the next call. LedgerError.
        """
        try:
            failures = await self._watch.work(within=within)
            await self._claims.claim_closing()
        finally:
            await self.feed()
        if failures:
            raise failures[0]

    async def claim(self, *, last: bool = False) -> int:
        """Claim what is worth its gas; returns wei received. Raises ChainError."""
        return await self._claims.claim(last=last)

    def claiming_at_the_end(self) -> AbstractAsyncContextManager[None]:
        """Fetch whatever is worth its gas when the block ends: nobody watches the channels from there on."""
        return self._claims.claiming_at_the_end()


def collector_of(wallets: Wallets, chain: Chain, ledger: Ledger, terms: NodeTerms) -> Collector:
    """The collector of a node that runs by `terms`."""
    return Collector(
        operator=wallets.operator,
        node=wallets.sender.address,
        chain=chain,
        sender=wallets.sender,
        ledger=ledger,
        rule=terms.claim,
        watch_seconds=terms.watch_seconds,
    )
