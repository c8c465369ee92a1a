"""Channels that pay us, and the best voucher of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import Connection, bindparam, case, update
from sqlalchemy.orm import Session

from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger.channels import ChannelRows
from hypercluster.market.ledger.columns import Wei
from hypercluster.market.ledger.tables import IncomingChannel
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain

StoredVoucher: TypeAlias = tuple[bytes, int, bytes, int]
"""The arguments of `PayeeLedger.store_voucher`: channel id, cumulative wei, signature, billed wei."""

_BETTER = bindparam("cumulative", type_=Wei) >= IncomingChannel.best
_STORE = (
    update(IncomingChannel.__table__)  # type: ignore[arg-type]
    .where(IncomingChannel.channel_id == bindparam("channel"))
    .values(
        best=case((_BETTER, bindparam("cumulative", type_=Wei)), else_=IncomingChannel.best),
        signature=case((_BETTER, bindparam("proof")), else_=IncomingChannel.signature),
        billed=case((_BETTER, bindparam("total", type_=Wei)), else_=IncomingChannel.billed),
    )
)


class PayeeLedger(ChannelRows[IncomingChannel]):
    """The payee's side of the ledger. Methods may be called from several threads."""

    row = IncomingChannel

    def adopt(
        self,
        domain: VoucherDomain,
        descriptor: ChannelDescriptor,
        *,
        deposit: int,
        settled: int = 0,
        close_at: int = 0,
    ) -> IncomingChannel:
        """Return the row of a channel, written first if it is new, with the chain's view brought up to date.

        Of a channel never seen before, what the chain has settled counts as billed.
        """
        channel_id = domain.channel_id(descriptor)
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            row = session.get(IncomingChannel, channel_id)
            if row is None:
                row = IncomingChannel(
                    channel_id=channel_id,
                    contract=domain.contract,
                    chain_id=domain.chain_id,
                    payer=descriptor.payer,
                    payee=descriptor.payee,
                    signer=descriptor.signer,
                    salt=descriptor.salt,
                    deposit=deposit,
                    best=settled,
                    billed=settled,
                )
                session.add(row)
            row.deposit, row.settled, row.close_at = deposit, settled, close_at
        return row

    def store_voucher(self, channel_id: bytes, cumulative: int, signature: bytes, billed: int) -> None:
        """Keep a voucher if it is at least as good as the one kept; durable when this returns.

        Args:
            channel_id: 32 bytes of an adopted channel.
            cumulative: the voucher's amount in wei.
            signature: its 64 bytes.
            billed: what the channel was billed in all, in wei, the step of this voucher included.

        Raises:
            LedgerError: the channel was never adopted.
        """
        with self._autocommit.connect() as connection:
            _store(connection, channel_id, cumulative, signature, billed)

    def store_vouchers(self, vouchers: Sequence[StoredVoucher]) -> None:
        """Keep vouchers of several channels as `store_voucher` does each, at the price of one commit.

        Raises:
            LedgerError: one of the channels was never adopted; none of the vouchers is kept then.
        """
        if len(vouchers) == 1:
            self.store_voucher(*vouchers[0])
            return
        with self._engine.begin() as connection:
            for channel_id, cumulative, signature, billed in vouchers:
                _store(connection, channel_id, cumulative, signature, billed)


def _store(connection: Connection, channel_id: bytes, cumulative: int, signature: bytes, billed: int) -> None:
    values = {"channel": channel_id, "cumulative": cumulative, "proof": signature, "total": billed}
    if not connection.execute(_STORE, values).rowcount:
        raise LedgerError(f"The ledger knows no channel {channel_id.hex()}: adopt it first.")
