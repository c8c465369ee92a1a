"""The tables of the ledger. Rows are dataclasses; those the ledger returns are detached copies.

Amounts are wei, layers half-open ranges, ``close_at``, ``issued`` and ``expires`` unix seconds (UTC).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from hypercluster.market.ledger.columns import DIGITS, Address, Hash, ModelId, Moment, PeerId, Wei
from hypercluster.market.money.channel import PayeeChannel, PayerChannel
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain

NOTE = 300
"""characters of a note at most"""

NOTHING = "0".zfill(DIGITS)
"""no wei, as a column's default: a number, and of the width that amounts have as text"""


class DutyPhase(StrEnum):
    """How far a seat in a committee is served."""

    DRAWN = "drawn"
    JUDGED = "judged"
    COMMITTED = "committed"
    REVEALED = "revealed"
    RESOLVED = "resolved"
    MISSED = "missed"


DONE = (DutyPhase.RESOLVED, DutyPhase.MISSED)
"""phases of a duty in which nothing is left to do"""


def now() -> datetime:
    """Return the current moment in UTC."""
    return datetime.now(UTC)


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """Root of the ledger's tables."""


class _Channel(MappedAsDataclass, kw_only=True):
    """What both ends keep of a channel: its descriptor, where it lives, and the chain's view of it."""

    channel_id: Mapped[bytes] = mapped_column(Hash, primary_key=True)
    contract: Mapped[str] = mapped_column(Address)
    chain_id: Mapped[int] = mapped_column(BigInteger)
    payer: Mapped[str] = mapped_column(Address)
    payee: Mapped[str] = mapped_column(Address)
    signer: Mapped[str] = mapped_column(Address)
    salt: Mapped[bytes] = mapped_column(Hash)
    deposit: Mapped[int] = mapped_column(Wei)
    settled: Mapped[int] = mapped_column(Wei, default=0)
    close_at: Mapped[int] = mapped_column(BigInteger, default=0)
    ended: Mapped[bool] = mapped_column(default=False)
    opened: Mapped[datetime] = mapped_column(Moment, default_factory=now)

    @property
    def descriptor(self) -> ChannelDescriptor:
        """The channel's descriptor, as the contract takes it."""
        return ChannelDescriptor(self.payer, self.payee, self.signer, self.salt)

    @property
    def domain(self) -> VoucherDomain:
        """The contract and chain that this channel lives on."""
        return VoucherDomain(self.contract, self.chain_id)


class IncomingChannel(_Channel, Base, kw_only=True):
    """A channel that pays us, with the best voucher seen and what was billed against it."""

    __tablename__ = "channels_in"

    best: Mapped[int] = mapped_column(Wei, default=0)
    signature: Mapped[bytes] = mapped_column(LargeBinary(64), default=b"")
    billed: Mapped[int] = mapped_column(Wei, default=0)

    @property
    def unclaimed(self) -> int:
        """What the best voucher is worth beyond what the chain has paid, in wei."""
        return 0 if self.ended or not self.signature else max(0, self.best - self.settled)

    def machine(self) -> PayeeChannel:
        """Return the state machine that goes on from this row."""
        return PayeeChannel(
            self.domain, self.descriptor, self.deposit, self.close_at, self.best, self.signature, self.billed
        )


class OutgoingChannel(_Channel, Base, kw_only=True):
    """A channel that we pay from: what was signed away at most, what answered steps cost, and the gas for its deposits
    and closing, in wei of the chain's own coin.
    """

    __tablename__ = "channels_out"

    signed: Mapped[int] = mapped_column(Wei, default=0)
    spent: Mapped[int] = mapped_column(Wei, default=0)
    gas: Mapped[int] = mapped_column(Wei, default=0, server_default=NOTHING)

    def machine(self) -> PayerChannel:
        """Return the state machine that goes on from this row."""
        return PayerChannel(self.deposit, self.signed, self.spent)


class Role(StrEnum):
    """Which end of a session we were."""

    PROVIDER = "provider"
    CLIENT = "client"


