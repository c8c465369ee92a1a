"""Waiting until a deposit counts, and getting the rest of a channel back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Sender
    from hypercluster.market.ledger import Ledger, OutgoingChannel

WITHDRAWN = "withdrawn"
CONFIRMED_SECONDS = 1.0
"""between looks at how many blocks followed"""
BLOCK_SECONDS = 60.0
"""for which one more block is awaited"""


def await_confirmations(chain: Chain, block: int) -> None:
    """Return when as many blocks followed `block` as providers wait for before a deposit counts.

    Where no block comes for BLOCK_SECONDS it returns all the same: providers say themselves what they have not seen.
    Raises ChainError.
    """
    last, since = 0, time.monotonic()
    while chain.confirmations and (head := chain.block_number()) < block + chain.confirmations:
        if head > last:
            last, since = head, time.monotonic()
        elif time.monotonic() > since + BLOCK_SECONDS:
            return
        time.sleep(CONFIRMED_SECONDS)


def push_on(chain: Chain, wallet: Sender, ledger: Ledger, row: OutgoingChannel) -> tuple[str, int]:
    """Do what is due on a channel: ask to close it, or withdraw what the grace period has released.

    Returns what was done, in words, and from when on (unix seconds) the rest can be withdrawn; 0 where that is past
    or not asked for.

    Raises:
        MarketError: the chain does not answer, or refuses.
    """
    state = chain.channels.state(row.channel_id)
    done = "nothing to do"
    if state.open:
        # An idle chain's latest block is old; the next one will have the time of the clock.
        now = max(chain.timestamp(), int(time.time()))
        if not state.close_at:
            mined = chain.channels.request_close(wallet, row.descriptor)
            ledger.payer.spend_gas(row.channel_id, mined.cost_wei)
            done = "asked to close"
        elif state.close_at <= now:
            mined = chain.channels.withdraw(wallet, row.descriptor)
            ledger.payer.spend_gas(row.channel_id, mined.cost_wei)
            done = WITHDRAWN
        else:
            done = f"closes in {state.close_at - now} s"
        state = chain.channels.state(row.channel_id)
    ended = state.closed and chain.channels.confirmed(row.channel_id).closed
    ledger.payer.note(row.channel_id, settled=state.settled, close_at=state.close_at, ended=ended or None)
    return done, state.close_at
