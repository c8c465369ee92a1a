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

MOST_MISSED = 3
"""answers in a row that there is no such channel, after which it is left out: one may be of a node that lags"""


@dataclass(frozen=True, slots=True)
class Reading:
    """The chain's view of a channel, and the number of the question: later ones have higher numbers.

    `state` is that of the latest block, `confirmed` that of the latest one which counts as final.
    """

    asked: int
    state: ChannelState
    confirmed: ChannelState


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
        return await threads(self._read, number, channel_id)

    def _read(self, number: int, channel_id: bytes) -> Reading:
        channels = self._chain.channels
        state = channels.state(channel_id)
        return Reading(number, state, channels.confirmed(channel_id) if self._chain.confirmations else state)

    async def refresh(self, account: IncomingAccount, *, for_us: bool = False) -> None:
        """Bring an account up to date. Raises ChainError."""
        await self.take_over(account, await self.ask(account.channel_id, for_us=for_us))

    async def take_over(self, account: IncomingAccount, reading: Reading) -> None:
        """Believe an answer, unless that to a later question came before it."""
        state, confirmed = reading.state, reading.confirmed
        if reading.asked < account.asked:
            return
        account.asked = reading.asked
        account.final, account.gone = state == confirmed, not state.open
        if not state.exists:
            self._missed(account)
            return
        account.missed = 0
        account.settled = state.settled
        ended = state.closed and confirmed.closed
        if ended:
            self._accounts.drop(account)
        if state.closed:
            # Sessions that still hold it are refused from here on.
            account.channel.close_at = state.close_at or int(time.time())
        else:
            account.channel.deposit = min(state.deposit, confirmed.deposit)
            account.channel.close_at = state.close_at
        if account.kept:
            await self._in_ledger(
                self._ledger.payee.note,
                account.channel_id,
                deposit=None if state.closed else account.channel.deposit,
                settled=state.settled,
                close_at=state.close_at,
                ended=ended,
            )

    def _missed(self, account: IncomingAccount) -> None:
        """Its opening went with a reorganised chain, the chain was reset, or a node lags: the first answer does not
        tell. Nothing more is taken for it, and after some more answers it is left out; the ledger keeps the row.
        """
        account.missed += 1
        account.channel.close_at = int(time.time())
        if account.missed >= MOST_MISSED:
            log.warning("the chain does not know channel %s: it is left out", account.channel_id.hex())
            self._accounts.drop(account)