class SessionRecord(Base, kw_only=True):
    """One stage of one session: who, which layers, at what price, and what came of it."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_started", "started"), Index("ix_sessions_request", "request_id"))

    session_id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    peer: Mapped[str] = mapped_column(String(128), primary_key=True)
    layer_start: Mapped[int] = mapped_column(Integer, primary_key=True)
    layer_stop: Mapped[int] = mapped_column(Integer)
    role: Mapped[str] = mapped_column(String(16))
    model_id: Mapped[str] = mapped_column(ModelId)
    channel_id: Mapped[bytes] = mapped_column(Hash)
    price_wei: Mapped[int] = mapped_column(Wei)
    prompt_price_wei: Mapped[int] = mapped_column(Wei)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    billed: Mapped[int] = mapped_column(Wei, default=0)
    started: Mapped[datetime] = mapped_column(Moment, default_factory=now)
    ended: Mapped[datetime | None] = mapped_column(Moment, default=None)
    outcome: Mapped[str] = mapped_column(String(300), default="")
    request_id: Mapped[str | None] = mapped_column(String(32), default=None)
    """of our own request, where we were the client"""
    goes_on: Mapped[bytes | None] = mapped_column(LargeBinary(16), default=None)
    """the session that went on in this visit, where we were the client and had parked it"""

    @property
    def stage_session(self) -> bytes:
        """The session that receipts, transcripts and audits name, 16 bytes."""
        return self.goes_on or self.session_id


class PriceRow(Base, kw_only=True):
    """One update of our own price: the market as it looked, and the step taken."""

    __tablename__ = "price_history"
    __table_args__ = (Index("ix_price_history_model_taken", "model_id", "taken"),)

    step_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, init=False
    )
    model_id: Mapped[str] = mapped_column(ModelId)
    layer_start: Mapped[int] = mapped_column(Integer)
    layer_stop: Mapped[int] = mapped_column(Integer)
    price_before: Mapped[int] = mapped_column(Wei)
    price_after: Mapped[int] = mapped_column(Wei)
    gradient: Mapped[float]
    probability: Mapped[float]
    inputs: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)
    taken: Mapped[datetime] = mapped_column(Moment, default_factory=now)


class EvidenceRow(Base, kw_only=True):
    """Evidence of one kind on one node of an operator: how many pieces, decayed to ``updated``; see
    `hypercluster.market.trust.reputation.Tally`.

    ``operator`` is an address, or the peer itself while no operator is known.
    """

    __tablename__ = "evidence"

    operator: Mapped[str] = mapped_column(PeerId, primary_key=True)
    peer: Mapped[str] = mapped_column(PeerId, primary_key=True)
    kind: Mapped[str] = mapped_column(String(24), primary_key=True)
    pieces: Mapped[float] = mapped_column(default=0.0)
    updated: Mapped[datetime] = mapped_column(Moment, default_factory=now)


class ReputationEvent(Base, kw_only=True):
    """One piece of evidence on a node of an operator, which is the peer itself where none is known."""

    __tablename__ = "reputation_events"
    __table_args__ = (
        Index("ix_reputation_events_peer_at", "peer", "at"),
        Index("ix_reputation_events_operator_at", "operator", "at"),
    )

    event_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, init=False
    )
    peer: Mapped[str] = mapped_column(PeerId)
    operator: Mapped[str] = mapped_column(PeerId)
    kind: Mapped[str] = mapped_column(String(24))
    note: Mapped[str] = mapped_column(String(NOTE), default="")
    at: Mapped[datetime] = mapped_column(Moment, default_factory=now)


class RumourRow(Base, kw_only=True):
    """What one witness said against an operator, the latest of it; see `hypercluster.market.trust.hearsay.Rumour`."""

    __tablename__ = "rumours"
    __table_args__ = (Index("ix_rumours_heard", "heard"),)

    operator: Mapped[str] = mapped_column(Address, primary_key=True)
    witness: Mapped[str] = mapped_column(Address, primary_key=True)
    """operator of the verifier; empty for what proves itself"""
    peer: Mapped[str] = mapped_column(PeerId)
    share: Mapped[float]
    """of the stake of all verifiers known then, 0 to 1"""
    heard: Mapped[datetime] = mapped_column(Moment, default_factory=now)


class AuditRecord(Base, kw_only=True):
    """One audit of one stage: who served it, who looked, and what was found.

    ``tokens`` are the rows that were run again and ``generated`` the tokens that the stage generated;
    ``auditor`` is a peer id or "own"; ``finding`` is pass, grey, fail or error; the errors are relative;
    ``cost`` is what the audit cost in wei; ``case_id`` is of the dispute that it led to.
    """

    __tablename__ = "audits"
    __table_args__ = (Index("ix_audits_at", "at"), Index("ix_audits_session", "session"))

    audit_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, init=False
    )
    stage_hash: Mapped[bytes] = mapped_column(Hash)
    session: Mapped[bytes] = mapped_column(LargeBinary(16))
    peer: Mapped[str] = mapped_column(String(128))
    operator: Mapped[str] = mapped_column(Address)
    model_id: Mapped[str] = mapped_column(ModelId)
    layer_start: Mapped[int] = mapped_column(Integer)
    layer_stop: Mapped[int] = mapped_column(Integer)
    tokens: Mapped[int] = mapped_column(BigInteger)
    generated: Mapped[int] = mapped_column(BigInteger)
    auditor: Mapped[str] = mapped_column(String(128))
    finding: Mapped[str] = mapped_column(String(8))
    median_error: Mapped[float | None] = mapped_column(default=None)
    max_error: Mapped[float | None] = mapped_column(default=None)
    agreement: Mapped[float | None] = mapped_column(default=None)
    exact: Mapped[bool] = mapped_column(default=False)
    cost: Mapped[int] = mapped_column(Wei, default=0)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    note: Mapped[str] = mapped_column(String(NOTE), default="")
    case_id: Mapped[int | None] = mapped_column(BigInteger, default=None)
    at: Mapped[datetime] = mapped_column(Moment, default_factory=now)


class SoldAudit(Base, kw_only=True):
    """One audit that a client paid us for: what was run again, what was found, and what it brought.

    ``tokens`` are the rows that were run again, ``seconds`` the computing, waiting for it included; an error that is
    no finite number is None; for the others see AuditRecord. Whose work it was we are not told.
    """

    __tablename__ = "audits_sold"
    __table_args__ = (Index("ix_audits_sold_at", "at"),)

    sale_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, init=False
    )
    model_id: Mapped[str] = mapped_column(ModelId)
    layer_start: Mapped[int] = mapped_column(Integer)
    layer_stop: Mapped[int] = mapped_column(Integer)
    channel_id: Mapped[bytes] = mapped_column(Hash)
    tokens: Mapped[int] = mapped_column(BigInteger)
    finding: Mapped[str] = mapped_column(String(8))
    median_error: Mapped[float | None]
    max_error: Mapped[float | None]
    agreement: Mapped[float | None]
    exact: Mapped[bool]
    paid: Mapped[int] = mapped_column(Wei)
    seconds: Mapped[float]
    at: Mapped[datetime] = mapped_column(Moment, default_factory=now)


class PassedRow(Base, kw_only=True):
    """What we signed a pass for: a hash of what was asked, and the root of what we computed for it ourselves."""

    __tablename__ = "passed"

    question: Mapped[bytes] = mapped_column(Hash, primary_key=True)
    own_root: Mapped[bytes] = mapped_column(Hash)


class Duty(Base, kw_only=True):
    """Our seat in the committee of one case, with all that a commitment must still be revealed with.

    ``node`` is the accused; ``phase`` is a DutyPhase;
    ``vote`` is the contract's number; the deadlines are unix seconds (UTC), 0 where not known yet.
    """

    __tablename__ = "duties"

    contract: Mapped[str] = mapped_column(Address, primary_key=True)
    chain_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    case_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seat: Mapped[int] = mapped_column(Integer)
    members: Mapped[list[str]] = mapped_column(JSON)
    node: Mapped[str] = mapped_column(Address)
    receipt_hash: Mapped[bytes] = mapped_column(Hash)
    stage_hash: Mapped[bytes] = mapped_column(Hash)
    phase: Mapped[str] = mapped_column(String(16))
    vote: Mapped[int | None] = mapped_column(Integer)
    fingerprint: Mapped[bytes] = mapped_column(Hash)
    salt: Mapped[bytes] = mapped_column(Hash)
    commit_deadline: Mapped[int] = mapped_column(BigInteger)
    reveal_deadline: Mapped[int] = mapped_column(BigInteger)
    drawn: Mapped[datetime] = mapped_column(Moment, default_factory=now)
