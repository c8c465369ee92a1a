"""`hc-client policy`: what it shows is what the file says, and what it sets is what counts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hypercluster.market.ledger import Ledger, Outcome, RequestRow
from hypercluster.market.money.budget import Period
from hypercluster.market.money.units import HCT
from hypercluster.node.cli.client.app import app
from hypercluster.node.home.policy import WalletPolicy, load_policy, policy_file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HC_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["policy", *words])


def test_what_is_set_counts_and_the_rest_stays(home: Path) -> None:
    done = run("set", "--per-day", "2.5", "--total", "none", "--key-period", "week", "--json")
    assert done.exit_code == 0, done.output
    wanted = WalletPolicy(per_day_wei=5 * HCT // 2, total_wei=None, per_key_period=Period.WEEK)
    assert load_policy(home) == wanted
    assert json.loads(done.stdout)["per_day_wei"] == 5 * HCT // 2
    assert run("set", "--float", "1", "--per-day", "none").exit_code == 0
    assert load_policy(home).per_day_wei is None
    assert load_policy(home).float_wei == HCT
    assert load_policy(home).per_key_period is Period.WEEK


def test_what_was_spent_stands_beside_its_limit(home: Path) -> None:
    with Ledger(home / "ledger.sqlite") as ledger:
        for name, cost, ago in (("old", 5, 3), ("new", 7, 0)):
            ledger.requests.add(RequestRow(request_id=name, endpoint="cli", model_id="m"))
            ended = datetime.now(UTC) - timedelta(days=ago)
            ledger.requests.finish(name, Outcome.STOP, cost=cost * HCT, ended=ended)
    shown = json.loads(run("show", "--json").stdout)
    assert (shown["spent_today_wei"], shown["spent_wei"]) == (7 * HCT, 12 * HCT)
    text = run("show").output
    assert "defaults" in text
    assert "12" in text


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--per-day", ""),
        ("--per-day", "-1"),
        ("--per-day", "all"),
        ("--float", "none"),
        ("--float", "0.0001"),
        ("--key-period", "year"),
    ],
)
def test_what_cannot_be_changes_nothing(home: Path, words: tuple[str, ...]) -> None:
    assert run("set", *words).exit_code != 0
    assert not policy_file(home).exists()


def test_a_file_that_is_wrong_is_named_and_kept(home: Path) -> None:
    policy_file(home).write_text("[limits]\nper_day = 'lots'\n")
    for words in (("show",), ("set", "--total", "1")):
        done = run(*words)
        assert done.exit_code != 0
        assert "per_day" in str(done.exception)
    assert policy_file(home).read_text() == "[limits]\nper_day = 'lots'\n"
