"""Vouchers: billed before the step is computed, in the ledger before the answer leaves."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.serving.storing import Storer, Storing
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.ledger import Ledger
    from hypercluster.market.money.voucher import VoucherDomain
    from hypercluster.node.serving.accounts import Accounts, IncomingAccount
    from hypercluster.node.serving.readings import Readings

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""for a look at the chain while a step waits"""


class Vouchers:
    """Bills steps and keeps the best voucher of each channel.

    Args:
        in_ledger: in which threads the ledger's tables are written, one at a time.
    """

    def __init__(
        self,
        domain: VoucherDomain,
        ledger: Ledger,
        accounts: Accounts,
        readings: Readings,
        in_ledger: Threads,
    ) -> None:
        self._domain, self._ledger, self._accounts, self._readings = domain, ledger, accounts, readings
        self._in_ledger = in_ledger
        self._adopting = trio.Lock()
        self._storer = Storer(ledger.payee.store_vouchers)

    async def bill(self, account: IncomingAccount, cost: int, cumulative: int, signature: bytes) -> None:
        """Bill a step of `cost` wei against its voucher, before it is computed.

        A voucher beyond the deposit may be the first to come after a top-up, so the chain is asked about it, once, if
        the payer did sign it.

        Raises:
            VoucherRefused: see PayeeChannel.admit.
        """
        if cumulative > account.channel.deposit and account.channel.is_signed(cumulative, signature):
            try:
                with trio.fail_after(LOOK_SECONDS):
                    await self._readings.refresh(account)
            except (MarketError, trio.TooSlowError) as error:
                log.info("the deposit of a channel could not be looked up again: %s", error or "no answer")
        account.channel.admit(cost, cumulative, signature)

    async def store_again(self, account: IncomingAccount) -> None:
        """Write down what the channel was billed, once a step was taken back."""
        account.stored = -1
        await self.store(account)

    async def store(self, account: IncomingAccount) -> None:
        """Write the channel's best voucher down unless it is; when this returns it survives any crash."""
        await self._storing(account, await self._kept(account))

    async def begin(self, account: IncomingAccount) -> Callable[[], Awaitable[None]]:
        """Begin to do so, and return what waits for the end of it. The first voucher of a channel brings its row into
        the ledger before this returns.
        """
        return partial(self._storing, account, await self._kept(account))

    async def _kept(self, account: IncomingAccount) -> Storing | None:
        """The channel's best voucher on its way to the disk; None if it is there."""
        if not account.kept:
            async with self._adopting:
                await self._adopt(account)
        channel = account.channel
        voucher = account.channel_id, channel.best, channel.signature, channel.billed
        if not account.unwritten:
            # It pays for several steps.
            self._ledger.payee.note_billed(voucher)
            return None
        return self._storer.put(voucher)

    async def _storing(self, account: IncomingAccount, storing: Storing | None) -> None:
        if storing is not None:
            await storing.stored()
            account.stored = max(account.stored, storing.voucher[1])

    async def _adopt(self, account: IncomingAccount) -> None:
        if account.kept:
            return
        await self._in_ledger(
            self._ledger.payee.adopt,
            self._domain,
            account.channel.descriptor,
            deposit=account.channel.deposit,
            settled=account.settled,
            close_at=account.channel.close_at,
        )
        self._accounts.keep(account)
