"""What a node has earned and what of it is still to be claimed, as ledger and chain have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.market.money.claiming import CLAIM_BATCH, ClaimRule, Outlook
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Sender
    from hypercluster.market.ledger import IncomingChannel, Ledger


class LosingClaim(NodeError):
    """A claim that costs more gas than it brings, and was not forced."""


@dataclass(frozen=True, slots=True)
class Books:
    """The channels that pay a node: those that this chain knows, and those of another one or of one that was reset."""

    here: tuple[IncomingChannel, ...]
    elsewhere: tuple[IncomingChannel, ...]

    @property
    def unclaimed(self) -> list[IncomingChannel]:
        """Channels of this chain whose best voucher is worth more than was claimed."""
        return [row for row in self.here if row.unclaimed]

    @property
    def unclaimed_wei(self) -> int:
        """What they owe in all."""
        return sum(row.unclaimed for row in self.here)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim brought, in wei of HCT, and its gas, in wei of the chain's coin."""

    received_wei: int
    channels: int
    gas_coin_wei: int


def books_of(ledger: Ledger, chain: Chain) -> Books:
    """All channels in the ledger; an open one that the chain does not know is of a chain that was reset.

    Raises LedgerError, ChainError.
    """
    here: list[IncomingChannel] = []
    elsewhere: list[IncomingChannel] = []
    for row in ledger.payee.channels():
        ours = row.domain == chain.channels.domain
        known = ours and (row.ended or chain.channels.state(row.channel_id).exists)
        (here if known else elsewhere).append(row)
    return Books(tuple(here), tuple(elsewhere))


def outlook_of(books: Books, chain: Chain, rule: ClaimRule) -> Outlook:
    """What claiming everything would bring and cost now. Raises ChainError."""
    return Outlook.of([row.unclaimed for row in books.unclaimed], chain.channels.settle_cost(), rule)


def claim_all(
    ledger: Ledger,
    chain: Chain,
    sender: Sender,
    rows: Sequence[IncomingChannel],
    outlook: Outlook,
    *,
    force: bool,
) -> Claimed:
    """Send the vouchers of `rows` to the chain now, in one transaction per fifty.

    Raises:
        LosingClaim: the gas is worth more than what it brings, by the operator's own rate, and `force` is off.
        ChainError: the chain refuses or does not answer.
    """
    if outlook.net_wei < 0 and not force:
        raise LosingClaim(
            "The gas of this claim is worth more than what it brings; --force claims all the same."
        )
    before = sum(chain.channels.state(row.channel_id).settled for row in rows)
    gas = 0
    for start in range(0, len(rows), CLAIM_BATCH):
        batch = rows[start : start + CLAIM_BATCH]
        claims = [(row.descriptor, row.best, row.signature) for row in batch]
        gas += chain.channels.settle_batch(sender, batch[0].payee, claims).cost_wei
    received = -before
    for row in rows:
        state = chain.channels.state(row.channel_id)
        received += state.settled
        ledger.payee.note(row.channel_id, settled=state.settled, close_at=state.close_at, ended=state.closed)
    return Claimed(received, len(rows), gas)
