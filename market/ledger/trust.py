"""Whom we trust and why: evidence on operators, what others say of them, audits, and a verifier's seats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger.columns import total_wei
from hypercluster.market.ledger.tables import (
    DONE,
    NOTE,
    AuditRecord,
    Duty,
    EvidenceRow,
    ReputationEvent,
    RumourRow,
    SoldAudit,
)
from hypercluster.market.money.signing import NOBODY
from hypercluster.market.trust import hearsay
from hypercluster.market.trust.reputation import Evidence, Tally
from hypercluster.market.trust.standing import Standing

MOST_RUMOURS = 10_000
"""that are kept; the oldest go first"""


KEPT = timedelta(seconds=30)
"""for which what is believed of an operator is not added up again, if nothing came: little is forgotten so soon"""


@dataclass(frozen=True, slots=True)
class _AddedUp:
    """What was believed of an operator at a moment, and the rows and rumours that it was made of."""

    pieces: list[Any]
    at: datetime
    standing: Standing


class Trust:
    """Evidence, rumours, audits and duties. Methods may be called from several threads, and by several processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._added_up: dict[str, _AddedUp] = {}

    def record(self, peer: str, operator: str, kind: Evidence, now: datetime, note: str = "") -> None:
        """Add one piece of evidence, seen at ``now``.

        Args:
            peer: the node that it is about.
            operator: address that the chain confirmed for this node; "" for the one under which it was seen last,
                and where there is none, the peer stands for itself.
            kind: what was seen.
            now: with a time zone.
            note: for people, cut to 300 characters.
        """
        with Session(self._engine) as session, session.begin():
            whose = operator if operator not in ("", NOBODY) else _operator_of(session, peer)
            row = _locked(session, whose, peer, kind, now)
            after = Tally(row.pieces, row.updated).noted(kind, now)
            row.pieces, row.updated = after.count, after.updated
            event = ReputationEvent(peer=peer, operator=whose, kind=kind.value, note=note[:NOTE], at=now)
            session.add(event)

    def standing(self, operator: str, now: datetime) -> Standing:
        """Return what is believed of one operator at ``now``; a stranger has the prior's."""
        return self.standings(now).get(operator) or Standing.adding_up(operator, {}, now)

    def standings(self, now: datetime) -> dict[str, Standing]:
        """Return all operators that there is evidence on or something was heard of, by address, as of ``now``.

        A peer without a known operator stands for itself. Where nothing came since, it may be as of half a minute ago.
        """
        row, word = EvidenceRow, RumourRow
        # Columns and not objects: every request asks, and there may be thousands.
        evidence = select(row.operator, row.peer, row.kind, row.pieces, row.updated)
        with Session(self._autocommit) as session:
            rows = session.execute(evidence.order_by(row.operator, row.peer)).all()
            said = session.execute(select(word.operator, word.witness, word.share, word.heard)).all()
        known: dict[str, str] = {}
        for each in sorted(rows, key=lambda each: each.updated):
            if each.operator != each.peer:
                known[each.peer] = each.operator
        rumours = [hearsay.Rumour(*each) for each in said]
        heard = hearsay.weights(rumours, now)
        seen: dict[str, list[Any]] = {}
        for rumour in rumours:
            seen.setdefault(rumour.operator, []).append(rumour)
        for each in rows:
            # Evidence from before its operator was known is the operator's.
            whose = known.get(each.peer, each.peer) if each.operator == each.peer else each.operator
            seen.setdefault(whose, []).append(each)
        before, standings = self._added_up, {}
        for operator, pieces in seen.items():
            found = before.get(operator)
            if found is None or found.pieces != pieces or not timedelta(0) <= now - found.at <= KEPT:
                weight = heard.get(operator, 0.0)
                found = _AddedUp(pieces, now, _standing(operator, pieces, weight, now))
            standings[operator] = found
        self._added_up = standings
        return {operator: each.standing for operator, each in standings.items()}

    def hear(self, rumour: hearsay.Rumour, peer: str) -> bool:
        """Keep what a witness says against the operator of ``peer``, or what proves itself, which is evidence of a lie.

        The latest of each witness is kept, of `MOST_RUMOURS` in all. Returns whether it is the first of its kind.
        """
        with Session(self._engine) as session, session.begin():
            known = session.get(RumourRow, (rumour.operator, rumour.witness))
            session.merge(
                RumourRow(
                    operator=rumour.operator,
                    witness=rumour.witness,
                    peer=peer,
                    share=rumour.share,
                    heard=rumour.heard,
                )
            )
            surplus = select(RumourRow).order_by(RumourRow.heard.desc()).offset(MOST_RUMOURS)
            for row in session.scalars(surplus):
                session.delete(row)
        return known is None

    def rumours(self) -> list[RumourRow]:
        """Return what others said, newest first."""
        with Session(self._autocommit) as session:
            return list(session.scalars(select(RumourRow).order_by(RumourRow.heard.desc())))

    def forgive(self, operator: str) -> int:
        """Forget all evidence on an operator and what was heard of it; returns how many pieces that were."""
        with self._engine.begin() as connection:
            return sum(
                connection.execute(delete(table).where(table.operator == operator)).rowcount
                for table in (EvidenceRow, ReputationEvent, RumourRow)
            )

    def events(
        self, peer: str | None = None, *, operator: str | None = None, limit: int | None = 100
    ) -> list[ReputationEvent]:
        """Return the latest evidence on a peer, on an operator or on any, newest first; all of it without a limit."""
        event = ReputationEvent
        query = select(event).order_by(event.at.desc(), event.event_id.desc()).limit(limit)
        if operator is not None:
            query = query.where(event.operator == operator)
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

    def drop_duty(self, duty: Duty) -> None:
        """Forget a seat, if it is still that for the same receipt."""
        row = Duty
        of = row.contract == duty.contract, row.chain_id == duty.chain_id, row.case_id == duty.case_id
        with self._engine.begin() as connection:
            connection.execute(delete(row).where(*of, row.receipt_hash == duty.receipt_hash))

    def duties(self, contract: str, chain_id: int, *, open_only: bool = True) -> list[Duty]:
        """Return our seats in the cases of one contract, oldest case first; all, or those with work left."""
        query = (
            select(Duty).where(Duty.contract == contract, Duty.chain_id == chain_id).order_by(Duty.case_id)
        )
        if open_only:
            query = query.where(Duty.phase.not_in(DONE))
        with Session(self._autocommit) as session:
            return list(session.scalars(query))


