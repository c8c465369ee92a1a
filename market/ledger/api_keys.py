"""The keys of the front door."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, func, or_, select, update
from sqlalchemy.orm import Session

from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger.front_tables import APP, ApiKeyRow
from hypercluster.market.ledger.tables import now
from hypercluster.market.money.budget import Period
from hypercluster.market.money.units import check_wei

KEY_BEGINS = "sk-hc-"
SECRET_BYTES = 32
SHOWN = len(KEY_BEGINS) + 4
MOST_KEYS = 1000
MOST_MODELS = 100


def digest_of(text: str) -> bytes:
    """The 32 bytes by which a key's text is known."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class ApiKeys:
    """The keys of one gateway. Methods may be called from several threads, and by several processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def create(
        self,
        name: str,
        *,
        budget: int | None,
        period: Period = Period.MONTH,
        models: Sequence[str] = (),
        rpm: int | None = None,
        expires: datetime | None = None,
        text: str | None = None,
    ) -> tuple[ApiKeyRow, str]:
        """Make a key and return it with its text, which is kept nowhere.

        Args:
            name: for people; of the keys that count no other may have it.
            budget: wei for each ``period`` at most; None for no bound.
            models: names or ids that it may ask for; none for all.
            rpm: requests a minute at most; None for no bound.
            expires: from when on it does not count; None for never.
            text: of a key that was made before, for a ledger that begins anew; drawn where None.

        Raises:
            LedgerError: a value that cannot be, or as many keys as there may be.
        """
        _check(name, budget, models, rpm)
        text = text or KEY_BEGINS + secrets.token_urlsafe(SECRET_BYTES)
        row = ApiKeyRow(
            key_id=secrets.token_hex(4),
            name=name.strip(),
            prefix=text[:SHOWN],
            digest=digest_of(text),
            budget=budget,
            period=Period(period).value,
            models=list(models),
            rpm=rpm,
            expires=expires,
        )
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            counting = ApiKeyRow.revoked.is_(None)
            if (
                session.scalar(select(func.count()).select_from(ApiKeyRow).where(counting)) or 0
            ) >= MOST_KEYS:
                raise LedgerError(f"There are {MOST_KEYS} keys already: revoke one first.")
            if session.scalar(select(ApiKeyRow.key_id).where(counting, ApiKeyRow.name == row.name)):
                raise LedgerError(
                    f"There is a key named {row.name!r} already: take another name, or revoke it."
                )
            session.add(row)
        return row, text

    def by_text(self, text: str) -> ApiKeyRow | None:
        """Return the key of that text, revoked and expired ones too, or None."""
        return self.by_digest(digest_of(text))

    def by_digest(self, digest: bytes) -> ApiKeyRow | None:
        """Return the key whose text has that SHA-256, or None."""
        with Session(self._autocommit) as session:
            return session.scalar(select(ApiKeyRow).where(ApiKeyRow.digest == digest))

    def list(self, *, revoked: bool = True) -> list[ApiKeyRow]:
        """Return the keys, newest first; without revoked ones on demand. 1,000 at most."""
        query = select(ApiKeyRow).order_by(ApiKeyRow.created.desc(), ApiKeyRow.key_id)
        if not revoked:
            query = query.where(ApiKeyRow.revoked.is_(None))
        with Session(self._autocommit) as session:
            return [*session.scalars(query.limit(MOST_KEYS))]

    def named(self, which: str) -> ApiKeyRow:
        """Return the key that an id, or the name of one that is not revoked, stands for.

        Raises:
            LedgerError: there is none.
        """
        query = select(ApiKeyRow).where(
            or_(ApiKeyRow.key_id == which, (ApiKeyRow.name == which) & ApiKeyRow.revoked.is_(None))
        )
        with Session(self._autocommit) as session:
            found = session.scalars(query.order_by(ApiKeyRow.key_id != which)).first()
        if found is None:
            raise LedgerError(f"There is no key {which[:APP]!r}: see the list of keys.")
        return found

    def revoke(self, which: str, at: datetime | None = None) -> ApiKeyRow:
        """End a key, named by id or name, and return it; one that has ended stays as it is.

        Raises:
            LedgerError: there is none.
        """
        row = self.named(which)
        if row.revoked is None:
            row.revoked = at or now()
            change = update(ApiKeyRow).where(ApiKeyRow.key_id == row.key_id, ApiKeyRow.revoked.is_(None))
            with self._autocommit.connect() as connection:
                connection.execute(change.values(revoked=row.revoked))
        return row

    def touch(self, key_id: str, at: datetime | None = None) -> None:
        """Write down that a key was used; unknown ids are ignored."""
        with self._autocommit.connect() as connection:
            connection.execute(
                update(ApiKeyRow).where(ApiKeyRow.key_id == key_id).values(last_used=at or now())
            )


def _check(name: str, budget: int | None, models: Sequence[str], rpm: int | None) -> None:
    if not name.strip() or len(name.strip()) > APP or not name.isprintable():
        raise LedgerError(f"A key needs a name of 1 to {APP} characters that can be printed.")
    if budget is not None:
        check_wei(budget)
    if rpm is not None and not 1 <= rpm < 2**31:
        raise LedgerError("A key takes 1 request a minute at least; leave the rate out for no bound.")
    if len(models) > MOST_MODELS or any(not model or len(model) > APP for model in models):
        raise LedgerError(f"A key's models are {MOST_MODELS} names at most, each of 1 to {APP} characters.")
