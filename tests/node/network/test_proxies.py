"""scripts/proxies.py: what stands between a benchmark and its providers hands on bytes, and goes with the benchmark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[3] / "scripts"
PROGRAM = """
import signal, socket, sys
sys.path.insert(0, sys.argv[1])
from proxies import free_ports, proxies

signal.signal(signal.SIGTERM, signal.SIG_IGN)
there = socket.create_server(("127.0.0.1", 0))
[port] = free_ports(1)
with proxies([(port, there.getsockname()[1])], 0.01) as passed:
    here = socket.create_connection(("127.0.0.1", port))
    other, _ = there.accept()
    here.sendall(b"told")
    print(other.recv(4).decode(), passed())
print("ended")
"""


def test_proxies_end_with_who_started_them_though_nobody_hears_sigterm() -> None:
    """As it is where a shell or a supervisor ignored it before it started the benchmark."""
    command = [sys.executable, "-c", PROGRAM, str(SCRIPTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        try:
            told, _ = running.communicate(timeout=90)
        finally:
            running.kill()
    assert told.split() == ["told", "1", "ended"]
