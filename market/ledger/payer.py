"""Channels that we pay from."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import case, literal, update
from sqlalchemy.orm import Session

from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger.channels import ChannelRows
from hypercluster.market.ledger.columns import Wei
from hypercluster.market.ledger.tables import OutgoingChannel
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain


class PayerLedger(ChannelRows[OutgoingChannel]):
    """The payer's side of the ledger. Methods may be called from several threads."""

    row = OutgoingChannel

    def add(self, domain: VoucherDomain, descriptor: ChannelDescriptor, deposit: int) -> OutgoingChannel:
        """Write a channel down, before it is opened on chain: its salt is what gets the deposit back."""
        row = OutgoingChannel(
            channel_id=domain.channel_id(descriptor),
            contract=domain.contract,
            chain_id=domain.chain_id,
            payer=descriptor.payer,
            payee=descriptor.payee,
            signer=descriptor.signer,
            salt=descriptor.salt,
            deposit=deposit,
        )
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            return session.merge(row)

    def store(self, channel_id: bytes, signed: int, spent: int) -> None:
        """Keep what was signed away (never lowered) and what was spent, in wei.

        Raises:
            LedgerError: the channel was never added.
        """
        self.store_many([(channel_id, signed, spent)])

    def store_many(self, channels: Sequence[tuple[bytes, int, int]]) -> None:
        """Keep the same of several channels (id, signed, spent): all or none, at the price of one commit.

        Raises:
            LedgerError: one of the channels was never added.
        """
        with self._engine.begin() as connection:
            for channel_id, signed, spent in channels:
                higher = literal(signed, Wei) > OutgoingChannel.signed
                change = (
                    update(OutgoingChannel)
                    .where(OutgoingChannel.channel_id == channel_id)
                    .values(
                        signed=case((higher, literal(signed, Wei)), else_=OutgoingChannel.signed), spent=spent
                    )
                )
                if not connection.execute(change).rowcount:
                    raise LedgerError(f"The ledger knows no channel {channel_id.hex()}: add it first.")

    def spend_gas(self, channel_id: bytes, wei: int) -> None:
        """Add to what a channel cost in gas, in wei of the chain's own coin; unknown ids are ignored."""
        with Session(self._engine) as session, session.begin():
            row = session.get(OutgoingChannel, channel_id, with_for_update=True)
            if row is not None:
                row.gas += wei
