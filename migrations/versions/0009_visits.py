"""A session that its provider kept goes on in another request: each of its visits has a row.

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("goes_on", sa.LargeBinary(16), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "goes_on")
