"""What was asked of a client: one row for each request, with its hops and audits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, Unpack

from sqlalchemy import ColumnElement, Engine, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger.columns import total_wei
from hypercluster.market.ledger.front_tables import APP, Outcome, RequestRow, SpentBefore
from hypercluster.market.ledger.tables import NOTE, AuditRecord, Role, SessionRecord, now
from hypercluster.market.ledger.totals import By, Total, totals

MOST_ROWS = 1000
"""rows that one look at requests gives at most"""
MOST_DETAILS = 100
"""requests whose hops and audits one look gives at most"""


class Change(TypedDict, total=False):
    """Columns of a request that may change; see RequestRow."""

    model_id: str
    model_name: str
    path: list[dict[str, Any]]
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost: int
    risked: int
    audit_cost: int
    covered: int
    gas: int
    deposited: int
    first_token: datetime | None
    ended: datetime | None
    error: str
    seed: int | None
    doubtful: bool
    audits_open: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which requests: those that meet all that is not None. The texts are compared as they are."""

    key_id: str | None = None
    """"" for those without a key"""
    model_id: str | None = None
    app: str | None = None
    outcome: str | None = None
    doubtful: bool | None = None
    since: datetime | None = None
    """started at that moment or later"""
    until: datetime | None = None
    """started before that moment"""


@dataclass(frozen=True, slots=True)
class RequestDetail:
    """A request with its sessions, in the order of their layers as they were opened, and their audits, oldest first."""

    row: RequestRow
    hops: tuple[SessionRecord, ...]
    audits: tuple[AuditRecord, ...]


