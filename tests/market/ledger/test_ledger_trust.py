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
from hypercluster.market.trust.hearsay import MOST_OF_WITNESS, Rumour
from hypercluster.market.trust.reputation import FAULT, MOST_GOOD, Evidence, Reputation, Tally

PEER, OTHER = "16Uiu2HAm" + "a" * 44, "16Uiu2HAm" + "b" * 44
OPERATOR, CONTRACT = "0x" + "22" * 20, "0x" + "33" * 20
WEEK = timedelta(days=7)
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


def test_the_ledger_adds_up_what_the_evidence_says(ledger: Ledger) -> None:
    draw, moment = random.Random(0), START
    tallies: dict[str, dict[Evidence, Tally]] = {PEER: {}, OTHER: {}}
    seen = []
    for number in range(60):
        kind, peer = draw.choice(list(Evidence)), draw.choice((PEER, OTHER))
        moment += timedelta(hours=draw.randrange(0, 60))
        tallies[peer][kind] = tallies[peer].get(kind, Tally()).noted(kind, moment)
        ledger.trust.record(peer, OPERATOR, kind, moment, f"number {number}")
        seen.append((peer, kind))
    moment += WEEK
    counts = {
        peer: {kind: tally.decayed(kind, moment).count for kind, tally in each.items()}
        for peer, each in tallies.items()
    }
    (found,) = ledger.trust.standings(moment).values()
    assert found == ledger.trust.standing(OPERATOR, moment)
    together = {kind: sum(node.get(kind, 0.0) for node in counts.values()) for kind in Evidence}
    assert found.reputation.bad == pytest.approx(Reputation.of(together, {}).bad)
    assert found.reputation.good == pytest.approx(Reputation.of(together, {}).good)
    for peer, node in counts.items():
        alone = Reputation.of(together, node)
        assert found.of(peer).answered == pytest.approx(alone.answered)
        assert found.of(peer).failed == pytest.approx(alone.failed)
    events = ledger.trust.events()
    assert [(each.peer, each.kind) for each in events] == list(reversed(seen))
    assert [event.note for event in events] == [f"number {n}" for n in reversed(range(60))]


def test_a_stranger_has_the_prior(ledger: Ledger) -> None:
    assert ledger.trust.standing(OPERATOR, START).reputation == Reputation()
    assert ledger.trust.standings(START) == {}
    assert ledger.trust.events() == []


def test_late_evidence_does_not_turn_the_clock_back(ledger: Ledger) -> None:
    ledger.trust.record(PEER, OPERATOR, Evidence.WRONG, START)
    ledger.trust.record(PEER, OPERATOR, Evidence.WRONG, START - WEEK)
    found = ledger.trust.standing(OPERATOR, START)
    assert (found.reputation.bad, found.last) == (1.5 * 9, START)


def test_honesty_is_an_operators_and_availability_a_nodes(ledger: Ledger) -> None:
    ledger.trust.record(OTHER, OPERATOR, Evidence.LIE, START)
    ledger.trust.record(PEER, OPERATOR, Evidence.SILENCE, START)
    found = ledger.trust.standing(OPERATOR, START + 52 * WEEK)
    assert all(found.of(peer).distrusted for peer in (PEER, OTHER, "a node of theirs that was never met"))
    assert found.of(PEER).bad == FAULT
    now = ledger.trust.standing(OPERATOR, START)
    assert now.of(PEER).silent
    assert not now.of(OTHER).silent


def test_a_node_that_moves_to_another_operator_leaves_what_it_did_behind(ledger: Ledger) -> None:
    """A new stake is at risk then; who had the key before answers for what it did then."""
    newer = "0x" + "44" * 20
    ledger.trust.record(PEER, OPERATOR, Evidence.LIE, START)
    ledger.trust.record(PEER, newer, Evidence.SERVED, START + timedelta(seconds=1))
    found = ledger.trust.standings(START + WEEK)
    assert found[OPERATOR].reputation.distrusted
    assert not found[newer].reputation.distrusted
    assert found[newer].last == START + timedelta(seconds=1)
    ledger.trust.record(PEER, "", Evidence.AUDIT_PASSED, START + timedelta(seconds=2))
    assert ledger.trust.events(PEER)[0].operator == newer, "the operator that it was seen under last"


