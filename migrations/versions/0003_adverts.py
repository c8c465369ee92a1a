"""No table of adverts: the order book is kept in a file, and nothing wrote here.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

from hypercluster.market.ledger import columns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("adverts")


def downgrade() -> None:
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
