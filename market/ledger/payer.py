"""Channels that we pay from."""

from __future__ import annotations

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
        higher = literal(signed, Wei) > OutgoingChannel.signed
        change = (
            update(OutgoingChannel)
            .where(OutgoingChannel.channel_id == channel_id)
            .values(signed=case((higher, literal(signed, Wei)), else_=OutgoingChannel.signed), spent=spent)
        )
        with self._autocommit.connect() as connection:
            if not connection.execute(change).rowcount:
                raise LedgerError(f"The ledger knows no channel {channel_id.hex()}: add it first.")
