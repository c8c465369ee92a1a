"""Evidence by operator, node and kind instead of one sum for each peer; what others say of operators.

What old rows hold is carried over by its meaning: a failed audit is a lie, a wrong receipt a wrong answer. A session
that failed may have been a death, a silence or a refusal, which nobody can tell any more: it counts as a death, the
mildest. Good evidence whose events were pruned counts as sessions served; bad evidence, as wrong answers where it is
too much for sessions that failed, and else is forgotten.

Revision: 0007, after 0006
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import op

from hypercluster.market.ledger import columns

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NOBODY = "0x" + "00" * 20
WEEK = timedelta(days=7)
MEANT = {
    "served": "served",
    "audit_passed": "audit_passed",
    "audit_grey": "audit_grey",
    "audit_failed": "lie",
    "receipt_wrong": "wrong",
    "session_failed": "death",
    "latency_lie": "latency_lie",
}
OLD_WEIGHTS = {
    "served": (0.1, 0.0),
    "audit_passed": (1.0, 0.0),
    "audit_grey": (0.0, 0.0),
    "audit_failed": (0.0, 384.0),
    "receipt_wrong": (0.0, 9.0),
    "session_failed": (0.0, 1.0),
    "latency_lie": (0.0, 0.5),
}
WAS = {
    **{new: old for old, new in MEANT.items()},
    "silence": "session_failed",
    "refusal": "session_failed",
}
HALF_LIVES = {"death": timedelta(hours=1), "latency_lie": timedelta(days=1), "lie": None}
"""of those kinds that do not halve in a week"""


def upgrade() -> None:
    evidence = op.create_table(
        "evidence",
        sa.Column("operator", sa.String(128), primary_key=True),
        sa.Column("peer", sa.String(128), primary_key=True),
        sa.Column("kind", sa.String(24), primary_key=True),
        sa.Column("pieces", sa.Double, nullable=False),
        sa.Column("updated", columns.Moment, nullable=False),
    )
    op.create_table(
        "rumours",
        sa.Column("operator", sa.String(42), primary_key=True),
        sa.Column("witness", sa.String(42), primary_key=True),
        sa.Column("peer", sa.String(128), nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("heard", columns.Moment, nullable=False),
    )
    op.create_index("ix_rumours_heard", "rumours", ["heard"])
    connection = op.get_bind()
    rows = [
        {"operator": whose, "peer": row.peer, "kind": kind, "pieces": pieces, "updated": row.updated}
        for row in connection.execute(sa.select(_reputations())).all()
        for whose in [row.peer if row.operator in ("", NOBODY) else row.operator]
        for kind, pieces in _carried_over(connection, row).items()
    ]
    if rows:
        op.bulk_insert(evidence, rows)
    op.drop_table("reputations")
    for old, new in MEANT.items():
        connection.execute(_renamed(old, new))
    with op.batch_alter_table("reputation_events") as batch:
        batch.drop_column("good")
        batch.drop_column("bad")
        batch.alter_column("operator", type_=sa.String(128), existing_type=sa.String(42), nullable=False)
    events = sa.table("reputation_events", sa.column("operator"), sa.column("peer"))
    connection.execute(
        sa.update(events).where(events.c.operator.in_(("", NOBODY))).values(operator=events.c.peer)
    )
    op.create_index("ix_reputation_events_operator_at", "reputation_events", ["operator", "at"])


def downgrade() -> None:
    reputations = op.create_table(
        "reputations",
        sa.Column("peer", sa.String(128), primary_key=True),
        sa.Column("operator", sa.String(42), nullable=False),
        sa.Column("good", sa.Double, nullable=False),
        sa.Column("bad", sa.Double, nullable=False),
        sa.Column("updated", columns.Moment, nullable=False),
    )
    connection = op.get_bind()
    evidence = sa.table(
        "evidence",
        sa.column("operator"),
        sa.column("peer"),
        sa.column("kind"),
        sa.column("pieces"),
        sa.column("updated", columns.Moment),
    )
    rows = connection.execute(sa.select(evidence).order_by(evidence.c.updated)).all()
    if rows:
        op.bulk_insert(reputations, list(_sums(rows)))
    op.drop_index("ix_reputation_events_operator_at", "reputation_events")
    events = sa.table("reputation_events", sa.column("operator"), sa.column("peer"))
    connection.execute(sa.update(events).where(events.c.operator == events.c.peer).values(operator=""))
    with op.batch_alter_table("reputation_events") as batch:
        batch.alter_column("operator", type_=sa.String(42), existing_type=sa.String(128), nullable=False)
        batch.add_column(sa.Column("good", sa.Double, nullable=False, server_default="0"))
        batch.add_column(sa.Column("bad", sa.Double, nullable=False, server_default="0"))
    weighed = sa.table("reputation_events", sa.column("kind"), sa.column("good"), sa.column("bad"))
    for new, old in WAS.items():
        good, bad = OLD_WEIGHTS[old]
        connection.execute(
            sa.update(weighed).where(weighed.c.kind == new).values(kind=old, good=good, bad=bad)
        )
    op.drop_table("rumours")
    op.drop_table("evidence")


def _reputations() -> sa.TableClause:
    return sa.table(
        "reputations",
        sa.column("peer"),
        sa.column("operator"),
        sa.column("good"),
        sa.column("bad"),
        sa.column("updated", columns.Moment),
    )


def _carried_over(connection: sa.Connection, row: sa.Row[Any]) -> dict[str, float]:
    """Pieces by new kind, as they count at the row's moment."""
    events = sa.table(
        "reputation_events", sa.column("peer"), sa.column("kind"), sa.column("at", columns.Moment)
    )
    seen = connection.execute(sa.select(events.c.kind, events.c.at).where(events.c.peer == row.peer)).all()
    counts: dict[str, float] = {}
    good, bad = row.good, row.bad
    for kind, at in seen:
        if kind not in MEANT:
            continue
        age = max(timedelta(0), row.updated - at)
        before = 0.5 ** (age / WEEK)
        for_it, against = OLD_WEIGHTS[kind]
        good, bad = good - before * for_it, bad - before * against
        new = MEANT[kind]
        half_life = HALF_LIVES.get(new, WEEK)
        counts[new] = counts.get(new, 0.0) + (1.0 if half_life is None else 0.5 ** (age / half_life))
    # Good evidence ended at 40 then: events may hold more of it than there was.
    served, passed = counts.get("served", 0.0) * 0.1, counts.get("audit_passed", 0.0)
    if good < 0 and served + passed > 0:
        scale = row.good / (served + passed)
        counts |= {kind: scale * counts[kind] for kind in ("served", "audit_passed") if kind in counts}
    elif good > 1e-6:
        counts["served"] = counts.get("served", 0.0) + good / 0.1
    if bad >= 9.0:
        counts["wrong"] = counts.get("wrong", 0.0) + bad / 9.0
    for kind in ("served", "death"):
        if kind in counts:
            counts[kind] = min(counts[kind], 40.0)
    return counts or {"audit_grey": 0.0}


def _sums(rows: Iterable[sa.Row[Any]]) -> Iterable[dict[str, Any]]:
    """One row for each peer, with the operator under which it was seen last; rows come oldest first."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        good, bad = OLD_WEIGHTS[WAS[row.kind]]
        operator = "" if row.operator == row.peer else row.operator
        before = found.get(row.peer, {"good": 0.0, "bad": 0.0, "updated": row.updated, "operator": ""})
        found[row.peer] = {
            "peer": row.peer,
            "operator": operator or before["operator"],
            "good": min(40.0, before["good"] + row.pieces * good),
            "bad": before["bad"] + row.pieces * bad,
            "updated": max(_aware(row.updated), _aware(before["updated"])),
        }
    return found.values()


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _renamed(old: str, new: str) -> sa.Update:
    events = sa.table("reputation_events", sa.column("kind"))
    return sa.update(events).where(events.c.kind == old).values(kind=new)
