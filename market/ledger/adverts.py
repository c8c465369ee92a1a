"""What was offered when: the history of the market as one client saw it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from hypercluster.market.advert import Advert, Role
from hypercluster.market.ledger.front_tables import AdvertRow

AGAIN = timedelta(hours=1)
"""after so long an offer that stays the same is written down again"""
MOST_ADVERTS = 10_000
"""rows that one look gives at most"""


class AdvertsSeen:
    """Adverts over time. Methods may be called from several threads, and by several processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def seen(
        self, model_id: str, adverts: Collection[Advert], at: datetime, *, role: Role = "provider"
    ) -> int:
        """Write down what all peers offer of a model at a moment; returns how many rows that took.

        A row is written where the layers, prices, operator or room of a peer changed, where it came or went, and once
        an hour; its speed and free sessions are those of that moment.
        """
        offered = {each.peer: each for each in adverts if each.model_id == model_id and each.role == role}
        with Session(self._engine) as session, session.begin():
            last = {row.peer: row for row in self._last(session, model_id, role)}
            rows = [
                _row(advert, at)
                for peer, advert in offered.items()
                if (known := last.get(peer)) is None
                or known.gone
                or at - known.seen >= AGAIN
                or _what(advert) != _what(known)
            ]
            rows += [_gone(row, at) for peer, row in last.items() if peer not in offered and not row.gone]
            session.add_all(rows)
            return len(rows)

    def history(
        self, model_id: str, since: datetime, *, role: Role = "provider", limit: int = MOST_ADVERTS
    ) -> list[AdvertRow]:
        """Return what was offered of a model since a moment, oldest first; the latest ones if there are too many."""
        query = (
            select(AdvertRow)
            .where(AdvertRow.model_id == model_id, AdvertRow.role == role, AdvertRow.seen >= since)
            .order_by(AdvertRow.seen.desc(), AdvertRow.advert_id.desc())
            .limit(max(0, min(limit, MOST_ADVERTS)))
        )
        with Session(self._autocommit) as session:
            return list(session.scalars(query))[::-1]

    def _last(self, session: Session, model_id: str, role: Role) -> list[AdvertRow]:
        newest = (
            select(func.max(AdvertRow.advert_id))
            .where(AdvertRow.model_id == model_id, AdvertRow.role == role)
            .group_by(AdvertRow.peer)
        )
        return list(session.scalars(select(AdvertRow).where(AdvertRow.advert_id.in_(newest))))


def _what(offer: Advert | AdvertRow) -> tuple[object, ...]:
    return (
        offer.layer_start,
        offer.layer_stop,
        offer.price_wei,
        offer.prompt_price_wei,
        offer.operator,
        offer.capacity,
        offer.session_tokens,
    )


def _row(advert: Advert, at: datetime) -> AdvertRow:
    return AdvertRow(
        peer=advert.peer,
        model_id=advert.model_id,
        role=advert.role,
        operator=advert.operator,
        layer_start=advert.layer_start,
        layer_stop=advert.layer_stop,
        price_wei=advert.price_wei,
        prompt_price_wei=advert.prompt_price_wei,
        cost_ms=advert.cost_ms,
        prompt_ms=advert.prompt_ms,
        capacity=advert.capacity,
        free=advert.free,
        session_tokens=advert.session_tokens,
        seen=at,
    )


def _gone(last: AdvertRow, at: datetime) -> AdvertRow:
    values = {
        column.key: getattr(last, column.key)
        for column in AdvertRow.__table__.columns
        if column.key not in ("advert_id", "gone", "seen", "free")
    }
    return AdvertRow(**values, free=0, gone=True, seen=at)
