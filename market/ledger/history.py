"""What happened: sessions served and used, adverts seen, prices set."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from hypercluster.market.advert import Advert
from hypercluster.market.ledger.tables import (
    DONE,
    AdvertSeen,
    AuditRecord,
    Duty,
    PriceStep,
    ReputationEvent,
    Role,
    SessionRecord,
)


class History:
    """Sessions, adverts and prices. Methods may be called from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def save_session(self, record: SessionRecord) -> None:
        """Write one stage of a session, or overwrite what was written of it."""
        with Session(self._engine) as session, session.begin():
            session.merge(record)

    def sessions(self, *, role: Role | None = None, limit: int = 100) -> list[SessionRecord]:
        """Return the latest sessions, newest first."""
        query = select(SessionRecord).order_by(SessionRecord.started.desc()).limit(limit)
        if role is not None:
            query = query.where(SessionRecord.role == role)
        with Session(self._autocommit) as session:
            return list(session.scalars(query))

    def save_advert(self, advert: Advert, signed: bytes) -> bool:
        """Keep an advert unless a newer one of the same peer and model is known; says whether it was kept."""
        with Session(self._engine) as session, session.begin():
            known = session.get(AdvertSeen, (advert.peer, advert.model_id))
            if known is not None and known.sequence >= advert.sequence:
                return False
            session.merge(
                AdvertSeen(
                    peer=advert.peer,
                    model_id=advert.model_id,
                    sequence=advert.sequence,
                    issued=advert.issued,
                    expires=advert.expires,
                    operator=advert.operator,
                    layer_start=advert.layer_start,
                    layer_stop=advert.layer_stop,
                    price_wei=advert.price_wei,
                    prompt_price_wei=advert.prompt_price_wei,
                    cost_ms=advert.cost_ms,
                    signed=signed,
                )
            )
            return True

    def adverts(self, model_id: str, *, at: int) -> list[AdvertSeen]:
        """Return the adverts of a model still valid ``at`` a unix second, by first layer and price."""
        query = (
            select(AdvertSeen)
            .where(AdvertSeen.model_id == model_id, AdvertSeen.expires > at)
            .order_by(AdvertSeen.layer_start, AdvertSeen.price_wei, AdvertSeen.peer)
        )
        with Session(self._autocommit) as session:
            return list(session.scalars(query))

    def save_price(self, step: PriceStep) -> None:
        """Write down one update of our price."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add(step)

    def prices(self, model_id: str | None = None, *, limit: int = 100) -> list[PriceStep]:
        """Return the latest updates of our price for a model, or for any, newest first."""
        query = select(PriceStep).order_by(PriceStep.taken.desc(), PriceStep.step_id.desc()).limit(limit)
        if model_id is not None:
            query = query.where(PriceStep.model_id == model_id)
        with Session(self._autocommit) as session:
            return list(session.scalars(query))

    def last_price(self, model_id: str, layer_start: int, layer_stop: int) -> PriceStep | None:
        """Return the latest update of our price for a range of a model, or None."""
        query = (
            select(PriceStep)
            .where(
                PriceStep.model_id == model_id,
                PriceStep.layer_start == layer_start,
                PriceStep.layer_stop == layer_stop,
            )
            .order_by(PriceStep.taken.desc(), PriceStep.step_id.desc())
            .limit(1)
        )
        with Session(self._autocommit) as session:
            return session.scalar(query)

    def prune(self, before: datetime) -> int:
        """Delete what is over since before a moment; returns how many rows.

        That is adverts expired, sessions ended, prices set, audits made, evidence seen (what it amounts to stays
        in the reputations), and duties resolved or missed whose committee was drawn before it.
        """
        old = (
            delete(AdvertSeen).where(AdvertSeen.expires < int(before.timestamp())),
            delete(SessionRecord).where(SessionRecord.ended < before),
            delete(PriceStep).where(PriceStep.taken < before),
            delete(AuditRecord).where(AuditRecord.at < before),
            delete(ReputationEvent).where(ReputationEvent.at < before),
            delete(Duty).where(Duty.phase.in_(DONE), Duty.drawn < before),
        )
        with self._engine.begin() as connection:
            return sum(connection.execute(statement).rowcount for statement in old)
