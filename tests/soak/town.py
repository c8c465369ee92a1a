"""All programs of a small market as real processes, each of which can be killed at any moment and comes back."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hypercluster.node.home.running import RUNNING
from hypercluster.node.testnet.anvil import free_port
from hypercluster.node.testnet.localnet import LocalNetwork

Kind = Literal["provider", "verifier", "gateway", "client"]
KINDS: tuple[Kind, ...] = ("provider", "verifier", "gateway", "client")
READY_SECONDS = 120.0
STOP_SECONDS = 60.0
RUN_SECONDS = 240.0
"""of a client, which sees its cases through"""


@dataclass(eq=False)
class Resident:
    """One program: a server, which is started again whenever it has ended, or a client, which runs again and again.

    `honest` is false for one that cheats on purpose. `again` is how many seconds a client rests between two runs.
    """

    name: str
    kind: Kind
    home: Path
    command: tuple[str, ...]
    operator: str = ""
    honest: bool = True
    again: tuple[float, float] = (0.2, 1.0)
    process: subprocess.Popen[bytes] | None = None
    port: int = field(default_factory=free_port)
    started: float = 0.0
    kills: int = 0
    runs: int = 0
    failures: list[str] = field(default_factory=list)
    """how it ended where nobody had killed it: its last words"""
    killed: bool = False
    dismissed: threading.Event = field(default_factory=threading.Event)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """What it printed, in all runs."""
        return self.home / "log"

    def ready(self) -> bool:
        """Whether a server serves: a node says so in its home, a gateway answers. Who was killed does not."""
        if self.killed:
            return False
        if self.kind == "gateway":
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=0.5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False
        try:
            told = json.loads((self.home / RUNNING).read_text())
        except (OSError, ValueError):
            return False
        return self.process is not None and told["pid"] == self.process.pid


class Town:
    """Starts and ends residents; `line` is the URL of the proxy before the chain, which each uses by its name."""

    def __init__(self, network: LocalNetwork, line: str, seed: int) -> None:
        self.network, self.line = network, line
        self.residents: list[Resident] = []
        self.over = threading.Event()
        self._keepers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # of the pauses alone: threads draw in any order
        self.bootstrap: tuple[str, ...] = ()

    def named(self, name: str) -> Resident:
        """The resident of a name."""
        return next(each for each in self.residents if each.name == name)

    def of(self, *kinds: Kind) -> list[Resident]:
        """All of these kinds, by their names."""
        return sorted((each for each in self.residents if each.kind in kinds), key=lambda each: each.name)

    def settle(self, resident: Resident) -> None:
        """Start a resident and keep it going until the town ends; returns at once."""
        self.residents.append(resident)
        self._keep_going(resident)

    def call_back(self, kind: Kind) -> None:
        """Start those of a kind again that were dismissed, and keep them going as before."""
        for each in self.of(kind):
            for keeper in self._keepers:
                if keeper.name == each.name:
                    keeper.join()
            each.dismissed.clear()
            self._keep_going(each)

    def _keep_going(self, resident: Resident) -> None:
        keeper = threading.Thread(target=self._keep, args=(resident,), name=resident.name, daemon=True)
        self._keepers.append(keeper)
        keeper.start()

    def wait(self, residents: Sequence[Resident], seconds: float = READY_SECONDS) -> None:
        """Return when all of these servers serve; AssertionError with the last words of one that does not."""
        deadline = time.monotonic() + seconds
        for each in residents:
            while not each.ready():
                assert time.monotonic() < deadline, f"{each.name} does not serve: {_tail(each)}"
                time.sleep(0.1)

    def wait_for_payers(self, seconds: float = READY_SECONDS) -> None:
        """Return when all payers that were killed have been started again, which is when they read their journals."""
        deadline = time.monotonic() + seconds
        for each in self.of("client", "gateway"):
            while each.killed:
                assert time.monotonic() < deadline, f"{each.name} was killed and does not come back"
                time.sleep(0.1)

    def kill(self, resident: Resident) -> bool:
        """kill -9, if it runs; whether it did."""
        with self._lock:
            if not resident.alive or resident.killed:
                return False
            assert resident.process is not None
            resident.killed = True
            resident.kills += 1
            resident.process.kill()
        return True

    def dismiss(self, *kinds: Kind) -> None:
        """Nobody of these kinds is started any more; clients finish their run, servers are told to end."""
        ending = self.of(*kinds)
        for each in ending:
            each.dismissed.set()
            if each.kind != "client" and each.alive and each.process is not None:
                each.process.send_signal(signal.SIGTERM)
        for each in ending:
            if each.process is None:
                continue
            try:
                each.process.wait(RUN_SECONDS if each.kind == "client" else STOP_SECONDS)
            except subprocess.TimeoutExpired:
                each.failures.append("did not end when it was told to")
                each.process.kill()
                each.process.wait()

    def end(self) -> None:
        """All end: clients first, nodes last, which claim what they can."""
        self.over.set()
        self.dismiss("client", "gateway")
        self.dismiss("provider", "verifier")
        for keeper in self._keepers:
            keeper.join()

    # ------------------------------------------------------------------------------------------------------------

    def _keep(self, resident: Resident) -> None:
        while not resident.dismissed.is_set():
            with self._lock:
                resident.killed = False
                resident.process = self._spawn(resident)
                resident.started, resident.runs = time.monotonic(), resident.runs + 1
            code = resident.process.wait()
            if resident.dismissed.is_set():
                if code and not resident.killed:
                    resident.failures.append(f"ended with {code}: {_tail(resident)}")
                return
            if not resident.honest and code and "may not serve" in _tail(resident):
                return  # it was found out: what is left of its stake carries no node
            if not resident.killed and (code or resident.kind != "client"):
                resident.failures.append(f"ended with {code}: {_tail(resident)}")
            rest = resident.again if resident.kind == "client" else (0.0, 0.5)
            resident.dismissed.wait(self._random.uniform(*rest))

    def _spawn(self, resident: Resident) -> subprocess.Popen[bytes]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HC_")}
        clean.pop("PYTHONDONTWRITEBYTECODE", None)
        environment = clean | {
            "HC_HOME": str(resident.home),
            "HC_RPC_URL": f"{self.line}/{resident.name}",
            "HC_DEPLOYMENT": str(self.network.deployment_file),
            "HC_PASSWORD_FILE": str(self.network.password_file),
            "HC_LOG_LEVEL": "WARNING",
            "COLUMNS": "300",
        }
        if self.bootstrap:
            environment["HC_BOOTSTRAP"] = ",".join(self.bootstrap)
        with resident.log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *resident.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _tail(resident: Resident) -> str:
    text = resident.log.read_text(errors="replace") if resident.log.exists() else ""
    return text.strip()[-400:]
