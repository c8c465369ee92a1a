"""Reputations, audits and duties survive, add up, and are the same on both databases."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect, text

from hypercluster import migrations
from hypercluster.market.errors import InvalidAmount, LedgerError
from hypercluster.market.ledger import AuditRecord, Duty, Ledger
from hypercluster.market.money.units import UINT96_MAX
from hypercluster.market.trust.reputation import FAULT, HALF_LIFE, MOST_GOOD, Evidence, Reputation

PEER, OTHER = "16Uiu2HAm" + "a" * 44, "16Uiu2HAm" + "b" * 44
OPERATOR, CONTRACT = "0x" + "22" * 20, "0x" + "33" * 20
MODEL = "ab" * 32
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    with Ledger(database) as opened:
        yield opened


def audit(**changes: object) -> AuditRecord:
    values: dict[str, object] = {
        "stage_hash": bytes(range(32)),
        "session": bytes(16),
        "peer": PEER,
        "operator": OPERATOR,
        "model_id": MODEL,
        "layer_start": 0,
        "layer_stop": 4,
        "tokens": 2**40,
        "generated": 7,
        "auditor": "own",
        "finding": "pass",
        "at": START,
        **changes,
    }
    return AuditRecord(**values)  # type: ignore[arg-type]


def duty(case_id: int = 5, **changes: object) -> Duty:
    values: dict[str, object] = {
        "contract": CONTRACT,
        "chain_id": 31337,
        "case_id": case_id,
        "seat": 1,
        "members": ["0x" + "aa" * 20, "0x" + "bb" * 20],
        "node": OPERATOR,
        "receipt_hash": b"\1" * 32,
        "stage_hash": b"\2" * 32,
        "phase": "drawn",
        "vote": None,
        "fingerprint": bytes(32),
        "salt": os.urandom(32),
        "commit_deadline": 2**33,
        "reveal_deadline": 0,
        "drawn": START,
        **changes,
    }
    return Duty(**values)  # type: ignore[arg-type]


def columns(row: object) -> dict[str, object]:
    return {column.key: getattr(row, column.key) for column in inspect(type(row)).columns}


def test_the_ledger_adds_up_what_the_reputation_says(ledger: Ledger) -> None:
    expected = Reputation(updated=START)
    draw, moment = random.Random(0), START
    for number in range(40):
        kind = draw.choice(list(Evidence))
        moment += timedelta(hours=draw.randrange(0, 60))
        expected = expected.noted(kind, moment)
        returned = ledger.trust.record(PEER, OPERATOR, kind, moment, f"number {number}")
        assert returned.good == pytest.approx(expected.good)
        assert returned.bad == pytest.approx(expected.bad)
    stored = ledger.trust.reputation(PEER, moment)
    assert (stored.good, stored.bad, stored.updated) == (returned.good, returned.bad, moment)
    later = ledger.trust.reputation(PEER, moment + HALF_LIFE)
    assert later.bad == pytest.approx(expected.bad / 2)
    events = ledger.trust.events(PEER)
    assert [event.note for event in events] == [f"number {n}" for n in reversed(range(40))]
    assert all((event.good, event.bad) == Evidence(event.kind).weight for event in events)


def test_a_stranger_has_the_prior(ledger: Ledger) -> None:
    assert ledger.trust.reputation(PEER, START) == Reputation(updated=START)
    assert ledger.trust.reputations(START) == {}
    assert ledger.trust.events() == []


def test_late_evidence_does_not_turn_the_clock_back(ledger: Ledger) -> None:
    ledger.trust.record(PEER, OPERATOR, Evidence.SESSION_FAILED, START)
    late = ledger.trust.record(PEER, OPERATOR, Evidence.SESSION_FAILED, START - HALF_LIFE)
    assert (late.bad, late.updated) == (1.5, START)
    assert ledger.trust.reputation(PEER, START).bad == 1.5


def test_all_reputations_are_read_as_of_one_moment(ledger: Ledger) -> None:
    newer = "0x" + "44" * 20
    ledger.trust.record(OTHER, OPERATOR, Evidence.AUDIT_FAILED, START)
    ledger.trust.record(PEER, OPERATOR, Evidence.AUDIT_PASSED, START)
    ledger.trust.record(PEER, newer, Evidence.AUDIT_GREY, START + timedelta(seconds=1))
    ledger.trust.record(OTHER, "", Evidence.AUDIT_GREY, START)
    found = ledger.trust.reputations(START + HALF_LIFE)
    assert list(found) == [PEER, OTHER]
    assert found[OTHER].reputation == Reputation(0.0, FAULT / 2, START + HALF_LIFE)
    assert found[OTHER].reputation.distrusted
    assert found[OTHER].operator == OPERATOR
    assert (found[PEER].operator, found[PEER].last) == (newer, START + timedelta(seconds=1))
    assert found[PEER].reputation.good == pytest.approx(0.5)
    assert [(event.kind, event.peer) for event in ledger.trust.events(limit=3)] == [
        ("audit_grey", PEER),
        ("audit_grey", OTHER),
        ("audit_passed", PEER),
    ]
    assert [event.kind for event in ledger.trust.events(OTHER)] == ["audit_grey", "audit_failed"]


def test_evidence_of_many_threads_is_all_counted(ledger: Ledger) -> None:
    """Also the first of a peer, for which there is no row to lock yet."""
    ready = threading.Barrier(8)

    def see(number: int) -> None:
        if number < 8:
            ready.wait()
        ledger.trust.record(PEER, OPERATOR, Evidence.SESSION_FAILED, START)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(see, range(80)))
    assert ledger.trust.reputation(PEER, START).bad == 80
    assert len(ledger.trust.events(limit=1000)) == 80


CHILD = """
import sys
from datetime import UTC, datetime
from hypercluster.market.ledger import Ledger
from hypercluster.market.trust.reputation import Evidence
with Ledger(sys.argv[1]) as ledger:
    sys.stdin.readline()
    for _ in range(25):
        ledger.trust.record(sys.argv[2], sys.argv[3], Evidence.SESSION_FAILED, datetime(2026, 3, 1, 12, tzinfo=UTC))
