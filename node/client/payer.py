"""The client's money: channels opened from the wallet, vouchers signed by the session key."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import coincurve
import trio

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.ledger import Ledger, OutgoingChannel
from hypercluster.market.money.budget import Budget
from hypercluster.market.money.channel import PayerChannel
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import TAG, ChannelDescriptor, channel_salt, node_tag
from hypercluster.node.client.account import OutgoingAccount, Recipient
from hypercluster.node.client.closing import await_confirmations, push_on
from hypercluster.node.client.journal import Journal
from hypercluster.node.client.limits import Spending, WalletLimits
from hypercluster.node.home.policy import WalletPolicy
from hypercluster.node.threads import Threads

NO_CHANNEL = bytes(32)
"""stands in the journal for all channels on which a request spent before"""


@dataclass(frozen=True, slots=True)
class Deposit:
    """Wei of HCT that go from the wallet into one channel; `opens` is false for a top-up."""

    recipient: Recipient
    wei: int
    opens: bool


@dataclass(frozen=True, slots=True)
class Funding:
    """What the wallet sends before a path can be paid: deposits of HCT, and gas in wei of the chain's own coin."""

    deposits: tuple[Deposit, ...] = ()
    gas_wei: int = 0

    @property
    def deposit_wei(self) -> int:
        """All deposits together."""
        return sum(deposit.wei for deposit in self.deposits)


