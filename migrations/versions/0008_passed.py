"""What a verifier passed, so that all passes for one question are measured against one computation.

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

from hypercluster.market.ledger import columns

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "passed",
        sa.Column("question", columns.Hash, primary_key=True),
        sa.Column("own_root", columns.Hash, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("passed")
