"""The short form of `make invariants`."""

import re
import subprocess
import sys

from tests.contracts.conftest import ROOT

CALLS = 1500


def test_random_calls_leave_the_contracts_as_their_models_say() -> None:
    """Books balance, shares and rewards are those of the model, cases and demands end when they are due, and nobody
    loses stake that a call may not take."""
    run = subprocess.run(
        [sys.executable, ROOT / "scripts" / "invariants.py", "--calls", str(CALLS)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    held = re.search(r"^all: (\d+) calls held$", run.stdout, re.M)
    assert held, run.stdout
    assert int(held[1]) >= CALLS
