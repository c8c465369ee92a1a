"""Whether all that is written down about money agrees, to the wei."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hypercluster.market.ledger import Ledger
from hypercluster.market.ledger.requests import Which
from hypercluster.market.ledger.tables import SessionRecord
from tests.node.helpers.providers import Served

SECONDS = 300.0


def assert_books_agree(payer: Ledger, providers: Sequence[Served]) -> int:
    """What requests cost is what channels spent, and what was signed away is what providers hold; in wei.

    Rows that have not ended are waited for, since a client that left is settled after it has left.
    """
    deadline = time.monotonic() + SECONDS
    while payer.requests.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert payer.requests.running() == []
    rows = payer.requests.latest(Which(), limit=1000)
    assert len(rows) < 1000
    channels = {row.channel_id: row for row in payer.payer.channels()}
    theirs = (row for each in providers for row in each.ledger.payee.channels())
    held = {row.channel_id: row for row in theirs if row.channel_id in channels}
    cost = sum(row.cost + row.audit_cost for row in rows)
    risked = sum(row.risked for row in rows)
    # A step that was risked counts as spent once the provider is seen to have billed it.
    assert cost <= sum(row.spent for row in channels.values()) <= cost + risked
    assert cost <= sum(row.signed for row in channels.values()) <= cost + risked
    for channel_id, row in held.items():
        ours = channels[channel_id]
        assert ours.spent <= row.billed <= row.best <= ours.signed <= ours.deposit
    if not risked:
        assert sum(row.best for row in held.values()) == cost
    paid = sum(hop.billed for row in rows for hop in _hops(payer, row.request_id))
    assert paid == sum(row.cost for row in rows)
    return cost


def _hops(payer: Ledger, request_id: str) -> Sequence[SessionRecord]:
    found = payer.requests.one(request_id)
    assert found is not None
    return found.hops
