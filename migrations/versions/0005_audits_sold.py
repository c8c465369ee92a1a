"""Audits that a verifier was paid for.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

from hypercluster.market.ledger import columns

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audits_sold",
        sa.Column("sale_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("layer_start", sa.Integer, nullable=False),
        sa.Column("layer_stop", sa.Integer, nullable=False),
        sa.Column("channel_id", sa.LargeBinary(32), nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("finding", sa.String(8), nullable=False),
        sa.Column("median_error", sa.Double),
        sa.Column("max_error", sa.Double),
        sa.Column("agreement", sa.Double),
        sa.Column("exact", sa.Boolean, nullable=False),
        sa.Column("paid", columns.Wei, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("at", columns.Moment, nullable=False),
    )
    op.create_index("ix_audits_sold_at", "audits_sold", ["at"])


def downgrade() -> None:
    op.drop_table("audits_sold")