@pytest.mark.parametrize("nobody", ["", "0x" + "00" * 20])
def test_a_peer_whose_operator_is_not_known_stands_for_itself_until_it_is(
    ledger: Ledger, nobody: str
) -> None:
    ledger.trust.record(PEER, nobody, Evidence.WRONG, START)
    ledger.trust.record(OTHER, nobody, Evidence.AUDIT_PASSED, START)
    found = ledger.trust.standings(START)
    assert found[PEER].reputation.distrusted
    assert not found[OTHER].reputation.distrusted, "nobody's peers are not one operator's"
    ledger.trust.record(PEER, OPERATOR, Evidence.SERVED, START + timedelta(seconds=1))
    found = ledger.trust.standings(START + timedelta(seconds=1))
    assert set(found) == {OPERATOR, OTHER}
    assert found[OPERATOR].of(PEER).distrusted


def test_a_node_killed_ten_times_is_as_honest_as_before(ledger: Ledger) -> None:
    for minute in range(10):
        ledger.trust.record(PEER, OPERATOR, Evidence.DEATH, START + timedelta(minutes=minute))
    found = ledger.trust.standing(OPERATOR, START + timedelta(minutes=10)).of(PEER)
    assert not found.distrusted
    assert found.reliability == Reputation().reliability


def test_what_is_forgiven_is_gone(ledger: Ledger) -> None:
    ledger.trust.record(PEER, OPERATOR, Evidence.LIE, START)
    ledger.trust.record(OTHER, CONTRACT, Evidence.LIE, START)
    ledger.trust.hear(Rumour(OPERATOR, CONTRACT, 0.5, START), PEER)
    assert ledger.trust.forgive(OPERATOR) == 3
    assert list(ledger.trust.standings(START)) == [CONTRACT]
    assert [event.peer for event in ledger.trust.events()] == [OTHER]


def test_rumours_weigh_and_distrust_nobody(ledger: Ledger) -> None:
    witnesses = ["0x" + f"{number:040x}" for number in range(1, 9)]
    assert ledger.trust.hear(Rumour(OPERATOR, witnesses[0], 1.0, START), PEER)
    assert not ledger.trust.hear(Rumour(OPERATOR, witnesses[0], 1.0, START + timedelta(hours=1)), PEER)
    found = ledger.trust.standing(OPERATOR, START)
    assert found.reputation.heard == MOST_OF_WITNESS
    assert found.last == START + timedelta(hours=1)
    for witness in witnesses[1:]:
        ledger.trust.hear(Rumour(OPERATOR, witness, 1.0, START), PEER)
    found = ledger.trust.standing(OPERATOR, START)
    assert not found.reputation.distrusted
    assert found.reputation.reliability == Reputation().reliability
    assert found.of(PEER).risk > Reputation().risk
    assert ledger.trust.rumours()[0].witness == witnesses[0]


def test_rumours_that_are_kept_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypercluster.market.ledger.trust.MOST_RUMOURS", 3)
    for number in range(5):
        rumour = Rumour("0x" + f"{number:040x}", OPERATOR, 0.1, START + timedelta(seconds=number))
        ledger.trust.hear(rumour, PEER)
    assert [row.heard.second for row in ledger.trust.rumours()] == [4, 3, 2]


def test_evidence_of_many_threads_is_all_counted(ledger: Ledger) -> None:
    """Also the first of a peer, for which there is no row to lock yet."""
    ready = threading.Barrier(8)

    def see(number: int) -> None:
        if number < 8:
            ready.wait()
        ledger.trust.record(PEER, OPERATOR, Evidence.WRONG, START)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(see, range(80)))
    assert ledger.trust.standing(OPERATOR, START).reputation.bad == 80 * 9
    assert len(ledger.trust.events(limit=1000)) == 80


