"""How long commands take from their start to their end, against a Python that does nothing: medians of several runs.

    python scripts/bench_start.py [--runs 9]

Runs a chain of its own; every command is a process of its own, in turn with the others.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from eth_account import Account

from hypercluster.market.chain import LOCAL_TERMS, deploy
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil

BIN = Path(sys.executable).parent
COMMANDS = [
    "hc-client --version",
    "hc-client --help",
    "hc-client balance",
    "hc-client channels",
    "hc-client audits",
    "hc-client reputation",
    "hc-client peers",
    "hc-client path",
    "hc-provider status",
    "hc-provider earnings",
    "hc-provider prices",
    "hc-verifier status",
    "hc-model --help",
    "hc-market deterrence",
]


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, running_anvil() as url:
        home = Path(folder)
        (home / "password").write_text("correct horse\n")
        deployment = deploy(url, Account.from_key(DEPLOYER_KEY), unbonding_seconds=400, terms=LOCAL_TERMS)
        deployment.save(home / "deployment.json")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HC_")} | {
            "HC_HOME": folder,
            "HC_RPC_URL": url,
            "HC_DEPLOYMENT": str(home / "deployment.json"),
            "HC_PASSWORD_FILE": str(home / "password"),
        }
        tried = {"python -c pass": [sys.executable, "-c", "pass"]}
        tried |= {each: [str(BIN / each.split()[0]), *each.split()[1:]] for each in COMMANDS}
        for program in ("hc-client", "hc-provider"):
            measured([str(BIN / program), "init"], environment)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in tried}
        for _ in range(runs):
            for name, command in tried.items():
                times[name].append(measured(command, environment))
    print(f"medians of {runs} runs\n{'':24}{'seconds':>9}{'CPU s':>9}")
    for name, each in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"{name:24}{wall:9.3f}{cpu:9.3f}")


if __name__ == "__main__":
    main()
