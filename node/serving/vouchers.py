"""Vouchers: billed before the step is computed, in the ledger before the answer leaves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
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
        in_ledger: in which threads the ledger is written, one at a time.
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
        self._unwritten: set[IncomingAccount] = set()
        self._writing = trio.Lock()

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
        """Write the channel's best voucher down unless it is; when this returns it survives any crash.

        Vouchers that arrive while one is being written share the next commit: the disk's sync is what costs. The first
        of a channel brings its row into the ledger.
        """
        best = account.channel.best
        self._unwritten.add(account)
        async with self._writing:
            if account.stored >= best and account.kept:
                return
            batch = list(self._unwritten | {account})
            self._unwritten.clear()
            for new in [each for each in batch if not each.kept]:
                await self._in_ledger(
                    self._ledger.payee.adopt,
                    self._domain,
                    new.channel.descriptor,
                    deposit=new.channel.deposit,
                    settled=new.settled,
                    close_at=new.channel.close_at,
                )
                self._accounts.keep(new)
            vouchers = [(a.channel_id, a.channel.best, a.channel.signature, a.channel.billed) for a in batch]
            await self._in_ledger(self._ledger.payee.store_vouchers, vouchers)
            for written, (_, cumulative, _, _) in zip(batch, vouchers, strict=True):
                written.stored = max(written.stored, cumulative)
