"""A program that runs a chain and is told to end takes it along."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.e2e.shell import alive, descendants

RUNS_A_CHAIN = """
import time
from hypercluster.node.testnet.anvil import running_anvil

with running_anvil() as url:
    print(url, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whoever_runs_a_chain_takes_it_along_when_told_to_end(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNS_A_CHAIN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("http://127.0.0.1:")
        started = descendants(program.pid)
        assert started
        program.send_signal(number)
        program.wait(300)
    assert not [pid for pid in started if alive(pid)]
