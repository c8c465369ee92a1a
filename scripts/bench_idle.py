"""Measure what processes that serve nobody burn: CPU of a provider, a verifier and a gateway on a network of their own.

    python scripts/bench_idle.py [--seconds 60] [--model demo|FILE.gguf] [--json]

Real processes on loopback with Anvil: two providers, which share the layers, a verifier and a gateway. After they have
settled, the CPU time of each with all its children is read from /proc over the time given. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from hypercluster.market.money import HCT
from hypercluster.node.shards.store import demo_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec

SETTLE_SECONDS = 120.0
"""first greetings are over then, lookups as seldom as they get, and providers have measured themselves and do so again
after two minutes"""
START_SECONDS = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = demo_model() if options.model == "demo" else Path(options.model)
    specs = [ProviderSpec(layers="0:4"), ProviderSpec(layers="4:8")]
    with (
        tempfile.TemporaryDirectory(prefix="hc-idle-") as folder,
        running_network(Path(folder), specs, model=model, verifiers=[VerifierSpec()]) as network,
    ):
        gateway = started_gateway(network, model)
        try:
            ids = {
                "provider": network.providers[1].process.pid,
                "verifier": network.verifiers[0].process.pid,
                "gateway": gateway.pid,
            }
            found = measured(ids, options.seconds)
        finally:
            gateway.terminate()
            gateway.wait()
    if options.json:
        print(json.dumps(found))
        return
    table = Table(title=f"CPU of processes that serve nobody, over {options.seconds:g} s")
    table.add_column("process")
    table.add_column("ms a second", justify="right")
    for name, milliseconds in found.items():
        table.add_row(name, f"{milliseconds:.1f}")
    Console().print(table)


def started_gateway(network: LocalNetwork, model: Path) -> subprocess.Popen[bytes]:
    """A gateway for the model that has started."""
    settings = network.client(10 * HCT, "gateway")
    command = [sys.executable, "-m", "hypercluster.node.cli.gateway", "run"]
    command += ["--listen", "127.0.0.1:0", "--model", str(model)]
    log = settings.home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=network.environment(settings.home), stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + START_SECONDS
    while "http://" not in (said := log.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"The gateway did not start: {said[-600:]}")
        time.sleep(0.2)
    url = said[said.index("http://") :].split()[0].rstrip("/.,")
    while not answers(url):
        if time.monotonic() > deadline:
            raise SystemExit("The gateway does not answer.")
        time.sleep(0.2)
    return process


def answers(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        httpx.get(url, timeout=5.0)
    except httpx.HTTPError:
        return False
    return True


def measured(processes: dict[str, int], seconds: float) -> dict[str, float]:
    """Milliseconds of CPU that each burns a second, its children included."""
    time.sleep(SETTLE_SECONDS)
    before, began = {name: burnt(pid) for name, pid in processes.items()}, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {name: 1000 * (burnt(pid) - before[name]) / took for name, pid in processes.items()}


def burnt(pid: int) -> float:
    """Seconds of CPU of a process and its living children so far."""
    total, waiting = 0.0, [pid]
    while waiting:
        each = waiting.pop()
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
        for task in Path(f"/proc/{each}/task").iterdir():
            waiting += [int(child) for child in (task / "children").read_text().split()]
    return total


if __name__ == "__main__":
    main()
