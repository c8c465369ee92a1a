"""The latest requests of a key are found quickly.

Revision: 0006, after 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_requests_key_started", "requests", ["key_id", "started"])


def downgrade() -> None:
    op.drop_index("ix_requests_key_started", "requests")