class Payer:
    """Opens and tops up the channels of one wallet.

    Args:
        payer: the wallet's address.
        wallet: unlocks the wallet; called, in a thread, only when a channel has to be opened or topped up.
        session_key: signs the vouchers.
        limits: of the wallet; those of a policy that nobody changed where there are none.
        journal: in which vouchers are written down before they leave, if given.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        payer: str,
        wallet: Callable[[], Sender],
        session_key: coincurve.PrivateKey,
        ledger: Ledger,
        limits: WalletLimits | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.domain = chain.channels.domain
        self._chain = chain
        self.payer = payer
        self._wallet = wallet
        self._session_key = session_key
        self._ledger = ledger
        self.limits = limits or WalletLimits(WalletPolicy())
        self._journal = journal
        self._accounts: dict[tuple[str, bytes], OutgoingAccount] = {}
        """by operator and the tag of the node"""
        self._stored: dict[bytes, tuple[bytes, int, int]] = {}
        """what the ledger has: channel, signed, spent"""
        self.gas_wei = 0
        """paid so far, in wei of the chain's own coin"""
        self._lock = trio.Lock()
        self._storing = Lock()
        self._threads = Threads(4)

    def spending(self, request_id: str = "", budgets: Sequence[Budget] = ()) -> Spending:
        """What one request may spend: within its own budgets and the limits of the wallet."""
        return Spending(request_id, (*budgets, *self.limits.budgets()))

    async def plan(self, needs: Mapping[Recipient, int], deposit: int | None = None) -> Funding:
        """What `fund` would send, with the gas it would take at today's price. Sends nothing.

        Raises:
            ChainError: the chain does not answer.
        """
        async with self._lock:
            await self._load()
            deposits = await self._affordable(needs, deposit)
            if not deposits:
                return Funding()
            openings = sum(each.opens for each in deposits)
            gas = await self._threads(
                self._chain.channels.funding_cost_wei, openings, len(deposits) - openings
            )
            return Funding(deposits, gas)

    async def fund(
        self,
        needs: Mapping[Recipient, int],
        deposit: int | None = None,
        on_sent: Callable[[Funding], None] = lambda funding: None,
    ) -> dict[Recipient, OutgoingAccount]:
        """Channels to the nodes named, each good for at least what `needs` says.

        Missing ones are opened in one transaction; ones with too little left are topped up.

        Args:
            needs: wei that will be spent at most, by recipient.
            deposit: least wei to put into a channel that is opened or topped up, so that it lasts. None is the
                policy's, which also fills up those that fall below its threshold, or just what is needed where the
                wallet does not hold as much.
            on_sent: told of every transaction as soon as it is mined.

        Raises:
            InsufficientFunds, ChainError: the wallet cannot pay, or the chain does not answer.
        """
        async with self._lock:
            await self._load()
            deposits = await self._affordable(needs, deposit)
            openings = tuple(each for each in deposits if each.opens)
            if openings:
                on_sent(Funding(openings, await self._threads(self._open, openings)))
            for each in deposits:
                if not each.opens:
                    account = self._accounts[_key(each.recipient)]
                    on_sent(Funding((each,), await self._threads(self._top_up, account, each.wei)))
            return {each: self._accounts[_key(each)] for each in needs}

    def forget(self, recipient: Recipient) -> None:
        """Take up the channel to this recipient from ledger and chain again before it is paid from."""
        self._accounts.pop(_key(recipient), None)

    async def close(self, row: OutgoingChannel) -> str:
        """Ask to close a channel, or withdraw what is left of one that is closing; returns what was done, in words.

        What runs over it goes on: the provider has until the end of the grace period to claim.

        Raises:
            MarketError: the chain does not answer, or refuses.
        """
        async with self._lock:
            await self.save()
            self._accounts.pop((row.payee, row.salt[TAG]), None)
            return await self._threads(self._push_on, row)

    async def save(self) -> None:
        """Write down what was signed and spent on each channel."""
        await self._threads(self.store)

    def store(self) -> None:
        """The same, for a thread. Raises LedgerError."""
        with self._storing:
            self._store()

    def _store(self) -> None:
        found = [
            (each.channel_id, each.channel.signed, each.channel.spent) for each in [*self._accounts.values()]
        ]
        fresh = [each for each in found if self._stored.get(each[0]) != each]
        if fresh:
            self._ledger.payer.store_many(fresh)
            self._stored |= {each[0]: each for each in fresh}

    def begun(self, request_id: str, answered: int = 0, risked: int = 0, covered: int = 0) -> None:
        """From now on something may be spent on a request. The ledger knows already that so many wei of it were
        answered, so many not, and so many of both covered by what earlier ones had risked.

        They count on in the journal, so that what it says after a kill is the whole, however often there was one.
        """
        if self._journal is None or request_id in self._journal.state.requests:
            return
        self._journal.begun(request_id)
        if answered or risked:
            # The answers first: a kill between the two makes nothing of them a risk.
            self._journal.answered(NO_CHANNEL, request_id, answered, 0)
            self._journal.signed(NO_CHANNEL, request_id, answered + risked, 0)
        if covered:
            self._journal.covered(NO_CHANNEL, request_id, covered)

    def closed(self, request_id: str) -> None:
        """The ledger has all that a request spent so far, and `store` was called since."""
        if self._journal:
            self._journal.closed(request_id)

    async def _load(self) -> None:
        """Take up the open channels in the ledger, with the chain's view of each."""
        signer = address_of(self._session_key)
        rows = await self._threads(self._ledger.payer.channels, self.domain, ended=False)
        for row in rows:
            key = (row.payee, row.salt[TAG])
            if key in self._accounts or row.signer != signer or row.payer != self.payer:
                continue
            state = await self._threads(self._chain.channels.state, row.channel_id)
            # An end that a reorganisation can take back is none: the deposit would be forgotten.
            ended = (
                state.closed and (await self._threads(self._chain.channels.confirmed, row.channel_id)).closed
            )
            await self._threads(
                self._ledger.payer.note,
                row.channel_id,
                deposit=state.deposit if state.open else None,
                settled=state.settled,
                close_at=state.close_at,
                ended=ended,
            )
            if not state.open or state.close_at:
                continue
            machine = row.machine()
            machine.topped_up(state.deposit)
            if state.settled > machine.signed:  # an old copy of the ledger: what was claimed counts as spent
                machine.resume(state.settled, state.settled)
            self._accounts[key] = OutgoingAccount(
                row.descriptor, row.channel_id, machine, self.domain, self._session_key, self._journal
            )

    def _push_on(self, row: OutgoingChannel) -> str:
        return push_on(self._chain, self._wallet(), self._ledger, row)[0]

    async def _affordable(self, needs: Mapping[Recipient, int], deposit: int | None) -> tuple[Deposit, ...]:
        """The deposits that are missing; no more than needed where the wallet could not pay what the policy says."""
        if deposit is not None:
            return self._missing(needs, deposit, 0)
        policy = self.limits.policy
        wanted = self._missing(needs, policy.float_wei, policy.top_up_below_wei)
        if wanted and sum(each.wei for each in wanted) > await self._threads(
            self._chain.token.balance, self.payer
        ):
            return self._missing(needs, 0, 0)
        return wanted

    def _missing(self, needs: Mapping[Recipient, int], deposit: int, least: int) -> tuple[Deposit, ...]:
        deposits = []
        for recipient, need in needs.items():
            account = self._accounts.get(_key(recipient))
            available = account.unreserved if account else 0
            if account is None or need > available or available < least:
                deposits.append(Deposit(recipient, max(need, deposit) - available, account is None))
        return tuple(deposits)

    def _open(self, deposits: Sequence[Deposit]) -> int:
        signer = address_of(self._session_key)
        opened = []
        now_ms = time.time_ns() // 1_000_000
        for each in deposits:
            salt = channel_salt(each.recipient.node, now_ms)
            descriptor = ChannelDescriptor(self.payer, each.recipient.operator, signer, salt)
            # Written down first: without the salt nobody can close the channel.
            self._ledger.payer.add(self.domain, descriptor, each.wei)
            opened.append((descriptor, each.wei))
        try:
            mined = self._chain.channels.open_many(self._wallet(), opened)
        except BaseException:
            # What is there all the same is found when the channels are taken up next.
            for descriptor, _ in opened:
                self._ledger.payer.note(self.domain.channel_id(descriptor), deposit=0)
            raise
        self.gas_wei += mined.cost_wei
        for each, (descriptor, amount) in zip(deposits, opened, strict=True):
            channel_id = self.domain.channel_id(descriptor)
            self._ledger.payer.spend_gas(channel_id, mined.cost_wei // len(opened))
            self._accounts[_key(each.recipient)] = OutgoingAccount(
                descriptor, channel_id, PayerChannel(amount), self.domain, self._session_key, self._journal
            )
        await_confirmations(self._chain, mined.block)
        return mined.cost_wei

    def _top_up(self, account: OutgoingAccount, amount: int) -> int:
        mined = self._chain.channels.top_up(self._wallet(), account.descriptor, amount)
        self.gas_wei += mined.cost_wei
        total = account.channel.deposit + amount
        account.channel.topped_up(total)
        self._ledger.payer.note(account.channel_id, deposit=total)
        self._ledger.payer.spend_gas(account.channel_id, mined.cost_wei)
        await_confirmations(self._chain, mined.block)
        return mined.cost_wei


def _key(payee: Recipient) -> tuple[str, bytes]:
    return payee.operator, node_tag(payee.node)
