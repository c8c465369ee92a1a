"""What happens to channels on chain, as frozen records. Amounts in wei."""

from __future__ import annotations

from dataclasses import dataclass

from hypercluster.market.money.voucher import ChannelDescriptor


@dataclass(frozen=True)
class ChannelEvent:
    """An event of one channel; block and log index put events in order."""

    channel_id: bytes
    block: int
    index: int


@dataclass(frozen=True)
class Opened(ChannelEvent):
    """A channel was opened with ``deposit``."""

    payer: str
    payee: str
    signer: str
    salt: bytes
    deposit: int

    @property
    def descriptor(self) -> ChannelDescriptor:
        """The channel's descriptor."""
        return ChannelDescriptor(self.payer, self.payee, self.signer, self.salt)


@dataclass(frozen=True)
class ToppedUp(ChannelEvent):
    """The deposit is now ``deposit``; a requested close is off."""

    deposit: int


@dataclass(frozen=True)
class Settled(ChannelEvent):
    """``paid`` went to the payee, ``cumulative`` in all."""

    payee: str
    cumulative: int
    paid: int


@dataclass(frozen=True)
class CloseRequested(ChannelEvent):
    """The payer may withdraw from ``close_at`` on (unix seconds)."""

    close_at: int


@dataclass(frozen=True)
class Closed(ChannelEvent):
    """The channel ended: ``settled`` went to the payee in all, ``refunded`` back to the payer."""

    settled: int
    refunded: int
