"""Whom we trust and why: reputations and their evidence, audits, and a verifier's seats in committees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger.columns import total_wei
from hypercluster.market.ledger.tables import (
    DONE,
    NOTE,
    AuditRecord,
    Duty,
    ReputationEvent,
    ReputationRow,
    SoldAudit,
)
from hypercluster.market.trust.reputation import Evidence, Reputation


@dataclass(frozen=True, slots=True)
class Standing:
    """A peer's reputation at the moment it was asked for, its operator, and when evidence last came in."""

    peer: str
    operator: str
    reputation: Reputation
    last: datetime


class Trust:
    """Reputations, audits and duties. Methods may be called from several threads, and by several processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def record(self, peer: str, operator: str, kind: Evidence, now: datetime, note: str = "") -> Reputation:
        """Add one piece of evidence, seen at ``now``, and return the reputation that results.

        Args:
            peer: whom it is about.
            operator: address that this peer's adverts named; the latest one is kept. "" leaves it as it was.
            kind: what was seen.
            now: with a time zone.
            note: for people, cut to 300 characters.
        """
        good, bad = kind.weight
        with Session(self._engine) as session, session.begin():
            row = _locked(session, peer, operator, now)
            after = _reputation(row).noted(kind, now)
            row.operator = operator or row.operator
            row.good, row.bad, row.updated = after.good, after.bad, after.updated
            session.add(
                ReputationEvent(
                    peer=peer,
                    operator=operator,
                    kind=kind.value,
                    good=good,
                    bad=bad,
                    note=note[:NOTE],
                    at=now,
                )
            )
        return after

    def reputation(self, peer: str, now: datetime) -> Reputation:
        """Return a peer's reputation as it counts at ``now``; a stranger has the prior's."""
        with Session(self._autocommit) as session:
            row = session.get(ReputationRow, peer)
        return (Reputation(updated=now) if row is None else _reputation(row)).decayed(now)

    def reputations(self, now: datetime) -> dict[str, Standing]:
        """Return all peers that there was evidence on, by peer, as it counts at ``now``."""
        with Session(self._autocommit) as session:
            rows = session.scalars(select(ReputationRow).order_by(ReputationRow.peer)).all()
        return {
            row.peer: Standing(row.peer, row.operator, _reputation(row).decayed(now), row.updated)
            for row in rows
        }

    def events(self, peer: str | None = None, *, limit: int | None = 100) -> list[ReputationEvent]:
        """Return the latest evidence on a peer, or on any, newest first; all of it without a limit."""
        event = ReputationEvent
        query = select(event).order_by(event.at.desc(), event.event_id.desc()).limit(limit)
        if peer is not None:
            query = query.where(event.peer == peer)
        with Session(self._autocommit) as session:
            return list(session.scalars(query))

    def save_audit(self, audit: AuditRecord) -> int:
        """Write one audit down, its note cut to 300 characters, and return its id."""
        audit.note = audit.note[:NOTE]
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add(audit)
        return audit.audit_id

    def audits(self, *, limit: int = 100, peer: str | None = None) -> list[AuditRecord]:
        """Return the latest audits of a peer's stages, or of all, newest first."""
        query = select(AuditRecord).order_by(AuditRecord.at.desc(), AuditRecord.audit_id.desc()).limit(limit)
        if peer is not None:
            query = query.where(AuditRecord.peer == peer)
        with Session(self._autocommit) as session:
            return list(session.scalars(query))

    def save_sale(self, sale: SoldAudit) -> None:
        """Write down one audit that we were paid for."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add(sale)

    def sales(self, *, limit: int = 100, before: int | None = None) -> list[SoldAudit]:
        """Return the latest audits that we were paid for, or those before one of that number, newest first."""
        query = select(SoldAudit).order_by(SoldAudit.sale_id.desc()).limit(limit)
        if before is not None:
            query = query.where(SoldAudit.sale_id < before)
        with Session(self._autocommit) as session:
            return list(session.scalars(query))

    def sold(self) -> tuple[int, int]:
        """Return how many audits we were paid for, and with how many wei; as far as they are not pruned."""
        with Session(self._autocommit) as session:
            count, paid = session.execute(select(func.count(), total_wei(SoldAudit.paid))).one()
        return count, paid

    def save_duty(self, duty: Duty) -> None:
        """Write a seat down, or overwrite what was written of it; durable when this returns.

        A commitment can be revealed only with its salt, so this comes before the commitment is sent.
        """
        with Session(self._engine) as session, session.begin():
            session.merge(duty)

    def duties(self, contract: str, chain_id: int, *, open_only: bool = True) -> list[Duty]:
        """Return our seats in the cases of one contract, oldest case first; all, or those with work left."""
        query = (
            select(Duty).where(Duty.contract == contract, Duty.chain_id == chain_id).order_by(Duty.case_id)
        )
        if open_only:
            query = query.where(Duty.phase.not_in(DONE))
        with Session(self._autocommit) as session:
            return list(session.scalars(query))


def _reputation(row: ReputationRow) -> Reputation:
    return Reputation(row.good, row.bad, row.updated)


def _locked(session: Session, peer: str, operator: str, now: datetime) -> ReputationRow:
    """Return the peer's row, written first if it is new, which no other transaction can change meanwhile.

    SQLite's transactions take the one write lock when they begin; elsewhere the row itself is locked.
    """
    query = select(ReputationRow).where(ReputationRow.peer == peer).with_for_update()
    known = session.scalar(query)
    if known is not None:
        return known
    fresh = ReputationRow(peer=peer, operator=operator, updated=now)
    try:
        with session.begin_nested():
            session.add(fresh)
    except LedgerError:
        # Another process wrote it a moment ago; the insert has waited for its commit.
        known = session.scalar(query)
        if known is None:
            raise
        return known
    return fresh
