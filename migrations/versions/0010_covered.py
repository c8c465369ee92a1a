"""What vouchers pay that were signed, and counted, for an earlier request is known of each request.

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

from hypercluster.market.ledger import columns

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NOTHING = "0" * columns.DIGITS


def upgrade() -> None:
    for table in ("requests", "spent_before"):
        op.add_column(
            table, sa.Column("covered", columns.Wei, nullable=False, server_default=sa.text(f"'{_NOTHING}'"))
        )


def downgrade() -> None:
    for table in ("requests", "spent_before"):
        op.drop_column(table, "covered")