def _operator_of(session: Session, peer: str) -> str:
    """The operator under which a peer was seen last, or the peer itself."""
    row = EvidenceRow
    query = select(row.operator).where(row.peer == peer, row.operator != peer).order_by(row.updated.desc())
    return session.scalars(query.limit(1)).first() or peer


def _locked(session: Session, operator: str, peer: str, kind: Evidence, now: datetime) -> EvidenceRow:
    """Return the row of this evidence, written first if it is new, which no other transaction can change meanwhile.

    SQLite's transactions take the one write lock when they begin; elsewhere the row itself is locked.
    """
    row = EvidenceRow
    query = (
        select(row)
        .where(row.operator == operator, row.peer == peer, row.kind == kind.value)
        .with_for_update()
    )
    known = session.scalar(query)
    if known is not None:
        return known
    fresh = EvidenceRow(operator=operator, peer=peer, kind=kind.value, updated=now)
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


def _standing(operator: str, pieces: Sequence[Any], heard: float, now: datetime) -> Standing:
    """What rows of evidence and rumours amount to."""
    counts: dict[str, dict[Evidence, float]] = {}
    moments = []
    for each in pieces:
        if isinstance(each, hearsay.Rumour):
            moments.append(each.heard)
            continue
        moments.append(each.updated)
        kind, node = Evidence(each.kind), counts.setdefault(each.peer, {})
        node[kind] = node.get(kind, 0.0) + Tally(each.pieces, each.updated).decayed(kind, now).count
    return Standing.adding_up(operator, counts, max(moments), heard)