"""


def test_evidence_of_several_processes_is_all_counted(ledger: Ledger, database: str) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, database, PEER, OPERATOR], stdin=subprocess.PIPE)
        for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.close()
    assert [child.wait(300) for child in children] == [0, 0, 0]
    assert ledger.trust.reputation(PEER, START).bad == 75
    assert len(ledger.trust.events(PEER, limit=1000)) == 75


def test_credit_has_an_end(ledger: Ledger) -> None:
    for _ in range(60):
        ledger.trust.record(PEER, OPERATOR, Evidence.AUDIT_PASSED, START)
    assert ledger.trust.reputation(PEER, START).good == MOST_GOOD


def test_evidence_and_its_sum_are_written_together_or_not_at_all(ledger: Ledger) -> None:
    ledger.trust.record(PEER, OPERATOR, Evidence.SERVED, START)
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE reputation_events RENAME TO elsewhere"))
    with pytest.raises(LedgerError, match="reputation_events"):
        ledger.trust.record(PEER, OPERATOR, Evidence.AUDIT_FAILED, START)
    with pytest.raises(LedgerError, match="reputation_events"):
        ledger.trust.record(OTHER, OPERATOR, Evidence.AUDIT_FAILED, START)
    assert list(ledger.trust.reputations(START)) == [PEER]
    assert ledger.trust.reputation(PEER, START).bad == 0


def test_moments_without_a_zone_are_refused(ledger: Ledger) -> None:
    with pytest.raises((TypeError, ValueError, LedgerError)):
        ledger.trust.record(PEER, OPERATOR, Evidence.SERVED, START.replace(tzinfo=None))
    assert ledger.trust.reputations(START) == {}


def test_long_notes_are_cut(ledger: Ledger) -> None:
    ledger.trust.record(PEER, OPERATOR, Evidence.SERVED, START, "é" * 1000)
    ledger.trust.save_audit(audit(note="x" * 1000))
    assert ledger.trust.events()[0].note == "é" * 300
    assert ledger.trust.audits()[0].note == "x" * 300


def test_audits_come_back_as_they_were_written(ledger: Ledger) -> None:
    plain = ledger.trust.save_audit(audit())
    full = audit(
        peer=OTHER,
        auditor=PEER,
        finding="fail",
        median_error=1e-300,
        max_error=1e9,
        agreement=0.25,
        exact=False,
        cost=UINT96_MAX,
        fingerprint=bytes(range(256)),
        note="layers 3:7 are those of another model",
        case_id=2**62,
        at=START + timedelta(seconds=1),
    )
    wanted = columns(full)
    second = ledger.trust.save_audit(full)
    rows = ledger.trust.audits()
    assert [row.audit_id for row in rows] == [second, plain]
    assert columns(rows[0]) == {**wanted, "audit_id": second}
    first = rows[1]
    assert (first.median_error, first.max_error, first.agreement, first.case_id) == (None,) * 4
    assert (first.exact, first.cost, first.fingerprint, first.tokens) == (False, 0, b"", 2**40)
    assert [row.peer for row in ledger.trust.audits(peer=PEER)] == [PEER]
    assert [row.audit_id for row in ledger.trust.audits(limit=1)] == [second]
    with pytest.raises((InvalidAmount, LedgerError)):
        ledger.trust.save_audit(audit(cost=UINT96_MAX + 1))


def test_a_duty_is_written_once_and_then_overwritten(ledger: Ledger) -> None:
    drawn = duty()
    ledger.trust.save_duty(drawn)
    (found,) = ledger.trust.duties(CONTRACT, 31337)
    assert columns(found) == columns(drawn)
    committed = replace(found, phase="committed", vote=2, fingerprint=b"\7" * 32, reveal_deadline=2**34)
    ledger.trust.save_duty(committed)
    (found,) = ledger.trust.duties(CONTRACT, 31337)
    assert columns(found) == columns(committed)
    assert (found.salt, found.vote, found.members) == (drawn.salt, 2, drawn.members)
    ledger.trust.save_duty(duty(salt=drawn.salt))
    (found,) = ledger.trust.duties(CONTRACT, 31337)
    assert columns(found) == columns(drawn)


def test_duties_are_found_by_contract_chain_and_state(ledger: Ledger) -> None:
    for number, phase in enumerate(("revealed", "missed", "drawn", "resolved", "judged", "committed")):
        ledger.trust.save_duty(duty(10 - number, phase=phase))
    ledger.trust.save_duty(duty(1, chain_id=1))
    ledger.trust.save_duty(duty(1, contract=OPERATOR))
    found = ledger.trust.duties(CONTRACT, 31337)
    assert [(row.case_id, row.phase) for row in found] == [
        (5, "committed"), (6, "judged"), (8, "drawn"), (10, "revealed"),
    ]  # fmt: skip
    assert [row.case_id for row in ledger.trust.duties(CONTRACT, 31337, open_only=False)] == [
        5,
        6,
        7,
        8,
        9,
        10,
    ]
    assert [row.case_id for row in ledger.trust.duties(CONTRACT, 1)] == [1]


def test_pruning_forgets_what_is_over_and_nothing_else(ledger: Ledger) -> None:
    trust = ledger.trust
    for days in (0, 10):
        at = START + timedelta(days=days)
        trust.record(PEER, OPERATOR, Evidence.AUDIT_PASSED, at)
        trust.save_audit(audit(at=at))
        for number, phase in enumerate(("drawn", "judged", "committed", "revealed", "resolved", "missed")):
            trust.save_duty(duty(10 * days + number, phase=phase, drawn=at))
    before = trust.reputation(PEER, START + timedelta(days=20))
    assert ledger.history.prune(START + timedelta(days=5)) == 4
    assert [row.at for row in trust.audits()] == [START + timedelta(days=10)]
    assert [row.at for row in trust.events()] == [START + timedelta(days=10)]
    left = [row.case_id for row in trust.duties(CONTRACT, 31337, open_only=False)]
    assert left == [0, 1, 2, 3, 100, 101, 102, 103, 104, 105]
    assert trust.reputation(PEER, START + timedelta(days=20)) == before


SALTS = """
import os, sys
from hypercluster.market.ledger import Duty, Ledger
ledger = Ledger(sys.argv[1])
case = 0
while True:
    case += 1
    salt = os.urandom(32)
    ledger.trust.save_duty(Duty(
        contract=sys.argv[2], chain_id=1, case_id=case, seat=0, members=[], node=sys.argv[2], receipt_hash=bytes(32),
        stage_hash=bytes(32), phase="judged", vote=1, fingerprint=bytes(32), salt=salt,
        commit_deadline=1, reveal_deadline=1,
    ))
    print(case, salt.hex(), flush=True)
