"""The channels that pay a node, and the wallets and session keys behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hypercluster.market.money.channel import PayeeChannel
from hypercluster.node.errors import IdentityError
from hypercluster.node.identity import address_of_peer
from hypercluster.node.serving.classes import Class

MOST_UNPAID = 4096
"""channels over which nothing was paid yet that are kept in mind; whoever comes back later is looked up again"""


@dataclass(eq=False, slots=True)
class IncomingAccount:
    """One channel that pays us, shared by all sessions on it. Amounts in wei."""

    channel: PayeeChannel
    settled: int
    stored: int = 0
    """cumulative wei of the voucher that the ledger holds"""
    kept: bool = True
    """the ledger has a row of it, from the first voucher on"""
    reserved: int = 0
    """what the sessions that are open on it reserve, less what they paid"""
    sessions: int = 0
    """open on it"""
    asked: int = 0
    """the question to the chain whose answer this is; a later one has a higher number"""
    final: bool = True
    """what the chain said last had as many confirmations as it takes"""
    gone: bool = False
    """nothing can be claimed from it: the chain has no such channel, or it has ended, and that is not final yet"""
    missed: int = 0
    """answers in a row that the chain has no such channel"""

    @property
    def channel_id(self) -> bytes:
        """32 bytes."""
        return self.channel.channel_id

    @property
    def payer(self) -> str:
        """The wallet's address."""
        return self.channel.descriptor.payer

    @property
    def signer(self) -> str:
        """The address of the session key."""
        return self.channel.descriptor.signer

    @property
    def unwritten(self) -> bool:
        """Whether the best voucher is in memory alone."""
        return not self.kept or self.stored < self.channel.best

    @property
    def unclaimed(self) -> int:
        """Wei of the best voucher that the chain has not paid yet."""
        return max(0, self.channel.best - self.settled) if self.channel.signature else 0

    @property
    def unreserved(self) -> int:
        """Deposit that is neither billed nor reserved."""
        return max(0, self.channel.deposit - self.channel.billed - self.reserved)

    @contextmanager
    def reserving(self, wei: int) -> Iterator[Reserved]:
        """Within the block a session is open on the channel that reserves so much, less what it pays."""
        reserved = Reserved(self, wei)
        self.reserved += wei
        self.sessions += 1
        try:
            yield reserved
        finally:
            self.sessions -= 1
            reserved.pay(reserved.left)


@dataclass(slots=True)
class Reserved:
    """What one session still reserves, `left` wei."""

    account: IncomingAccount
    left: int

    def pay(self, wei: int) -> None:
        """So much was billed."""
        paid = min(self.left, wei)
        self.left -= paid
        self.account.reserved -= paid


class Accounts:
    """All channels that are open and of this chain, and who paid us ever. For one thread."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, IncomingAccount] = {}
        self._unpaid: dict[bytes, IncomingAccount] = {}
        self._of_payer: dict[str, set[IncomingAccount]] = {}
        self._live: dict[str, Counter[str]] = {}
        """how many channels of each wallet a session key signs for"""
        self._paid_before: dict[str, int] = {}
        """wei by wallet, over channels that have ended"""
        self._signed_before: dict[str, set[str]] = {}
        """the wallets that each session key signed for, over those channels"""

    def __iter__(self) -> Iterator[IncomingAccount]:
        return iter(list(self._by_id.values()))

    @property
    def ids(self) -> frozenset[bytes]:
        """Of the channels."""
        return frozenset(self._by_id)

    def get(self, channel_id: bytes) -> IncomingAccount | None:
        """The account of a channel, if it is known."""
        return self._by_id.get(channel_id)

    def add(self, account: IncomingAccount) -> IncomingAccount:
        """Take up a channel; returns the account that counts, which is the one that was there before."""
        known = self._by_id.setdefault(account.channel_id, account)
        if known is account:
            self._of_payer.setdefault(account.payer, set()).add(account)
            self._live.setdefault(account.signer, Counter())[account.payer] += 1
            if not account.kept:
                self._unpaid[account.channel_id] = account
                self._forget_some()
        return known

    def keep(self, account: IncomingAccount) -> None:
        """Note that the ledger has it now: something was paid."""
        account.kept = True
        self._unpaid.pop(account.channel_id, None)

    def drop(self, account: IncomingAccount) -> None:
        """Leave a channel out; what was paid over it is not forgotten."""
        if self._by_id.pop(account.channel_id, None) is None:
            return
        self._unpaid.pop(account.channel_id, None)
        others = self._of_payer[account.payer]
        others.discard(account)
        if not others:
            del self._of_payer[account.payer]
        wallets = self._live[account.signer]
        wallets[account.payer] -= 1
        if not +wallets:
            del self._live[account.signer]
        self.paid_before(account.payer, account.signer, account.channel.best)

    def paid_before(self, payer: str, signer: str, wei: int) -> None:
        """Count `wei` for a wallet, paid over a channel that has ended and was signed for by `signer`."""
        if wei:
            self._paid_before[payer] = self._paid_before.get(payer, 0) + wei
            self._signed_before.setdefault(signer, set()).add(payer)

    def paid_by(self, payer: str) -> int:
        """Wei that a wallet paid ever, over all its channels."""
        live = sum(account.channel.best for account in self._of_payer.get(payer, ()))
        return self._paid_before.get(payer, 0) + live

    def class_of_payer(self, payer: str) -> Class:
        """What is known of a wallet."""
        if self.paid_by(payer):
            return Class.PAYER
        return Class.NEWCOMER if payer in self._of_payer else Class.STRANGER

    def class_of(self, peer: str) -> Class:
        """What is known of whoever holds the session key behind a peer id."""
        try:
            signer = address_of_peer(peer)
        except IdentityError:
            return Class.STRANGER
        wallets = {*+self._live.get(signer, Counter()), *self._signed_before.get(signer, ())}
        return max(map(self.class_of_payer, wallets), default=Class.STRANGER)

    def _forget_some(self) -> None:
        if len(self._unpaid) > MOST_UNPAID:
            idle = (account for account in self._unpaid.values() if not account.sessions)
            if (oldest := next(idle, None)) is not None:
                self.drop(oldest)
