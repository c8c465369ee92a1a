"""What the chain says of our channels. Nobody waits for anybody's question: the answer to the latest one counts."""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.chain.channels import ChannelState
    from hypercluster.market.ledger import Ledger
    from hypercluster.node.serving.accounts import Accounts, IncomingAccount

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """The chain's view of a channel, and the number of the question: later ones have higher numbers."""

    asked: int
    state: ChannelState


class Readings:
    """Asks the chain about channels and takes the answers over, into the accounts and the ledger.

    Args:
        in_ledger: in which threads the ledger is written, one at a time.
    """

    def __init__(self, chain: Chain, ledger: Ledger, accounts: Accounts, in_ledger: Threads) -> None:
        self._chain, self._ledger, self._accounts, self._in_ledger = chain, ledger, accounts, in_ledger
        self._questions = itertools.count(1)
        # A chain that hangs must not hold up the end of the node: what is left alone is looked up at the next start.
        self._ours = Threads(4, abandon=True)
        self._known = Threads(4, abandon=True)
        # A look-up that hangs keeps its thread: those of strangers must not use up what others need.
        self._strangers = Threads(4, abandon=True)

    async def ask(self, channel_id: bytes, *, for_us: bool = False, for_a_stranger: bool = False) -> Reading:
        """Ask about a channel: in threads for watching and claiming, for channels that are known, or for others.

        Raises:
            ChainError: the chain cannot be asked.
        """
        number = next(self._questions)
        threads = self._ours if for_us else self._strangers if for_a_stranger else self._known
        return Reading(number, await threads(self._chain.channels.state, channel_id))

    async def refresh(self, account: IncomingAccount, *, for_us: bool = False) -> None:
        """Bring an account up to date. Raises ChainError."""
        await self.take_over(account, await self.ask(account.channel_id, for_us=for_us))

    async def take_over(self, account: IncomingAccount, reading: Reading) -> None:
        """Believe an answer, unless that to a later question came before it."""
        state = reading.state
        if reading.asked < account.asked:
            return
        account.asked = reading.asked
        if not state.exists:
            # Of a chain that was reset: it owes nothing here. The ledger keeps the row, should the old one come back.
            log.warning("the chain does not know channel %s: it is left out", account.channel_id.hex())
            self._accounts.drop(account)
            return
        account.settled = state.settled
        if state.closed:
            self._accounts.drop(account)
            # Sessions that still hold it are refused from here on.
            account.channel.close_at = state.close_at or int(time.time())
        else:
            account.channel.deposit = state.deposit
            account.channel.close_at = state.close_at
        if account.kept:
            await self._in_ledger(
                self._ledger.payee.note,
                account.channel_id,
                deposit=None if state.closed else state.deposit,
                settled=state.settled,
                close_at=state.close_at,
                ended=state.closed,
            )
