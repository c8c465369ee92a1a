"""Requests, the keys that may ask, adverts seen; sessions and audits of a request are found quickly.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

from hypercluster.market.ledger import columns

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("request_id", sa.String(32), primary_key=True),
        sa.Column("key_id", sa.String(16)),
        sa.Column("app", sa.String(80), nullable=False),
        sa.Column("endpoint", sa.String(16), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("model_name", sa.String(80), nullable=False),
        sa.Column("path", sa.JSON, nullable=False),
        sa.Column("tokens_in", sa.BigInteger, nullable=False),
        sa.Column("tokens_cached", sa.BigInteger, nullable=False),
        sa.Column("tokens_out", sa.BigInteger, nullable=False),
        sa.Column("cost", columns.Wei, nullable=False),
        sa.Column("risked", columns.Wei, nullable=False),
        sa.Column("audit_cost", columns.Wei, nullable=False),
        sa.Column("gas", columns.Wei, nullable=False),
        sa.Column("deposited", columns.Wei, nullable=False),
        sa.Column("started", columns.Moment, nullable=False),
        sa.Column("first_token", columns.Moment),
        sa.Column("ended", columns.Moment),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("error", sa.String(300), nullable=False),
        sa.Column("seed", sa.BigInteger),
        sa.Column("doubtful", sa.Boolean, nullable=False),
        sa.Column("audits_open", sa.Integer, nullable=False),
    )
    op.create_index("ix_requests_started", "requests", ["started"])
    op.create_index("ix_requests_key_ended", "requests", ["key_id", "ended"])
    op.create_index("ix_requests_ended", "requests", ["ended"])
    op.create_table(
        "spent_before",
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("wei", columns.Wei, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("budget", columns.Wei),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("rpm", sa.Integer),
        sa.Column("expires", columns.Moment),
        sa.Column("created", columns.Moment, nullable=False),
        sa.Column("revoked", columns.Moment),
        sa.Column("last_used", columns.Moment),
    )
    op.create_index("ix_api_keys_digest", "api_keys", ["digest"], unique=True)
    op.create_table(
        "adverts_seen",
        sa.Column("advert_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("peer", sa.String(128), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("operator", sa.String(42), nullable=False),
        sa.Column("layer_start", sa.Integer, nullable=False),
        sa.Column("layer_stop", sa.Integer, nullable=False),
        sa.Column("price_wei", columns.Wei, nullable=False),
        sa.Column("prompt_price_wei", columns.Wei, nullable=False),
        sa.Column("cost_ms", sa.Double, nullable=False),
        sa.Column("prompt_ms", sa.Double, nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("free", sa.Integer, nullable=False),
        sa.Column("session_tokens", sa.BigInteger, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sa.Column("seen", columns.Moment, nullable=False),
    )
    op.create_index("ix_adverts_seen_model_seen", "adverts_seen", ["model_id", "seen"])
    op.create_index("ix_adverts_seen_seen", "adverts_seen", ["seen"])
    op.add_column("sessions", sa.Column("request_id", sa.String(32)))
    op.create_index("ix_sessions_request", "sessions", ["request_id"])
    op.create_index("ix_audits_session", "audits", ["session"])
    op.add_column(
        "channels_out", sa.Column("gas", columns.Wei, nullable=False, server_default="0" * columns.DIGITS)
    )


def downgrade() -> None:
    op.drop_index("ix_audits_session", "audits")
    op.drop_index("ix_sessions_request", "sessions")
    with op.batch_alter_table("channels_out") as batch:
        batch.drop_column("gas")
    with op.batch_alter_table("sessions") as batch:
        batch.drop_column("request_id")
    for table in ("adverts_seen", "api_keys", "spent_before", "requests"):
        op.drop_table(table)