class Requests:
    """The requests of one client or gateway. Methods may be called from several threads, and by several processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def add(self, row: RequestRow) -> None:
        """Write a request down that begins; names that are too long are cut.

        Raises:
            LedgerError: there is one of that id.
        """
        row.app, row.model_name, row.error = row.app[:APP], row.model_name[:APP], row.error[:NOTE]
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add(row)

    def update(self, request_id: str, **values: Unpack[Change]) -> None:
        """Overwrite columns of a request. Raises LedgerError: there is none of that id."""
        self._write(request_id, dict(values))

    def finish(self, request_id: str, outcome: Outcome, **values: Unpack[Change]) -> None:
        """Write down how a request ended, at this moment if none is given.

        Raises:
            LedgerError: there is none of that id.
        """
        self._write(request_id, {"ended": now(), **values, "outcome": Outcome(outcome).value})

    def running(self) -> list[RequestRow]:
        """Return the requests that have not ended as far as is written down, oldest first: 1,000 at most."""
        query = select(RequestRow).where(RequestRow.ended.is_(None)).order_by(RequestRow.started)
        with Session(self._autocommit) as session:
            return list(session.scalars(query.limit(MOST_ROWS)))

    def unaudited(self) -> list[RequestRow]:
        """Return the requests that have ended and have audits open, oldest first: 1,000 at most."""
        row = RequestRow
        query = select(row).where(row.ended.is_not(None), row.audits_open > 0).order_by(row.started)
        with Session(self._autocommit) as session:
            return list(session.scalars(query.limit(MOST_ROWS)))

    def give_up_audits(self, before: datetime) -> int:
        """Wait no longer for the audits of requests that ended before a moment; returns of how many."""
        row = RequestRow
        old = update(row).where(row.ended < before, row.audits_open > 0).values(audits_open=0)
        with self._engine.begin() as connection:
            return connection.execute(old).rowcount

    def latest(
        self, which: Which = Which(), *, before: str | None = None, limit: int = 100
    ) -> list[RequestRow]:
        """Return requests, newest first.

        Args:
            which: which of them; without it any.
            before: id of a request, for those that began before it; an unknown one has none before it.
            limit: how many at most, up to 1,000.
        """
        row = RequestRow
        query = select(row).where(*_conditions(which)).order_by(row.started.desc(), row.request_id.desc())
        with Session(self._autocommit) as session:
            if before is not None:
                edge = session.get(row, before)
                if edge is None:
                    return []
                earlier = and_(row.started == edge.started, row.request_id < edge.request_id)
                query = query.where(or_(row.started < edge.started, earlier))
            return list(session.scalars(query.limit(max(0, min(limit, MOST_ROWS)))))

    def one(self, request_id: str) -> RequestDetail | None:
        """Return a request with its hops and audits, or None."""
        return self.stages([request_id]).get(request_id)

    def stages(self, request_ids: Sequence[str]) -> dict[str, RequestDetail]:
        """Return several requests as `one` does, 100 at most; unknown ids are left out."""
        ids = list(request_ids)[:MOST_DETAILS]
        with Session(self._autocommit) as session:
            rows = session.scalars(select(RequestRow).where(RequestRow.request_id.in_(ids))).all()
            hops = session.scalars(
                select(SessionRecord)
                .where(SessionRecord.request_id.in_(ids), SessionRecord.role == Role.CLIENT)
                .order_by(SessionRecord.started, SessionRecord.layer_start)
                .limit(MOST_ROWS * len(ids))
            ).all()
            audits = session.scalars(
                select(AuditRecord)
                .where(AuditRecord.session.in_([hop.stage_session for hop in hops]))
                .order_by(AuditRecord.at, AuditRecord.audit_id)
                .limit(MOST_ROWS * len(ids))
            ).all()
        found = {}
        for row in rows:
            own = tuple(hop for hop in hops if hop.request_id == row.request_id)
            # A stage may have been looked at for an earlier request already.
            since = {hop.stage_session: hop.started for hop in own}
            looks = (each for each in audits if each.session in since and each.at >= since[each.session])
            found[row.request_id] = RequestDetail(row, own, tuple(looks))
        return found

    def of_session(self, session_id: bytes) -> str | None:
        """Return the id of the request that a session of ours (16 bytes) was opened for, or None."""
        query = select(SessionRecord.request_id).where(
            SessionRecord.session_id == session_id, SessionRecord.role == Role.CLIENT
        )
        with Session(self._autocommit) as session:
            return session.scalar(query.limit(1))

    def totals(self, since: datetime, until: datetime, by: By, which: Which = Which()) -> list[Total]:
        """Return sums over requests that started in [since, until); see `hypercluster.market.ledger.totals`."""
        with Session(self._autocommit) as session:
            return totals(session, since, until, by, _conditions(which))

    def spent_in(self, key_id: str | None, since: datetime | None) -> int:
        """Return wei spent since a moment, or ever: by one key, or by the whole wallet where ``key_id`` is None.

        A request counts where it ended, and while it has not: so a limit over a period is never passed. Of the wallet
        it is what was signed: what a request risked and a later one was paid with counts once, where it was risked.
        """
        row = RequestRow
        query = select(*map(total_wei, (row.cost, row.risked, row.audit_cost, row.covered)))
        older = select(total_wei(SpentBefore.wei), total_wei(SpentBefore.covered))
        if key_id is not None:
            query, older = query.where(row.key_id == key_id), older.where(SpentBefore.key_id == key_id)
        if since is not None:
            query = query.where(or_(row.ended.is_(None), row.ended >= since))
        with self._engine.begin() as connection:
            *counted, covered = connection.execute(query).one()
            before, covered_before = connection.execute(older).one() if since is None else (0, 0)
        spent: int = sum(counted) + before
        return spent - (covered + covered_before if key_id is None else 0)

    def prune(self, before: datetime) -> int:
        """Delete the requests that ended before a moment, and keep what each key spent on them; returns how many."""
        with Session(self._engine) as session, session.begin():
            return self.drop(session, RequestRow.ended < before)

    def drop(self, session: Session, *old: ColumnElement[bool]) -> int:
        """Delete requests and keep what each key spent on them, within a transaction; returns how many."""
        row = RequestRow
        sums = map(total_wei, (row.cost, row.risked, row.audit_cost, row.covered))
        key = func.coalesce(RequestRow.key_id, "")
        for key_id, *spent, covered in session.execute(select(key, *sums).where(*old).group_by(key)).all():
            kept = session.get(SpentBefore, key_id, with_for_update=True)
            if kept is None:
                session.add(SpentBefore(key_id=key_id, wei=sum(spent), covered=covered))
            else:
                kept.wei += sum(spent)
                kept.covered += covered
        return session.execute(delete(RequestRow).where(*old)).rowcount  # type: ignore[attr-defined,no-any-return]

    def _write(self, request_id: str, values: dict[str, Any]) -> None:
        if "error" in values:
            values["error"] = values["error"][:NOTE]
        if "model_name" in values:
            values["model_name"] = values["model_name"][:APP]
        change = update(RequestRow).where(RequestRow.request_id == request_id).values(values)
        with self._autocommit.connect() as connection:
            if not connection.execute(change).rowcount:
                raise LedgerError(f"The ledger knows no request {request_id}: add it first.")


def _conditions(which: Which) -> list[ColumnElement[bool]]:
    row = RequestRow
    wanted = {
        row.key_id: which.key_id or None,
        row.model_id: which.model_id,
        row.app: which.app,
        row.outcome: which.outcome,
        row.doubtful: which.doubtful,
    }
    found = [column == value for column, value in wanted.items() if value is not None]
    if which.key_id == "":
        found.append(row.key_id.is_(None))
    if which.since is not None:
        found.append(row.started >= which.since)
    if which.until is not None:
        found.append(row.started < which.until)
    return found
