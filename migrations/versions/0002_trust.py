"""Reputations with their evidence, audits, and seats in committees.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

from hypercluster.market.ledger import columns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "reputations",
        sa.Column("peer", sa.String(128), primary_key=True),
        sa.Column("operator", sa.String(42), nullable=False),
        sa.Column("good", sa.Double, nullable=False),
        sa.Column("bad", sa.Double, nullable=False),
        sa.Column("updated", columns.Moment, nullable=False),
    )
    op.create_table(
        "reputation_events",
        sa.Column("event_id", number(), primary_key=True),
        sa.Column("peer", sa.String(128), nullable=False),
        sa.Column("operator", sa.String(42), nullable=False),
        sa.Column("kind", sa.String(24), nullable=False),
        sa.Column("good", sa.Double, nullable=False),
        sa.Column("bad", sa.Double, nullable=False),
        sa.Column("note", sa.String(300), nullable=False),
        sa.Column("at", columns.Moment, nullable=False),
    )
    op.create_index("ix_reputation_events_peer_at", "reputation_events", ["peer", "at"])
    op.create_table(
        "audits",
        sa.Column("audit_id", number(), primary_key=True),
        sa.Column("stage_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("session", sa.LargeBinary(16), nullable=False),
        sa.Column("peer", sa.String(128), nullable=False),
        sa.Column("operator", sa.String(42), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("layer_start", sa.Integer, nullable=False),
        sa.Column("layer_stop", sa.Integer, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("generated", sa.BigInteger, nullable=False),
        sa.Column("auditor", sa.String(128), nullable=False),
        sa.Column("finding", sa.String(8), nullable=False),
        sa.Column("median_error", sa.Double),
        sa.Column("max_error", sa.Double),
        sa.Column("agreement", sa.Double),
        sa.Column("exact", sa.Boolean, nullable=False),
        sa.Column("cost", columns.Wei, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("note", sa.String(300), nullable=False),
        sa.Column("case_id", sa.BigInteger),
        sa.Column("at", columns.Moment, nullable=False),
    )
    op.create_index("ix_audits_at", "audits", ["at"])
    op.create_table(
        "duties",
        sa.Column("contract", sa.String(42), primary_key=True),
        sa.Column("chain_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("case_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seat", sa.Integer, nullable=False),
        sa.Column("members", sa.JSON, nullable=False),
        sa.Column("node", sa.String(42), nullable=False),
        sa.Column("receipt_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("stage_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("vote", sa.Integer),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("salt", sa.LargeBinary(32), nullable=False),
        sa.Column("commit_deadline", sa.BigInteger, nullable=False),
        sa.Column("reveal_deadline", sa.BigInteger, nullable=False),
        sa.Column("drawn", columns.Moment, nullable=False),
    )


def downgrade() -> None:
    for table in ("duties", "audits", "reputation_events", "reputations"):
        op.drop_table(table)