CHILD = """
import sys
from datetime import UTC, datetime
from hypercluster.market.ledger import Ledger
from hypercluster.market.trust.reputation import Evidence
with Ledger(sys.argv[1]) as ledger:
    sys.stdin.readline()
    for _ in range(25):
        ledger.trust.record(sys.argv[2], sys.argv[3], Evidence.WRONG, datetime(2026, 3, 1, 12, tzinfo=UTC))
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
    assert ledger.trust.standing(OPERATOR, START).reputation.bad == 75 * 9
    assert len(ledger.trust.events(PEER, limit=1000)) == 75


def test_credit_has_an_end(ledger: Ledger) -> None:
    for _ in range(60):
        ledger.trust.record(PEER, OPERATOR, Evidence.AUDIT_PASSED, START)
    assert ledger.trust.standing(OPERATOR, START).reputation.good == MOST_GOOD


def test_evidence_and_its_sum_are_written_together_or_not_at_all(ledger: Ledger) -> None:
    ledger.trust.record(PEER, OPERATOR, Evidence.SERVED, START)
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE reputation_events RENAME TO elsewhere"))
    with pytest.raises(LedgerError, match="reputation_events"):
        ledger.trust.record(PEER, OPERATOR, Evidence.LIE, START)
    with pytest.raises(LedgerError, match="reputation_events"):
        ledger.trust.record(OTHER, OPERATOR, Evidence.LIE, START)
    (found,) = ledger.trust.standings(START).values()
    assert list(found.nodes) == [PEER]
    assert found.reputation.bad == 0


def test_moments_without_a_zone_are_refused(ledger: Ledger) -> None:
    with pytest.raises((TypeError, ValueError, LedgerError)):
        ledger.trust.record(PEER, OPERATOR, Evidence.SERVED, START.replace(tzinfo=None))
    assert ledger.trust.standings(START) == {}


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
    before = trust.standing(OPERATOR, START + timedelta(days=20))
    assert ledger.history.prune(START + timedelta(days=5)) == 4
    assert [row.at for row in trust.audits()] == [START + timedelta(days=10)]
    assert [row.at for row in trust.events()] == [START + timedelta(days=10)]
    left = [row.case_id for row in trust.duties(CONTRACT, 31337, open_only=False)]
    assert left == [0, 1, 2, 3, 100, 101, 102, 103, 104, 105]
    assert trust.standing(OPERATOR, START + timedelta(days=20)) == before
    trust.record(OTHER, CONTRACT, Evidence.LIE, START)
    ledger.history.prune(START + timedelta(days=200))
    assert list(trust.standings(START + timedelta(days=200))) == [CONTRACT], "only lies are forever"


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
    new = {"evidence", "rumours", "reputation_events", "audits", "duties"}
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
        assert ledger.trust.standings(START) == {}


OLD = """
INSERT INTO reputations VALUES (:peer, :operator, :good, :bad, :updated)
"""
OLD_EVENT = """
INSERT INTO reputation_events (peer, operator, kind, good, bad, note, at)
VALUES (:peer, :operator, :kind, 0, 0, '', :at)
"""


def test_reputations_of_peers_become_evidence_on_operators(database: str) -> None:
    """Old kinds by their meaning; sums whose events were pruned as far as anybody can tell what they were."""
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    pruned, unknown = "16Uiu2HAm" + "c" * 44, "16Uiu2HAm" + "d" * 44
    at = START.replace(tzinfo=None)

    def week(peer: str, operator: str, good: float, bad: float) -> dict[str, object]:
        return {"peer": peer, "operator": operator, "good": good, "bad": bad, "updated": at}

    def event(peer: str, operator: str, kind: str, weeks: int = 0) -> dict[str, object]:
        return {"peer": peer, "operator": operator, "kind": kind, "at": at - weeks * WEEK}

    with Ledger(database) as ledger, ledger.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0006")
        connection.execute(
            text(OLD),
            [
                week(PEER, OPERATOR, 0.1 + 0.5, 384 / 4),
                week(OTHER, OPERATOR, 0.0, 10.0),
                week(pruned, CONTRACT, 4.0, 90.0),
                week(unknown, "0x" + "00" * 20, 0.0, 0.5),
            ],
        )
        connection.execute(
            text(OLD_EVENT),
            [
                event(PEER, OPERATOR, "served"),
                event(PEER, OPERATOR, "audit_passed", 1),
                event(PEER, OPERATOR, "audit_failed", 2),
                *[event(OTHER, OPERATOR, "session_failed")] * 10,
                event(unknown, "0x" + "00" * 20, "latency_lie"),
            ],
        )
    with Ledger(database) as ledger:
        found = ledger.trust.standings(START)
        assert set(found) == {OPERATOR, CONTRACT, unknown}
        assert found[OPERATOR].reputation.bad == FAULT, "a failed audit was a lie, and a lie is not forgotten"
        assert found[OPERATOR].reputation.good == pytest.approx(0.6)
        assert found[OPERATOR].of(OTHER).failed == pytest.approx(10), "failed sessions were no lies"
        assert found[CONTRACT].reputation.good == pytest.approx(4)
        assert found[CONTRACT].reputation.bad == pytest.approx(90)
        assert found[unknown].of(unknown).failed == 0.5
        kinds = {each.kind for each in ledger.trust.events(limit=None)}
        assert kinds == {"served", "audit_passed", "lie", "death", "latency_lie"}
        with ledger.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "0006")
            rows = connection.execute(text("SELECT peer, operator, good, bad FROM reputations")).all()
            old = {row[0]: row[1:] for row in rows}
            assert old[PEER] == (OPERATOR, pytest.approx(0.6), 384)
            assert old[OTHER][2] == pytest.approx(10)
            assert old[unknown][0] == ""
            kinds = {row[0] for row in connection.execute(text("SELECT kind FROM reputation_events"))}
            assert kinds == {"served", "audit_passed", "audit_failed", "session_failed", "latency_lie"}
    with Ledger(database) as ledger:
        assert ledger.trust.standing(OPERATOR, START).reputation.distrusted


def test_all_passes_for_a_question_are_measured_against_the_first_computation(
    ledger: Ledger, database: str
) -> None:
    question, other = b"q" * 32, b"o" * 32
    with ThreadPoolExecutor(8) as pool, Ledger(database) as second:
        roots = [bytes([number]) * 32 for number in range(16)]
        sides = [ledger.passed, second.passed] * 8
        found = list(pool.map(lambda side, root: side.first(question, root), sides, roots))
    assert len(set(found)) == 1
    assert found[0] in roots
    assert ledger.passed.first(question, b"n" * 32) == found[0]
    assert ledger.passed.first(other, b"n" * 32) == b"n" * 32


def test_only_operators_of_whom_something_came_are_added_up_again_at_once(ledger: Ledger) -> None:
    trust = ledger.trust
    for peer, operator in ((PEER, OPERATOR), (OTHER, CONTRACT)):
        trust.record(peer, operator, Evidence.DEATH, START)
    first = trust.standings(START)
    trust.record(PEER, OPERATOR, Evidence.LIE, START)
    second = trust.standings(START + timedelta(seconds=20))
    assert second[CONTRACT] is first[CONTRACT]
    assert second[OPERATOR].reputation.distrusted
    assert not first[OPERATOR].reputation.distrusted
    later = trust.standings(START + timedelta(hours=1))
    assert later[CONTRACT].of(OTHER).failed == pytest.approx(first[CONTRACT].of(OTHER).failed / 2)
    assert trust.standings(START)[CONTRACT] == first[CONTRACT], "clocks go back"
    trust.hear(Rumour(CONTRACT, OPERATOR, 0.5, START), OTHER)
    assert trust.standings(START)[CONTRACT].reputation.heard == MOST_OF_WITNESS
    trust.forgive(OPERATOR)
    assert OPERATOR not in trust.standings(START)
