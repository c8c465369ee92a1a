"""What happened: sessions served and used, prices set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, func, literal_column, select
from sqlalchemy.orm import Session

from hypercluster.market.ledger.columns import calendar_text, total_wei
from hypercluster.market.ledger.front_tables import AdvertRow, ApiKeyRow
from hypercluster.market.ledger.tables import (
    DONE,
    AuditRecord,
    Duty,
    EvidenceRow,
    PriceRow,
    ReputationEvent,
    Role,
    RumourRow,
    SessionRecord,
    SoldAudit,
)
from hypercluster.market.trust.reputation import Evidence

FORGOTTEN = timedelta(days=70)
"""after which a thousandth is left of evidence that halves in a week"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """What we served in sessions that ended on one day in UTC, such as "2026-01-31"; ``billed`` in wei."""

    day: str
    sessions: int
    tokens: int
    prompt_tokens: int
    billed: int


class History:
    """Sessions and prices. Methods may be called from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def save_session(self, record: SessionRecord) -> None:
        """Write one stage of a session, or overwrite what was written of it."""
        self.save_sessions([record])

    def save_sessions(self, records: Sequence[SessionRecord]) -> None:
        """Write stages of sessions, or overwrite what was written of them: all or none."""
        with Session(self._engine) as session, session.begin():
            for record in records:
                session.merge(record)

    def sessions(
        self, *, role: Role | None = None, limit: int = 100, before: datetime | None = None
    ) -> list[SessionRecord]:
        """Return the latest sessions, or the latest that began before a moment, newest first."""
        query = select(SessionRecord).order_by(SessionRecord.started.desc()).limit(limit)
        if role is not None:
            query = query.where(SessionRecord.role == role)
        if before is not None:
            query = query.where(SessionRecord.started < before)
        with Session(self._autocommit) as session:
            return list(session.scalars(query))

    def earned_by_day(self, since: datetime) -> list[Earned]:
        """Add up what we served by the day (UTC) on which it ended, oldest first; days without any are left out."""
        row = SessionRecord
        day = calendar_text(row.ended, literal_column(str(len("2026-01-31"))))
        tokens, prompt = (func.coalesce(func.sum(each), 0) for each in (row.tokens, row.prompt_tokens))
        query = (
            select(day, func.count(), tokens, prompt, total_wei(row.billed))
            .where(row.role == Role.PROVIDER, row.ended >= since)
            .group_by(day)
            .order_by(day)
        )
        with Session(self._autocommit) as session:
            return [
                Earned(day=date, sessions=count, tokens=int(out), prompt_tokens=int(read), billed=billed)
                for date, count, out, read, billed in session.execute(query)
            ]

    def served_since(self, since: datetime) -> tuple[int, int]:
        """Return how many prompt tokens and how many generated ones we served in sessions that ended since."""
        row = SessionRecord
        prompt_sum, sum_ = (func.coalesce(func.sum(each), 0) for each in (row.prompt_tokens, row.tokens))
        query = select(prompt_sum, sum_).where(row.role == Role.PROVIDER, row.ended >= since)
        with Session(self._autocommit) as session:
            prompt, generated = session.execute(query).one()
        return int(prompt), int(generated)

    def price(self, step_id: int) -> PriceRow | None:
        """Return one update of our price by its number, or None."""
        with Session(self._autocommit) as session:
            return session.get(PriceRow, step_id)

    def save_price(self, step: PriceRow) -> None:
        """Write down one update of our price."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add(step)

    def prices(self, model_id: str | None = None, *, limit: int = 100) -> list[PriceRow]:
        """Return the latest updates of our price for a model, or for any, newest first."""
        query = select(PriceRow).order_by(PriceRow.taken.desc(), PriceRow.step_id.desc()).limit(limit)
        if model_id is not None:
            query = query.where(PriceRow.model_id == model_id)
        with Session(self._autocommit) as session:
            return list(session.scalars(query))

    def last_price(self, model_id: str, layer_start: int, layer_stop: int) -> PriceRow | None:
        """Return the latest update of our price for a range of a model, or None."""
        query = (
            select(PriceRow)
            .where(
                PriceRow.model_id == model_id,
                PriceRow.layer_start == layer_start,
                PriceRow.layer_stop == layer_stop,
            )
            .order_by(PriceRow.taken.desc(), PriceRow.step_id.desc())
            .limit(1)
        )
        with Session(self._autocommit) as session:
            return session.scalar(query)

    def prune(self, before: datetime) -> int:
        """Delete what is over since before a moment; returns how many rows.

        That is sessions ended, prices set, adverts and evidence seen, what others said, audits made, keys revoked, and
        duties resolved or missed whose committee was drawn before it. What evidence amounts to stays until it weighs
        nothing any more, and lies for ever.
        """
        old = (
            delete(SessionRecord).where(SessionRecord.ended < before),
            delete(AdvertRow).where(AdvertRow.seen < before),
            delete(ApiKeyRow).where(ApiKeyRow.revoked < before),
            delete(PriceRow).where(PriceRow.taken < before),
            delete(AuditRecord).where(AuditRecord.at < before),
            delete(SoldAudit).where(SoldAudit.at < before),
            delete(ReputationEvent).where(ReputationEvent.at < before),
            delete(EvidenceRow).where(
                EvidenceRow.updated < before - FORGOTTEN, EvidenceRow.kind != Evidence.LIE
            ),
            delete(RumourRow).where(RumourRow.heard < before - FORGOTTEN),
            delete(Duty).where(Duty.phase.in_(DONE), Duty.drawn < before),
        )
        with self._engine.begin() as connection:
            return sum(connection.execute(statement).rowcount for statement in old)
