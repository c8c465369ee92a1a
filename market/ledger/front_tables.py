"""The tables of the front door: what was asked of a client, the keys that may ask, and the adverts it saw."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from hypercluster.market.ledger.columns import Address, Hash, ModelId, Moment, Wei
from hypercluster.market.ledger.tables import NOTE, Base, now

APP = 80
"""characters of an app's name, and of a model's, at most"""


class Outcome(StrEnum):
    """How a request ended; the first is that of one which has not."""

    RUNNING = "running"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    COST = "cost"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class RequestRow(Base, kw_only=True):
    """One request: who asked, for what, over which path, what it cost and how it ended.

    ``path`` lists the hops as their bills say, sessions and channels in hex. ``cost`` was paid to providers for
    answers, ``risked`` is what they may claim on top for steps without one, ``audit_cost`` went to auditors, ``gas``
    to the chain (in wei of its own coin), ``deposited`` into channels. ``covered`` is how much of all that vouchers
    pay which earlier requests had risked: the wallet signed nothing more for it. ``doubtful`` is whether an audit
    found a hop at fault; ``audits_open`` counts those still to come.
    """

    __tablename__ = "requests"
    __table_args__ = (
        Index("ix_requests_started", "started"),
        Index("ix_requests_key_ended", "key_id", "ended"),
        Index("ix_requests_key_started", "key_id", "started"),
        Index("ix_requests_ended", "ended"),
    )

    request_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    key_id: Mapped[str | None] = mapped_column(String(16), default=None)
    app: Mapped[str] = mapped_column(String(APP), default="")
    endpoint: Mapped[str] = mapped_column(String(16))
    model_id: Mapped[str] = mapped_column(ModelId)
    model_name: Mapped[str] = mapped_column(String(APP), default="")
    path: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default_factory=list)
    tokens_in: Mapped[int] = mapped_column(BigInteger, default=0)
    tokens_cached: Mapped[int] = mapped_column(BigInteger, default=0)
    tokens_out: Mapped[int] = mapped_column(BigInteger, default=0)
    cost: Mapped[int] = mapped_column(Wei, default=0)
    risked: Mapped[int] = mapped_column(Wei, default=0)
    audit_cost: Mapped[int] = mapped_column(Wei, default=0)
    covered: Mapped[int] = mapped_column(Wei, default=0)
    gas: Mapped[int] = mapped_column(Wei, default=0)
    deposited: Mapped[int] = mapped_column(Wei, default=0)
    started: Mapped[datetime] = mapped_column(Moment, default_factory=now)
    first_token: Mapped[datetime | None] = mapped_column(Moment, default=None)
    ended: Mapped[datetime | None] = mapped_column(Moment, default=None)
    outcome: Mapped[str] = mapped_column(String(16), default=Outcome.RUNNING)
    error: Mapped[str] = mapped_column(String(NOTE), default="")
    seed: Mapped[int | None] = mapped_column(BigInteger, default=None)
    doubtful: Mapped[bool] = mapped_column(default=False)
    audits_open: Mapped[int] = mapped_column(Integer, default=0)

    @property
    def spent(self) -> int:
        """What counts against budgets of keys, in wei: paid, risked, and for audits."""
        return self.cost + self.risked + self.audit_cost


class SpentBefore(Base, kw_only=True):
    """What the requests of a key cost that are no longer kept, in wei, and what of it was ``covered``, see RequestRow;
    "" stands for requests without a key.
    """

    __tablename__ = "spent_before"

    key_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    wei: Mapped[int] = mapped_column(Wei)
    covered: Mapped[int] = mapped_column(Wei, default=0)


class ApiKeyRow(Base, kw_only=True):
    """One key of the front door. Of its text only the SHA-256 is kept, and the beginning to know it again by.

    ``budget`` is in wei for each ``period`` (day, week, month or total; calendar in UTC), None for no bound;
    ``models`` are the names or ids that it may ask for, none for all; ``rpm`` requests a minute at most.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_digest", "digest", unique=True),)

    key_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(APP))
    prefix: Mapped[str] = mapped_column(String(16))
    digest: Mapped[bytes] = mapped_column(Hash)
    budget: Mapped[int | None] = mapped_column(Wei, default=None)
    period: Mapped[str] = mapped_column(String(8), default="month")
    models: Mapped[list[str]] = mapped_column(JSON, default_factory=list)
    rpm: Mapped[int | None] = mapped_column(Integer, default=None)
    expires: Mapped[datetime | None] = mapped_column(Moment, default=None)
    created: Mapped[datetime] = mapped_column(Moment, default_factory=now)
    revoked: Mapped[datetime | None] = mapped_column(Moment, default=None)
    last_used: Mapped[datetime | None] = mapped_column(Moment, default=None)

    def refusal(self, at: datetime) -> str:
        """Why the key does not count at a moment, in a sentence; empty if it does."""
        if self.revoked is not None and self.revoked <= at:
            return f"The key {self.name!r} was revoked."
        if self.expires is not None and self.expires <= at:
            return f"The key {self.name!r} has expired."
        return ""


class AdvertRow(Base, kw_only=True):
    """What a peer offered of a model from ``seen`` on, until the next row of the same peer and model.

    ``role`` is provider or verifier; times are ms per token, and ``gone`` is whether the offer ended then.
    """

    __tablename__ = "adverts_seen"
    __table_args__ = (
        Index("ix_adverts_seen_model_seen", "model_id", "seen"),
        Index("ix_adverts_seen_seen", "seen"),
    )

    advert_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, init=False
    )
    peer: Mapped[str] = mapped_column(String(128))
    model_id: Mapped[str] = mapped_column(ModelId)
    role: Mapped[str] = mapped_column(String(16))
    operator: Mapped[str] = mapped_column(Address)
    layer_start: Mapped[int] = mapped_column(Integer)
    layer_stop: Mapped[int] = mapped_column(Integer)
    price_wei: Mapped[int] = mapped_column(Wei)
    prompt_price_wei: Mapped[int] = mapped_column(Wei)
    cost_ms: Mapped[float]
    prompt_ms: Mapped[float]
    capacity: Mapped[int] = mapped_column(Integer)
    free: Mapped[int] = mapped_column(Integer)
    session_tokens: Mapped[int] = mapped_column(BigInteger)
    gone: Mapped[bool] = mapped_column(default=False)
    seen: Mapped[datetime] = mapped_column(Moment, default_factory=now)
