"""The client's money: channels opened from the wallet, vouchers signed by the session key."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import coincurve
import trio

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import InvalidSignature, Overbilled
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.channel import PayerChannel
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import (
    TAG,
    ChannelDescriptor,
    Quote,
    VoucherDomain,
    channel_salt,
    node_tag,
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is paid over one channel: the operator gets the money, its node does the work and keeps the books."""

    operator: str
    node: str


@dataclass(eq=False, slots=True)
class OutgoingAccount:
    """One channel that we pay from, shared by all our sessions with one node."""

    descriptor: ChannelDescriptor
    channel_id: bytes
    channel: PayerChannel
    domain: VoucherDomain
    session_key: coincurve.PrivateKey

    def authorise(self, amount: int) -> tuple[int, bytes]:
        """Set `amount` wei aside and return the voucher for it: cumulative wei and its signature, 64 bytes.

        Raises:
            OverDeposit: the channel does not hold enough.
        """
        cumulative = self.channel.authorise(amount)
        return cumulative, self.domain.sign(self.session_key, self.channel_id, cumulative)

    def acknowledge(self, amount: int, billed: int) -> None:
        """Book an answered step. Raises Overbilled."""
        self.channel.acknowledge(amount, billed)

    def release(self, amount: int) -> None:
        """Book a step that was refused or never answered."""
        self.channel.release(amount)

    def resume(self, billed: int, paid: int, signature: bytes) -> None:
        """Take over the provider's totals; what it says it was paid must carry our own signature.

        Raises:
            Overbilled: it says more than we ever signed.
        """
        if paid > self.channel.signed:
            try:
                signer = self.domain.recover(self.channel_id, paid, signature)
            except InvalidSignature:
                signer = ""
            if signer != self.descriptor.signer:
                raise Overbilled(
                    f"The provider shows a voucher of {paid} wei that we never signed: leave it."
                )
        self.channel.resume(billed, paid)

    def check_quote(self, quote: Quote, signature: bytes, node: str) -> None:
        """Raise InvalidSignature unless the Ethereum address `node` signed the quote."""
        if self.domain.recover_quote(quote, signature) != node:
            raise InvalidSignature("The quote is signed by another key than the provider's node key.")


class Payer:
    """Opens and tops up the channels of one wallet.

    Args:
        payer: the wallet's address.
        wallet: unlocks the wallet; called, in a thread, only when a channel has to be opened or topped up.
        session_key: signs the vouchers.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        payer: str,
        wallet: Callable[[], Sender],
        session_key: coincurve.PrivateKey,
        ledger: Ledger,
    ) -> None:
        self.domain = chain.channels.domain
        self._chain = chain
        self.payer = payer
        self._wallet = wallet
        self._session_key = session_key
        self._ledger = ledger
        self._accounts: dict[tuple[str, bytes], OutgoingAccount] = {}
        """by operator and the tag of the node"""
        self._lock = trio.Lock()
        self._threads = trio.CapacityLimiter(4)

    async def fund(
        self, needs: Mapping[Recipient, int], deposit: int = 0
    ) -> dict[Recipient, OutgoingAccount]:
        """Channels to the nodes named, each good for at least what `needs` says.

        Missing ones are opened in one transaction; ones with too little left are topped up.

        Args:
            needs: wei that will be spent at most, by payee.
            deposit: least wei to put into a channel that is opened or topped up, so that it lasts.

        Raises:
            InsufficientFunds, ChainError: the wallet cannot pay, or the chain does not answer.
        """
        async with self._lock:
            await self._load()
            missing = {p: max(need, deposit) for p, need in needs.items() if _key(p) not in self._accounts}
            if missing:
                await trio.to_thread.run_sync(self._open, missing, limiter=self._threads)
            for payee, need in needs.items():
                account = self._accounts[_key(payee)]
                short = need - account.channel.available
                if short > 0:
                    await trio.to_thread.run_sync(
                        self._top_up, account, max(short, deposit), limiter=self._threads
                    )
            return {payee: self._accounts[_key(payee)] for payee in needs}

    async def save(self) -> None:
        """Write down what was signed and spent on each channel."""
        for account in list(self._accounts.values()):
            store = partial(
                self._ledger.payer.store, account.channel_id, account.channel.signed, account.channel.spent
            )
            await trio.to_thread.run_sync(store, limiter=self._threads)

    async def _load(self) -> None:
        """Take up the open channels in the ledger, with the chain's view of each."""
        signer = address_of(self._session_key)
        rows = await trio.to_thread.run_sync(
            partial(self._ledger.payer.channels, self.domain, ended=False), limiter=self._threads
        )
        for row in rows:
            key = (row.payee, row.salt[TAG])
            if key in self._accounts or row.signer != signer or row.payer != self.payer:
                continue
            state = await trio.to_thread.run_sync(
                self._chain.channels.state, row.channel_id, limiter=self._threads
            )
            note = partial(
                self._ledger.payer.note,
                row.channel_id,
                deposit=state.deposit if state.open else None,
                settled=state.settled,
                close_at=state.close_at,
                ended=state.closed,
            )
            await trio.to_thread.run_sync(note, limiter=self._threads)
            if not state.open or state.close_at:
                continue
            machine = row.machine()
            machine.topped_up(state.deposit)
            machine.resume(max(machine.spent, state.settled), max(machine.signed, state.settled))
            self._accounts[key] = OutgoingAccount(
                row.descriptor, row.channel_id, machine, self.domain, self._session_key
            )

    def _open(self, deposits: Mapping[Recipient, int]) -> None:
        signer = address_of(self._session_key)
        opened = []
        now_ms = time.time_ns() // 1_000_000
        for payee, amount in deposits.items():
            salt = channel_salt(payee.node, now_ms)
            descriptor = ChannelDescriptor(self.payer, payee.operator, signer, salt)
            # Written down first: without the salt nobody can close the channel.
            self._ledger.payer.add(self.domain, descriptor, amount)
            opened.append((descriptor, amount))
        self._chain.channels.open_many(self._wallet(), opened)
        for payee, (descriptor, amount) in zip(deposits, opened, strict=True):
            channel_id = self.domain.channel_id(descriptor)
            self._accounts[_key(payee)] = OutgoingAccount(
                descriptor, channel_id, PayerChannel(amount), self.domain, self._session_key
            )

    def _top_up(self, account: OutgoingAccount, amount: int) -> None:
        self._chain.channels.top_up(self._wallet(), account.descriptor, amount)
        total = account.channel.deposit + amount
        account.channel.topped_up(total)
        self._ledger.payer.note(account.channel_id, deposit=total)


def _key(payee: Recipient) -> tuple[str, bytes]:
    return payee.operator, node_tag(payee.node)
