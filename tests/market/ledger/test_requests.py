"""Requests, their sums, the keys that may ask and the adverts seen, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from hypercluster.market.advert import Advert
from hypercluster.market.errors import InvalidAmount, LedgerError
from hypercluster.market.ledger import (
    AuditRecord,
    By,
    Ledger,
    Outcome,
    RequestRow,
    Role,
    SessionRecord,
    Which,
)
from hypercluster.market.ledger.api_keys import digest_of
from hypercluster.market.money.budget import Period
from hypercluster.market.money.units import UINT96_MAX

MODEL, OTHER = "ab" * 32, "cd" * 32
OPERATOR = "0x" + "33" * 20
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    with Ledger(database) as opened:
        yield opened


def row(request_id: str, at: datetime = NOON, **changes: object) -> RequestRow:
    values: dict[str, object] = {
        "request_id": request_id,
        "endpoint": "chat",
        "model_id": MODEL,
        "app": "openai-python",
        "started": at,
        **changes,
    }
    return RequestRow(**values)  # type: ignore[arg-type]


def session(number: int, request_id: str | None, **changes: object) -> SessionRecord:
    values: dict[str, object] = {
        "session_id": bytes([number] * 16),
        "peer": "16Uiu2",
        "layer_start": 0,
        "layer_stop": 4,
        "role": Role.CLIENT,
        "model_id": MODEL,
        "channel_id": b"\1" * 32,
        "price_wei": 7,
        "prompt_price_wei": 1,
        "request_id": request_id,
        "started": NOON,
        **changes,
    }
    return SessionRecord(**values)  # type: ignore[arg-type]


def audit(number: int, finding: str) -> AuditRecord:
    return AuditRecord(
        stage_hash=b"\2" * 32,
        session=bytes([number] * 16),
        peer="16Uiu2",
        operator=OPERATOR,
        model_id=MODEL,
        layer_start=0,
        layer_stop=4,
        tokens=5,
        generated=4,
        auditor="own",
        finding=finding,
    )


def test_a_request_is_written_while_it_runs_and_found_with_its_hops_and_audits(ledger: Ledger) -> None:
    requests = ledger.requests
    requests.add(row("a" * 32, key_id="k1", app="x" * 500))
    hops = [{"peer": "16Uiu2", "layers": [0, 4], "session": "01" * 16, "paid_wei": str(UINT96_MAX)}]
    requests.update("a" * 32, path=hops, tokens_in=12, seed=2**32 - 2)
    assert [each.request_id for each in requests.running()] == ["a" * 32]
    end = NOON + timedelta(seconds=3)
    requests.finish(
        "a" * 32, Outcome.STOP, cost=UINT96_MAX, risked=1, tokens_out=3, ended=end, error="e" * 999
    )
    ledger.history.save_session(session(1, "a" * 32, layer_start=4, layer_stop=8))
    ledger.history.save_session(session(2, "a" * 32))
    ledger.history.save_session(session(3, None))
    ledger.history.save_session(session(4, "a" * 32, role=Role.PROVIDER))
    for number in (1, 2, 3):
        ledger.trust.save_audit(audit(number, "fail" if number == 1 else "pass"))
    found = requests.one("a" * 32)
    assert found is not None
    assert found.row.path == hops
    assert (found.row.key_id, found.row.app, found.row.error) == ("k1", "x" * 80, "e" * 300)
    assert (found.row.outcome, found.row.ended, found.row.seed) == ("stop", end, 2**32 - 2)
    assert found.row.spent == UINT96_MAX + 1
    assert [each.session_id[0] for each in found.hops] == [2, 1]
    assert [(each.session[0], each.finding) for each in found.audits] == [(1, "fail"), (2, "pass")]
    assert requests.of_session(bytes([2] * 16)) == "a" * 32
    assert requests.of_session(bytes([9] * 16)) is None
    assert requests.one("b" * 32) is None
    assert requests.running() == []


def test_requests_that_nobody_knows_are_refused_and_no_id_comes_twice(ledger: Ledger) -> None:
    ledger.requests.add(row("a"))
    with pytest.raises(LedgerError):
        ledger.requests.add(row("a"))
    with pytest.raises(LedgerError, match="add it first"):
        ledger.requests.update("b", cost=1)
    with pytest.raises(LedgerError, match="add it first"):
        ledger.requests.finish("b", Outcome.STOP)
    with pytest.raises((InvalidAmount, LedgerError)):
        ledger.requests.update("a", cost=-1)


def test_requests_are_paged_and_chosen(ledger: Ledger) -> None:
    for number in range(10):  # two at each moment
        at = NOON + timedelta(minutes=number // 2)
        ledger.requests.add(row(f"r{number}", at, key_id=f"k{number % 3}", doubtful=number == 7))
    ledger.requests.finish("r4", Outcome.FAILED)
    requests, pages, before = ledger.requests, [], None
    while page := requests.latest(before=before, limit=3):
        pages.append([each.request_id for each in page])
        before = page[-1].request_id
    assert pages == [["r9", "r8", "r7"], ["r6", "r5", "r4"], ["r3", "r2", "r1"], ["r0"]]
    assert requests.latest(before="nobody") == []
    assert requests.latest(limit=-1) == []

    def ids(**wanted: object) -> list[str]:
        return [each.request_id for each in requests.latest(Which(**wanted))]  # type: ignore[arg-type]

    assert ids(key_id="k1") == ["r7", "r4", "r1"]
    assert ids(key_id="") == []
    assert ids(doubtful=True) == ["r7"]
    assert ids(outcome="failed") == ["r4"]
    assert ids(since=NOON + timedelta(minutes=2), until=NOON + timedelta(minutes=3)) == ["r5", "r4"]
    assert ids(model_id=OTHER) == []
    assert len(ids(app="openai-python", doubtful=False)) == 9


def test_sums_are_exact_far_beyond_floats_and_come_by_whatever_is_asked(ledger: Ledger) -> None:
    for number in range(6):
        at = NOON + timedelta(minutes=30 * number)
        ledger.requests.add(
            row(
                f"r{number}",
                at,
                key_id=None if number == 5 else f"k{number % 2}",
                model_id=OTHER if number == 3 else MODEL,
                app=f"app {number % 2}",
            )
        )
        ledger.requests.finish(
            f"r{number}",
            Outcome.FAILED if number == 1 else Outcome.INTERRUPTED if number == 2 else Outcome.STOP,
            cost=UINT96_MAX - number,
            risked=10**18 + number,
            audit_cost=number,
            gas=3,
            deposited=10**27,
            tokens_in=10**9,
            tokens_out=2,
            tokens_cached=1,
            doubtful=number == 3,
        )
    day = timedelta(days=1)
    by_hour = ledger.requests.totals(NOON - day, NOON + day, By.HOUR)
    assert [each.group for each in by_hour] == [f"2026-03-01T{hour}:00:00+00:00" for hour in (12, 13, 14)]
    assert datetime.fromisoformat(by_hour[0].group) == NOON
    assert [each.requests for each in by_hour] == [2, 2, 2]
    assert [each.failed for each in by_hour] == [1, 1, 0]
    assert by_hour[0].cost == 2 * UINT96_MAX - 1
    (total,) = ledger.requests.totals(NOON, NOON + day, By.DAY)
    assert total.group == "2026-03-01T00:00:00+00:00"
    assert (total.cost, total.risked, total.audit_cost) == (6 * UINT96_MAX - 15, 6 * 10**18 + 15, 15)
    assert (total.gas, total.deposited, total.tokens_in) == (18, 6 * 10**27, 6 * 10**9)
    assert total.spent == total.cost + total.risked + total.audit_cost
    assert json.dumps(total.group)
    keys = {each.group: each.requests for each in ledger.requests.totals(NOON, NOON + day, By.KEY)}
    assert keys == {"k0": 3, "k1": 2, "": 1}
    models = [(each.group, each.doubtful) for each in ledger.requests.totals(NOON, NOON + day, By.MODEL)]
    assert models == [(MODEL, 0), (OTHER, 1)], "the dearest first"
    assert len(ledger.requests.totals(NOON, NOON + day, By.APP)) == 2
    assert ledger.requests.totals(NOON + day, NOON, By.DAY) == []


def test_hours_are_those_of_utc_whatever_zone_a_moment_came_in(ledger: Ledger) -> None:
    ledger.requests.add(
        row("a", datetime(2026, 3, 2, 1, 45, tzinfo=timezone(timedelta(hours=5, minutes=30))))
    )
    (hour,) = ledger.requests.totals(NOON, NOON + timedelta(days=2), By.HOUR)
    assert hour.group == "2026-03-01T20:00:00+00:00"


def test_what_a_key_spent_counts_where_it_ended_and_survives_pruning(ledger: Ledger) -> None:
    requests = ledger.requests
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    for name, key, ended in (
        ("old", "k1", midnight - timedelta(days=40)),
        ("before", "k1", midnight - timedelta(seconds=1)),
        ("over", "k1", midnight + timedelta(seconds=1)),
        ("none", None, midnight + timedelta(seconds=1)),
    ):
        requests.add(row(name, key_id=key))
        requests.finish(name, Outcome.STOP, cost=100, risked=10, audit_cost=1, covered=7, ended=ended)
    requests.add(row("running", key_id="k1", cost=1000))
    assert requests.spent_in("k1", midnight) == 1111
    assert requests.spent_in("k1", None) == 1333
    assert requests.spent_in(None, midnight) == 1222 - 2 * 7, "of the wallet what was signed"
    assert requests.spent_in(None, None) == 1444 - 4 * 7
    assert requests.spent_in("", None) == 0
    assert ledger.prune(midnight) == 0, "a month's limit counts on them"
    assert ledger.prune(midnight + timedelta(days=30)) == 1
    assert requests.prune(midnight) == 1
    assert requests.spent_in("k1", None) == 1333
    assert requests.spent_in(None, None) == 1444 - 4 * 7
    assert requests.spent_in("k1", midnight) == 1111
    assert len(requests.latest()) == 3


def test_many_requests_at_once_are_all_written(ledger: Ledger) -> None:
    def run(number: int) -> None:
        ledger.requests.add(row(f"r{number}", key_id="k"))
        ledger.requests.update(f"r{number}", tokens_in=1)
        ledger.requests.finish(f"r{number}", Outcome.STOP, cost=number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(40)))
    assert ledger.requests.spent_in("k", None) == sum(range(40))


def test_a_keys_text_is_shown_once_and_kept_nowhere(ledger: Ledger) -> None:
    keys = ledger.api_keys
    made, secret = keys.create("laptop", budget=5, period=Period.DAY, models=["smol"], rpm=60)
    assert secret.startswith("sk-hc-")
    assert len(secret) > 40
    assert made.prefix == secret[:10]
    found = keys.by_text(secret)
    assert found is not None
    assert (found.key_id, found.budget, found.period, found.models, found.rpm) == (
        made.key_id, 5, "day", ["smol"], 60,
    )  # fmt: skip
    assert keys.by_digest(digest_of(secret)) is not None
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "sk-hc-\ud800"):
        assert keys.by_text(wrong) is None
    with ledger.engine.connect() as connection:
        stored = connection.execute(text("SELECT * FROM api_keys")).one()
    assert secret not in str(stored)
    assert secret.encode() not in bytes(stored._mapping["digest"])


def test_keys_end(ledger: Ledger) -> None:
    keys = ledger.api_keys
    first, secret = keys.create("laptop", budget=None)
    assert first.refusal(NOON) == ""
    with pytest.raises(LedgerError, match="already"):
        keys.create("laptop", budget=None)
    assert keys.revoke("laptop").key_id == first.key_id
    found = keys.by_text(secret)
    assert found is not None
    assert "revoked" in found.refusal(datetime.now(UTC))
    assert found.revoked is not None
    when = found.revoked
    keys.revoke(first.key_id)
    found = keys.by_text(secret)
    assert found is not None
    assert found.revoked == when
    second, _ = keys.create("laptop", budget=None, expires=NOON)
    assert "expired" in second.refusal(NOON)
    assert second.refusal(NOON - timedelta(seconds=1)) == ""
    assert [each.key_id for each in keys.list(revoked=False)] == [second.key_id]
    assert len(keys.list()) == 2
    keys.touch(second.key_id, NOON)
    keys.touch("nobody")
    assert keys.named(second.key_id).last_used == NOON
    with pytest.raises(LedgerError, match="no key 'phone'"):
        keys.revoke("phone")
    with pytest.raises(LedgerError, match="no key ''"):
        keys.revoke("")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 81},
        {"name": "a\nb"},
        {"budget": -1},
        {"budget": UINT96_MAX + 1},
        {"rpm": 0},
        {"rpm": 2**31},
        {"models": [""]},
        {"models": ["m"] * 101},
        {"period": "year"},
    ],
)
def test_keys_that_cannot_be_are_refused(ledger: Ledger, wrong: dict[str, object]) -> None:
    values = {"name": "laptop", "budget": 1, **wrong}
    with pytest.raises((LedgerError, InvalidAmount, ValueError)):
        ledger.api_keys.create(**values)  # type: ignore[arg-type]
    assert ledger.api_keys.list() == []


def advert(peer: str, **changes: object) -> Advert:
    values: dict[str, object] = {
        "peer": peer,
        "model_id": MODEL,
        "layer_start": 0,
        "layer_stop": 4,
        "price_wei": 7,
        "prompt_price_wei": 2,
        "cost_ms": 1.5,
        "prompt_ms": 0.5,
        "operator": OPERATOR,
        "capacity": 4,
        "free": 4,
        "session_tokens": 512,
        "max_top_k": 64,
        "sequence": 1,
        "issued": 100,
        "expires": 200,
        "width": 64,
        **changes,
    }
    return Advert(**values)  # type: ignore[arg-type]


def test_adverts_are_written_where_they_change_come_and_go_and_once_an_hour(ledger: Ledger) -> None:
    seen, minute = ledger.adverts, timedelta(minutes=1)
    one, two = advert("one"), advert("two", layer_start=4, layer_stop=8)
    assert seen.seen(MODEL, [one, two, advert("else", model_id=OTHER)], NOON) == 2
    assert seen.seen(MODEL, [replace(one, sequence=2, free=1, cost_ms=9.0), two], NOON + minute) == 0
    assert seen.seen(MODEL, [replace(one, price_wei=8), two], NOON + 2 * minute) == 1
    assert seen.seen(MODEL, [replace(one, price_wei=8)], NOON + 3 * minute) == 1
    assert seen.seen(MODEL, [replace(one, price_wei=8)], NOON + 4 * minute) == 0
    assert seen.seen(MODEL, [replace(one, price_wei=8), two], NOON + 5 * minute) == 1
    assert seen.seen(MODEL, [replace(one, price_wei=8), two], NOON + 62 * minute) == 1
    assert seen.seen(MODEL, [advert("v", role="verifier")], NOON, role="verifier") == 1
    rows = seen.history(MODEL, NOON)
    assert [(each.peer, each.price_wei, each.gone, each.seen - NOON) for each in rows[2:]] == [
        ("one", 8, False, 2 * minute),
        ("two", 7, True, 3 * minute),
        ("two", 7, False, 5 * minute),
        ("one", 8, False, 62 * minute),
    ]
    assert [each.peer for each in seen.history(MODEL, NOON, role="verifier")] == ["v"]
    assert [each.peer for each in seen.history(MODEL, NOON, limit=2)] == ["two", "one"]
    assert seen.history(OTHER, NOON) == []
    assert ledger.prune(NOON + timedelta(days=1)) == 7


def test_a_new_start_goes_on_with_the_history(database: str) -> None:
    with Ledger(database) as ledger:
        assert ledger.adverts.seen(MODEL, [advert("one")], NOON) == 1
    with Ledger(database) as ledger:
        assert ledger.adverts.seen(MODEL, [advert("one")], NOON + timedelta(seconds=1)) == 0
        assert ledger.adverts.seen(MODEL, [], NOON + timedelta(seconds=2)) == 1


def test_several_requests_are_found_at_once_each_with_what_is_its_own(ledger: Ledger) -> None:
    for number, name in enumerate(("a", "b", "c")):
        ledger.requests.add(row(name, NOON + timedelta(minutes=number), key_id=None if name == "a" else "k1"))
    ledger.history.save_session(session(1, "a"))
    ledger.history.save_session(session(2, "b"))
    ledger.history.save_session(session(3, "b", layer_start=4, layer_stop=8))
    ledger.trust.save_audit(audit(3, "fail"))
    found = ledger.requests.stages(["b", "a", "unknown"])
    assert found.keys() == {"a", "b"}
    assert [(len(found[each].hops), len(found[each].audits)) for each in "ab"] == [(1, 0), (2, 1)]
    assert [each.request_id for each in ledger.requests.latest(Which(key_id=""))] == ["a"]
    day = (NOON - timedelta(days=1), NOON + timedelta(days=1), By.DAY)
    assert [
        sum(each.requests for each in ledger.requests.totals(*day, which))
        for which in (Which(), Which(key_id=""), Which(key_id="k1"), Which(app="nobody"))
    ] == [3, 1, 2, 0]
