"""scripts/bench_gateway.py as a user runs it; what it measures is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_it_measures_rounds_streams_and_memory() -> None:
    few = ("--rounds", "3", "--tokens", "8", "--streams", "6", "--requests", "20", "--json")
    done = subprocess.run(
        [sys.executable, "scripts/bench_gateway.py", *few], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for what in ("first", "each"):
        assert found[what]["http_ms"] > 0
        assert found[what]["added_ms"] == found[what]["http_ms"] - found[what]["direct_ms"]
    assert (found["at_once"]["whole"], found["at_once"]["statuses"]) == (6, {"200": 6})
    assert found["at_once"]["direct"] == {"whole": 6}
    assert found["memory"]["requests"] == 20
