"""Run the ledger's migrations: on the connection that the ledger hands over, or from the alembic command.

By hand: ``alembic -x url=sqlite:///ledger.db upgrade head`` in the repository.
"""

from alembic import context
from sqlalchemy import Connection, create_engine

from hypercluster.market.ledger import Ledger  # noqa: F401 - makes all tables known
from hypercluster.market.ledger.tables import Base


def run(connection: Connection) -> None:
    """Apply the migrations within one transaction; SQLite's missing ALTERs are done by copying tables."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        user_module_prefix="columns.",
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).begin() as opened:
        run(opened)
