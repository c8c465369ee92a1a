"""What both sides of the ledger do with channels: list them, and take over what the chain says."""

from __future__ import annotations

from typing import Generic, TypeVar

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from hypercluster.market.ledger.tables import IncomingChannel, OutgoingChannel
from hypercluster.market.money.voucher import VoucherDomain

Row = TypeVar("Row", IncomingChannel, OutgoingChannel)


class ChannelRows(Generic[Row]):
    """The rows of one table of channels. Methods may be called from several threads."""

    row: type[Row]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def note(
        self,
        channel_id: bytes,
        *,
        deposit: int | None = None,
        settled: int | None = None,
        close_at: int | None = None,
        ended: bool | None = None,
    ) -> None:
        """Take over what the chain says of a channel; ``None`` leaves a column, unknown ids are ignored."""
        known = {"deposit": deposit, "settled": settled, "close_at": close_at, "ended": ended}
        values = {name: value for name, value in known.items() if value is not None}
        with self._engine.begin() as connection:
            connection.execute(update(self.row).where(self.row.channel_id == channel_id).values(values))

    def channel(self, channel_id: bytes) -> Row | None:
        """Return one channel, or None."""
        with Session(self._autocommit) as session:
            return session.get(self.row, channel_id)

    def channels(
        self, domain: VoucherDomain | None = None, *, payee: str | None = None, ended: bool = True
    ) -> list[Row]:
        """Return channels, oldest first: of one contract and to one payee, or all; without ended ones on demand."""
        row = self.row
        query = select(row).order_by(row.opened, row.channel_id)
        if domain is not None:
            query = query.where(row.contract == domain.contract, row.chain_id == domain.chain_id)
        if payee is not None:
            query = query.where(row.payee == payee)
        if not ended:
            query = query.where(~row.ended)
        with Session(self._autocommit) as session:
            return list(session.scalars(query))