"""


def test_a_salt_that_was_acknowledged_survives_kill_9(database: str) -> None:
    with Ledger(database):
        pass
    acknowledged: dict[int, str] = {}
    with subprocess.Popen(
        [sys.executable, "-c", SALTS, database, CONTRACT], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if not line.endswith("\n"):
                break
            case, salt = line.split()
            acknowledged[int(case)] = salt
            if len(acknowledged) == 20:
                child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    with Ledger(database) as ledger:
        stored = {row.case_id: row.salt.hex() for row in ledger.trust.duties(CONTRACT, 1)}
    assert acknowledged.items() <= stored.items()


def test_a_ledger_of_the_first_version_keeps_everything(database: str) -> None:
    """Databases of users begin at revision 0001 and must come out of the migration with their rows."""
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    new = {"reputations", "reputation_events", "audits", "duties"}
    with Ledger(database) as ledger:
        ledger.trust.record(PEER, OPERATOR, Evidence.SERVED, START)
        with ledger.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "0001")
            values = {"wei": "1".zfill(29), "raw": b"x", "at": START.replace(tzinfo=None)}
            connection.execute(
                text("INSERT INTO adverts VALUES ('p', 'm', 1, 1, 9, 'o', 0, 4, :wei, :wei, 1.5, :raw, :at)"),
                values,
            )
            connection.execute(
                text(
                    "INSERT INTO sessions VALUES "
                    "(:raw, 'p', 0, 4, 'client', 'm', :raw, :wei, :wei, 3, 7, :wei, :at, NULL, '')"
                ),
                values,
            )
        assert not new & set(inspect(ledger.engine).get_table_names())
    with Ledger(database) as ledger:
        assert new <= set(inspect(ledger.engine).get_table_names())
        assert "adverts" not in inspect(ledger.engine).get_table_names()
        assert [row.tokens for row in ledger.history.sessions()] == [7]
        assert ledger.trust.reputations(START) == {}
