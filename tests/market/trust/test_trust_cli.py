"""What `hc-client reputation` and `hc-client audits` show of a ledger that something else filled."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hypercluster.market.ledger import AuditRecord, Ledger
from hypercluster.market.money.units import UINT96_MAX
from hypercluster.market.trust.hearsay import Rumour
from hypercluster.market.trust.reputation import FAULT, Evidence, Reputation
from hypercluster.node.cli.client.app import app

HONEST, CHEAT = "16Uiu2HAmHonest" + "h" * 30 + "onestly1", "16Uiu2HAmCheat" + "c" * 31 + "heating1"
OPERATORS = {HONEST: "0x" + "11" * 20, CHEAT: "0x" + "22" * 20}
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each test: what is known ages, and other tests may have run since this module was read."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", datetime.now(UTC))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger of the client that the commands speak for."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    monkeypatch.setenv("HC_HOME", str(tmp_path))
    monkeypatch.setenv("HC_LEDGER_URL", url)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)
    with Ledger(url) as opened:
        yield opened


@pytest.fixture
def seen(ledger: Ledger) -> Ledger:
    """Some evidence: one provider that passed audits, and one that failed one."""
    for minute in (3, 2, 1):
        ledger.trust.record(
            HONEST, OPERATORS[HONEST], Evidence.AUDIT_PASSED, NOW - timedelta(minutes=minute), "fine"
        )
    ledger.trust.record(CHEAT, OPERATORS[CHEAT], Evidence.SERVED, NOW - timedelta(hours=2))
    ledger.trust.record(
        CHEAT, OPERATORS[CHEAT], Evidence.LIE, NOW - timedelta(hours=1), "[layers] 3:7 are made up"
    )
    return ledger


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def told(*words: object) -> Any:
    return json.loads(call(*words, "--json"))


def test_reputations_are_what_the_evidence_adds_up_to(seen: Ledger) -> None:
    found = {each["operator"]: each for each in told("reputation")}
    assert set(found) == set(OPERATORS.values())
    honest, cheat = found[OPERATORS[HONEST]], found[OPERATORS[CHEAT]]
    assert honest["reliability"] == pytest.approx(12 / 13, rel=1e-3)
    assert honest["good"] == pytest.approx(3, rel=1e-3)
    assert honest["interval"] == pytest.approx(Reputation(honest["good"]).credible_interval(0.9))
    assert not honest["distrusted"]
    assert [node["peer"] for node in honest["nodes"]] == [HONEST]
    assert cheat["distrusted"]
    assert cheat["bad"] == FAULT
    assert cheat["nodes"][0]["risk"] > 3
    assert cheat["nodes"][0]["availability"] == pytest.approx(10 / 11, rel=1e-3)
    assert datetime.fromisoformat(cheat["last"]) == NOW - timedelta(hours=1)
    assert "events" not in cheat


def test_one_peer_is_shown_with_its_evidence(seen: Ledger) -> None:
    for part in (CHEAT, "…heating1", OPERATORS[CHEAT]):
        (found,) = told("reputation", part)
        assert [event["kind"] for event in found["events"]] == ["lie", "served"]
        assert found["events"][0]["note"] == "[layers] 3:7 are made up"
        assert found["events"][0]["peer"] == CHEAT
    text = call("reputation", "heating1")
    assert "[layers] 3:7 are made up" in text
    assert "onestly1" not in text


def test_people_get_a_table_with_the_best_first(seen: Ledger) -> None:
    text = call("reputation")
    assert text.index(HONEST) < text.index(CHEAT)
    assert "92.3%" in text
    assert OPERATORS[CHEAT] in text


def test_who_was_caught_by_mistake_can_be_forgiven(seen: Ledger) -> None:
    for words in ([], ["0x"]):
        result = CliRunner().invoke(app, ["reputation", *words, "--forgive"])
        assert result.exit_code == 1
        assert "name one operator to forgive: 2 fit" in str(result.exception)
    assert "is forgotten" in call("reputation", "heating1", "--forgive")
    assert [each["operator"] for each in told("reputation")] == [OPERATORS[HONEST]]


def test_what_others_say_is_shown_apart(ledger: Ledger) -> None:
    ledger.trust.hear(Rumour(OPERATORS[HONEST], OPERATORS[CHEAT], 0.5, NOW), HONEST)
    (found,) = told("reputation")
    assert found["heard"] == pytest.approx(0.5, rel=1e-3)
    assert (found["reliability"], found["nodes"]) == (0.9, [])
    assert "0.50" in call("reputation")


def test_everything_is_exported(seen: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "new" / "reputations.json"
    assert str(file) in call("reputation", "--export", file)
    document = json.loads(file.read_text())
    assert document["format"] == 2
    assert document["prior"] == {"good": 9.0, "bad": 1.0}
    assert document["kinds"]["lie"] == {"half_life_s": None, "honesty": [0, FAULT], "availability": [0, 0]}
    assert document["kinds"]["death"]["half_life_s"] == 3600
    assert datetime.fromisoformat(document["at"]) >= NOW
    events = {each["operator"]: each["events"] for each in document["reputations"]}
    assert {peer: len(events[whose]) for peer, whose in OPERATORS.items()} == {HONEST: 3, CHEAT: 2}
    # Whoever reads the file can add it up again.
    moment = datetime.fromisoformat(document["at"])
    for each in document["reputations"]:
        good = bad = 0.0
        for event in each["events"]:
            kind = document["kinds"][event["kind"]]
            age = (moment - datetime.fromisoformat(event["at"])).total_seconds()
            left = 0.5 ** (age / kind["half_life_s"]) if kind["half_life_s"] else 1.0
            good, bad = good + left * kind["honesty"][0], bad + left * kind["honesty"][1]
        assert each["good"] == pytest.approx(good)
        assert each["bad"] == pytest.approx(bad)


def test_more_evidence_than_a_page_is_exported_whole(ledger: Ledger, tmp_path: Path) -> None:
    for _ in range(130):
        ledger.trust.record(HONEST, OPERATORS[HONEST], Evidence.SERVED, NOW)
    call("reputation", "--export", tmp_path / "all.json")
    (only,) = json.loads((tmp_path / "all.json").read_text())["reputations"]
    assert len(only["events"]) == 130


def test_who_is_unknown_is_said_so(seen: Ledger) -> None:
    result = CliRunner().invoke(app, ["reputation", "nobody"])
    assert result.exit_code == 1
    assert "no evidence on an operator or peer like nobody" in str(result.exception)


def test_a_file_that_cannot_be_written_is_one_sentence(seen: Ledger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["reputation", "--export", str(tmp_path / "file" / "x.json")])
    assert result.exit_code == 1
    assert "cannot be written" in str(result.exception)


def test_a_fresh_client_has_nothing_to_show(ledger: Ledger) -> None:
    assert told("reputation") == []
    assert told("audits") == []
    assert "peer" in call("audits")


def test_audits_are_listed_newest_first(ledger: Ledger) -> None:
    def audit(minutes: int, **changes: Any) -> int:
        values: dict[str, Any] = {
            "stage_hash": b"\1" * 32,
            "session": b"\2" * 16,
            "peer": CHEAT,
            "operator": OPERATORS[CHEAT],
            "model_id": "ab" * 32,
            "layer_start": 3,
            "layer_stop": 7,
            "tokens": 99,
            "generated": 9,
            "auditor": "own",
            "finding": "pass",
            "at": NOW - timedelta(minutes=minutes),
            **changes,
        }
        return ledger.trust.save_audit(AuditRecord(**values))

    first = audit(9, exact=True, median_error=0.0, max_error=0.0, agreement=1.0)
    second = audit(
        5,
        finding="fail",
        auditor=HONEST,
        median_error=0.125,
        max_error=0.5,
        agreement=0.25,
        cost=UINT96_MAX,
        fingerprint=b"\xfe\xed",
        note="[bold]of another model",
        case_id=2**60,
    )
    third = audit(1, finding="error", note="no auditor came")
    rows = told("audits")
    assert [row["audit"] for row in rows] == [third, second, first]
    assert [row["finding"] for row in rows] == ["error", "fail", "pass"]
    failed = rows[1]
    assert (failed["peer"], failed["auditor"], failed["layers"]) == (CHEAT, HONEST, [3, 7])
    assert (failed["median_error"], failed["max_error"], failed["agreement"]) == (0.125, 0.5, 0.25)
    assert (failed["cost_wei"], failed["case"], failed["fingerprint"]) == (UINT96_MAX, 2**60, "feed")
    assert (failed["stage"], failed["session"]) == ("01" * 32, "02" * 16)
    assert rows[0]["median_error"] is None
    assert [row["audit"] for row in told("audits", "--limit", 1)] == [third]
    text = call("audits")
    assert "[bold]of another model" in text
    assert str(2**60) in text
    assert "1.2e-01, most 5.0e-01, agree 25%" in text
