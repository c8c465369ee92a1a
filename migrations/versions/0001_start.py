"""Channels on both sides, sessions, adverts and price history.

Revision: 0001, the first
"""

import sqlalchemy as sa
from alembic import op

from hypercluster.market.ledger import columns

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def channel_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("channel_id", sa.LargeBinary(32), primary_key=True),
        sa.Column("contract", sa.String(42), nullable=False),
        sa.Column("chain_id", sa.BigInteger, nullable=False),
        sa.Column("payer", sa.String(42), nullable=False),
        sa.Column("payee", sa.String(42), nullable=False),
        sa.Column("signer", sa.String(42), nullable=False),
        sa.Column("salt", sa.LargeBinary(32), nullable=False),
        sa.Column("deposit", columns.Wei, nullable=False),
        sa.Column("settled", columns.Wei, nullable=False),
        sa.Column("close_at", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("opened", columns.Moment, nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "channels_in",
        *channel_columns(),
        sa.Column("best", columns.Wei, nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.Column("billed", columns.Wei, nullable=False),
    )
    op.create_table(
        "channels_out",
        *channel_columns(),
        sa.Column("signed", columns.Wei, nullable=False),
        sa.Column("spent", columns.Wei, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("peer", sa.String(128), primary_key=True),
        sa.Column("layer_start", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("layer_stop", sa.Integer, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("channel_id", sa.LargeBinary(32), nullable=False),
        sa.Column("price_wei", columns.Wei, nullable=False),
        sa.Column("prompt_price_wei", columns.Wei, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("billed", columns.Wei, nullable=False),
        sa.Column("started", columns.Moment, nullable=False),
        sa.Column("ended", columns.Moment),
        sa.Column("outcome", sa.String(300), nullable=False),
    )
    op.create_index("ix_sessions_started", "sessions", ["started"])
    op.create_table(
        "adverts",
        sa.Column("peer", sa.String(128), primary_key=True),
        sa.Column("model_id", sa.String(64), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("issued", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("operator", sa.String(42), nullable=False),
        sa.Column("layer_start", sa.Integer, nullable=False),
        sa.Column("layer_stop", sa.Integer, nullable=False),
        sa.Column("price_wei", columns.Wei, nullable=False),
        sa.Column("prompt_price_wei", columns.Wei, nullable=False),
        sa.Column("cost_ms", sa.Double, nullable=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
        sa.Column("seen", columns.Moment, nullable=False),
    )
    op.create_index("ix_adverts_expires", "adverts", ["expires"])
    op.create_table(
        "price_history",
        sa.Column("step_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("layer_start", sa.Integer, nullable=False),
        sa.Column("layer_stop", sa.Integer, nullable=False),
        sa.Column("price_before", columns.Wei, nullable=False),
        sa.Column("price_after", columns.Wei, nullable=False),
        sa.Column("gradient", sa.Double, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("taken", columns.Moment, nullable=False),
    )
    op.create_index("ix_price_history_model_taken", "price_history", ["model_id", "taken"])


def downgrade() -> None:
    for table in ("price_history", "adverts", "sessions", "channels_out", "channels_in"):
        op.drop_table(table)
