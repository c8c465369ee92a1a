"""Turning vouchers into money on chain: when they are worth their gas, when a payer closes, and when a node ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from hypercluster.market.errors import MarketError, Reverted
from hypercluster.market.money.claiming import CLAIM_BATCH, ClaimRule
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Sender
    from hypercluster.market.chain.channels import Claim
    from hypercluster.node.serving.accounts import Accounts, IncomingAccount
    from hypercluster.node.serving.readings import Readings

log = logging.getLogger(__name__)

LAST_CLAIM_SECONDS = 8.0
"""for the claim when a node ends"""
ANSWER_SECONDS = 3.0
"""of these for what the chain answers first: one that hangs, or sends a byte at a time, takes no claim in the rest"""
ASIDE_SECONDS = 600.0
"""for which a channel is left out whose claim the contract refused"""


class _Due(NamedTuple):
    """A channel, and its best voucher when the claim was made up."""

    account: IncomingAccount
    claim: Claim


def _claim(account: IncomingAccount) -> Claim:
    return account.channel.descriptor, account.channel.best, account.channel.signature


class Claims:
    """Claims what the accounts are owed.

    Args:
        sender: sends the claims and pays their gas; settling is open to everybody, so the hot node key does.
        rule: when the money is worth its gas.
        store: brings an account's best voucher into the ledger, before the chain sees it.

    Attributes:
        on_claim: told "paid" or "failed" after each transaction.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        sender: Sender,
        operator: str,
        rule: ClaimRule,
        accounts: Accounts,
        readings: Readings,
        store: Callable[[IncomingAccount], Awaitable[None]],
    ) -> None:
        self._chain, self._sender, self._operator, self._rule = chain, sender, operator, rule
        self._accounts, self._readings, self._store = accounts, readings, store
        self._claiming = trio.Lock()
        self._under_way: set[bytes] = set()
        """channels whose claim was sent and left alone, when the node was told to end"""
        self._aside: dict[bytes, float] = {}
        """until when channels are left out whose claim the contract refused"""
        self.on_claim: Callable[[str], None] = lambda outcome: None
        # A chain that hangs must not hold up the end of the node: what is left alone is looked up at the next start.
        self._on_chain = Threads(4, abandon=True)

    async def claim(self, *, last: bool = False, priced: Callable[[], None] = lambda: None) -> int:
        """Send the vouchers worth their gas to the chain, in one transaction per fifty; returns wei received.

        With `last` anything worth more than its gas is sent, as nobody will be there to do it later. `priced` is called
        when the chain has said what a claim costs.

        Raises:
            ChainError: the chain refuses or cannot be reached; the vouchers stay stored and are tried again.
        """
        async with self._claiming:
            due = await self._due(last)
            priced()
            return await self._settle(due)

    async def claim_closing(self) -> None:
        """Claim from every channel whose payer asked to close it and that owes more than its gas. Raises ChainError.

        Who wants to be claimed from for nothing could else have a node spend gas on a wei, again and again.
        """
        if any(self._claimable(each) for each in self._accounts if each.channel.close_at):
            async with self._claiming:
                await self._settle(await self._due(True, closing=True))

    @asynccontextmanager
    async def claiming_at_the_end(self) -> AsyncIterator[None]:
        """Fetch whatever is worth its gas when the block ends: nobody watches the channels from there on.

        That takes LAST_CLAIM_SECONDS at most, and ANSWER_SECONDS where the chain does not say what a claim costs; the
        rest stays in the ledger.
        """

        def answered() -> None:
            limit.deadline += LAST_CLAIM_SECONDS - ANSWER_SECONDS

        try:
            yield
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(ANSWER_SECONDS) as limit:
                try:
                    await self.claim(last=True, priced=answered)
                except MarketError as error:
                    log.warning("what is owed could not be claimed, it stays in the ledger: %s", error)
            if limit.cancelled_caught:
                log.warning(
                    "the chain did not answer in time; what is owed stays in the ledger until the next start"
                )

    async def _settle(self, due: Sequence[IncomingAccount]) -> int:
        received = 0
        for start in range(0, len(due), CLAIM_BATCH):
            batch = due[start : start + CLAIM_BATCH]
            before = sum(account.settled for account in batch)
            under_way = {account.channel_id for account in batch}
            self._under_way |= under_way
            try:
                claims = [_Due(account, _claim(account)) for account in batch]
                for account in batch:
                    if account.unwritten:
                        # Its work goes on, and a claim of it would outlive a crash.
                        await self._store(account)
                sent = await self._send(claims)
            except MarketError:
                self._under_way -= under_way
                self.on_claim("failed")
                raise
            self._under_way -= under_way
            self.on_claim("paid" if sent else "failed")
            for account in batch:
                await self._readings.refresh(account, for_us=True)
            received += sum(account.settled for account in batch) - before
        if received:
            log.info("claimed %d wei from %d channels", received, len(due))
        return received

    async def _send(self, batch: Sequence[_Due]) -> bool:
        """Settle a batch; a channel at which the contract stops is set aside for a while, and the others go on.

        Returns whether anything was settled. Raises ChainError where it is not the contract that refuses.
        """
        claims = [each.claim for each in batch]
        try:
            await self._on_chain(self._chain.channels.settle_batch, self._sender, self._operator, claims)
        except Reverted as error:
            named = error.args_by_name.get("channelId")
            bad = [each for each in batch if "0x" + each.account.channel_id.hex() == named]
            if len(batch) == 1 or bad:
                for each in bad or batch:
                    log.warning("channel %s is set aside: %s", each.account.channel_id.hex(), error)
                    self._aside[each.account.channel_id] = trio.current_time() + ASIDE_SECONDS
                rest = [each for each in batch if each.account.channel_id not in self._aside]
                return bool(rest) and await self._send(rest)
            # Nobody says which one it is, so those are told apart that work.
            middle = len(batch) // 2
            first = await self._send(batch[:middle])
            return await self._send(batch[middle:]) or first
        return True

    def _claimable(self, account: IncomingAccount) -> bool:
        """Whether something is owed that no claim is under way for, and that the contract did not refuse lately."""
        if account.gone or account.channel_id in self._under_way:
            return False
        return account.unclaimed > 0 and self._aside.get(account.channel_id, 0.0) <= trio.current_time()

    async def _due(self, last: bool, *, closing: bool = False) -> list[IncomingAccount]:
        owed = [a for a in self._accounts if self._claimable(a) and (a.channel.close_at or not closing)]
        if not owed:
            return owed
        cost = await self._on_chain(self._chain.channels.settle_cost)
        return [owed[i] for i in self._rule.chosen([each.unclaimed for each in owed], cost, last=last)]
