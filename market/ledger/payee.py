"""Channels that pay us, and the best voucher of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, bindparam, case, select, update
from sqlalchemy.orm import Session

from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger.channels import ChannelRows
from hypercluster.market.ledger.columns import Wei
from hypercluster.market.ledger.tables import IncomingChannel
from hypercluster.market.ledger.voucher_journal import StoredVoucher, VoucherJournal
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain

log = logging.getLogger(__name__)

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
    """The payee's side of the ledger. Methods may be called from several threads.

    Args:
        journal: takes vouchers up before the tables do, if there is one; reading sees both.
    """

    row = IncomingChannel

    def __init__(self, engine: Engine, journal: VoucherJournal | None = None) -> None:
        super().__init__(engine)
        self._journal = journal
        self._adopted: set[bytes] = set()
        """channels that are known to have a row"""

    @property
    def waiting(self) -> bool:
        """Whether there are vouchers that `feed` brings into the tables."""
        return self._journal is not None and self._journal.waiting

    def channel(self, channel_id: bytes) -> IncomingChannel | None:
        """Return one channel, or None."""
        held = self._held()
        row = super().channel(channel_id)
        return None if row is None else self._brought_up(row, held)

    def channels(
        self, domain: VoucherDomain | None = None, *, payee: str | None = None, ended: bool = True
    ) -> list[IncomingChannel]:
        """Return channels, oldest first: of one contract and to one payee, or all; without ended ones on demand."""
        held = self._held()
        return [self._brought_up(row, held) for row in super().channels(domain, payee=payee, ended=ended)]

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
        held = self._held()
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
        return self._brought_up(row, held)

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
        self.store_vouchers([(channel_id, cumulative, signature, billed)])

    def store_vouchers(self, vouchers: Sequence[StoredVoucher]) -> None:
        """Keep vouchers of several channels as `store_voucher` does each, at the price of one sync of the disk.

        Raises:
            LedgerError: one of the channels was never adopted; none of the vouchers is kept then.
        """
        if self._journal is not None:
            self._check_adopted(vouchers)
            if self._journal.keep(vouchers):
                return
        self._store_in_tables(vouchers)

    def note_billed(self, voucher: StoredVoucher) -> None:
        """Write down what was billed against a voucher that is stored, without waiting for the disk: it survives the
        end of the process. A ledger without a journal hears of it with the next voucher.
        """
        if self._journal is not None:
            self._journal.note([voucher])

    def feed(self) -> None:
        """Bring what the journal holds into the tables. Raises LedgerError: it stays in the journal."""
        if self._journal is not None and (vouchers := self._journal.to_feed()):
            self._store_in_tables(vouchers)
            self._journal.fed(vouchers)

    def close(self) -> None:
        """Bring everything into the tables, if that can be done, and let go of the journal."""
        if self._journal is None:
            return
        try:
            if self._journal.waiting:
                self.feed()
        except LedgerError as error:
            log.warning("vouchers stay in their journal until the next start: %s", error)
        finally:
            self._journal.close()

    def _store_in_tables(self, vouchers: Sequence[StoredVoucher]) -> None:
        with self._engine.begin() as connection:
            for each in vouchers:
                _store(connection, *each)

    def _held(self) -> dict[bytes, StoredVoucher]:
        return {} if self._journal is None else self._journal.held()

    def _brought_up(self, row: IncomingChannel, held: dict[bytes, StoredVoucher]) -> IncomingChannel:
        self._adopted.add(row.channel_id)
        _, best, signature, billed = held.get(row.channel_id, (b"", -1, b"", 0))
        if best >= row.best:
            row.best, row.signature, row.billed = best, signature, billed
        return row

    def _check_adopted(self, vouchers: Sequence[StoredVoucher]) -> None:
        new = {each[0] for each in vouchers} - self._adopted
        if not new:
            return
        column = IncomingChannel.__table__.c.channel_id
        with self._autocommit.connect() as connection:
            self._adopted |= set(connection.scalars(select(column).where(column.in_(new))))
        for channel_id in new - self._adopted:
            raise _unknown(channel_id)


def _store(connection: Connection, channel_id: bytes, cumulative: int, signature: bytes, billed: int) -> None:
    values = {"channel": channel_id, "cumulative": cumulative, "proof": signature, "total": billed}
    if not connection.execute(_STORE, values).rowcount:
        raise _unknown(channel_id)


def _unknown(channel_id: bytes) -> LedgerError:
    return LedgerError(f"The ledger knows no channel {channel_id.hex()}: adopt it first.")
