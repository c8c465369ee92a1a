"""scripts/bench_siege.py as a user runs it; what it measures is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/bench_siege.py", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.slow
def test_it_measures_an_attack() -> None:
    done = bench("--only", "open-foreign", "--strength", "10", "--seconds", "1", "--lead", "0", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    [row] = found["attacks"]
    assert (row["attack"], row["strength"]) == ("open-foreign", 10)
    assert row["quiet_node_cpu"] > 0
    assert row["gas_to_begin"] > 21_000
    assert row["mbytes_a_minute"] > 0
    assert found["machine"]["cores"] > 0


@pytest.mark.parametrize(
    ("told", "said"),
    [(("--only", "nothing"), "invalid choice: 'nothing'"), (("--strength", "0"), "numbers above zero")],
    ids=["attack", "strength"],
)
def test_it_says_what_it_was_told_wrongly(
    told: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    with pytest.raises(SystemExit, match="2"):
        import_module("bench_siege").main(told)
    assert said in capsys.readouterr().err
