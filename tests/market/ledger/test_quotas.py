"""Tables that grow with use stay within their quotas, and what keys spent is counted all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hypercluster.market.ledger import Ledger, Outcome, RequestRow, Role, SessionRecord
from hypercluster.market.ledger.quotas import QUOTAS, crowded
from hypercluster.market.ledger.requests import Which

NOW = datetime(2026, 5, 20, tzinfo=UTC)
SMALL = [replace(quota, rows=3) for quota in QUOTAS]


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    with Ledger(database) as opened:
        yield opened


def request(ledger: Ledger, number: int, *, cost: int, ended: bool = True, days: int = 0) -> None:
    at = NOW - timedelta(days=days, minutes=100 - number)
    ledger.requests.add(
        RequestRow(
            request_id=f"{number:032x}", key_id="k", app="", endpoint="chat", model_id="ab" * 32, started=at
        )
    )
    if ended:
        ledger.requests.finish(f"{number:032x}", Outcome.STOP, cost=cost, ended=at)


def session(ledger: Ledger, number: int, *, ended: bool = True) -> None:
    at = NOW - timedelta(minutes=100 - number)
    row = SessionRecord(
        session_id=number.to_bytes(16),
        peer="p",
        layer_start=0,
        layer_stop=1,
        role=Role.PROVIDER,
        model_id="ab" * 32,
        channel_id=bytes(32),
        price_wei=1,
        prompt_price_wei=1,
        started=at,
        ended=at if ended else None,
    )
    ledger.history.save_session(row)


def test_the_oldest_go_and_it_is_said(ledger: Ledger) -> None:
    for number in range(6):
        session(ledger, number, ended=number != 1)
    (dropped,) = crowded(ledger.engine, ledger.requests, NOW, SMALL)
    assert [row.session_id[-1] for row in ledger.history.sessions()] == [5, 4, 3, 1]
    assert (dropped.what, dropped.rows, dropped.quota) == ("sessions", 2, 3)
    assert "keeps 3 sessions at most: 2 older ones" in dropped.sentence
    assert crowded(ledger.engine, ledger.requests, NOW, SMALL) == []


def test_requests_that_limits_count_on_stay_and_what_dropped_ones_cost_is_kept(ledger: Ledger) -> None:
    """Old ones and free ones go; one of this month that cost something stays, and one that runs."""
    request(ledger, 0, cost=7, days=40)
    request(ledger, 1, cost=5)
    request(ledger, 2, cost=0)
    request(ledger, 3, cost=0, ended=False)
    for number in range(4, 7):
        request(ledger, number, cost=1)
    before = ledger.requests.spent_in("k", None), ledger.requests.spent_in("k", NOW - timedelta(days=1))
    (dropped,) = crowded(ledger.engine, ledger.requests, NOW, SMALL)
    assert (dropped.what, dropped.rows) == ("requests", 2)
    left = [int(row.request_id, 16) for row in ledger.requests.latest(Which(), limit=10)]
    assert left == [6, 5, 4, 3, 1]
    after = ledger.requests.spent_in("k", None), ledger.requests.spent_in("k", NOW - timedelta(days=1))
    assert before == after == (15, 8)
