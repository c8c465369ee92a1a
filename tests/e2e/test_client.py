"""`hc-client` as a user has it: prompts, limits, Ctrl-C, two at once, a provider that dies, and where the money is."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercluster.market.money.units import HCT
from hypercluster.node.home.settings import VOUCHERS
from hypercluster.node.shards.store import demo_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
from tests.e2e.shell import SECONDS, Result, Terminal

pytestmark = pytest.mark.slow

PAYING_BYTES = 1000
"""of a journal of vouchers, in which a few steps stand"""
FLAGS = ("--refresh", "1", "--claim-every", "60", "--price-rule", "fixed", "--throttle", "20")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """Two slow providers that hold all layers together."""
    specs = [ProviderSpec(layers=layers, price="1", flags=FLAGS) for layers in ("0:4", "4:8")]
    with running_network(tmp_path_factory.mktemp("network"), specs, model=demo_model()) as network:
        yield network


@pytest.fixture
def terminal(network: LocalNetwork, request: pytest.FixtureRequest) -> Terminal:
    """A client's own, with 10 HCT."""
    settings = network.client(10 * HCT, request.node.name.replace("/", "-"))
    environment = network.environment(settings.home)
    mine = {name: value for name, value in environment.items() if name.startswith("HC_")}
    return Terminal(settings.home, mine)


class Started:
    """A command under way whose output is kept apart by stream."""

    def __init__(self, terminal: Terminal, *command: str) -> None:
        self.process = subprocess.Popen(
            Terminal._command(command),
            env=terminal.environment,
            cwd=terminal.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._read = {"out": b"", "err": b""}
        self._threads = [
            threading.Thread(target=self._collect, args=(name, stream), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, name: str, text: str, more: int = 0) -> None:
        """Return when a stream holds `text` and so many bytes after it."""
        deadline = time.monotonic() + SECONDS
        while text.encode() not in self._read[name] or (
            len(self._read[name].partition(text.encode())[2]) < more
        ):
            assert self.process.poll() is None, self._read
            assert time.monotonic() < deadline, self._read
            time.sleep(0.02)

    def end(self) -> Result:
        code = self.process.wait(SECONDS)
        for thread in self._threads:
            thread.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return Result(code, self._read["out"].decode(), self._read["err"].decode())

    def _collect(self, name: str, stream: Any) -> None:
        while piece := stream.read1():
            self._read[name] += piece


def blamed(terminal: Terminal) -> float:
    return math.fsum(
        each["bad"] + sum(node["failed"] for node in each["nodes"])
        for each in terminal.json("hc-client", "reputation")
    )


def test_x1_prompts_come_from_the_line_a_file_or_a_pipe_and_texts_end_them(
    terminal: Terminal, tmp_path: Path
) -> None:
    """X1, O2, O7: `-`, `--file`, `--stop`; what a first spend takes is said and billed; what a weight is made of."""
    first = terminal.run("hc-client", "generate", "ROMEO:", "-n", "6", "--json")
    assert "opens 2 channels" in first.err
    assert "gas" in first.err
    given = first.json
    assert given["gas_wei"] > 0
    assert given["deposited_wei"] == sum(each["deposited_wei"] for each in given["channels"]) == HCT // 50
    file = tmp_path / "prompt"
    file.write_text("ROMEO:\n")
    assert terminal.json("hc-client", "generate", "--file", str(file), "-n", "6")["tokens"] == given["tokens"]
    piped = subprocess.run(
        Terminal._command(("hc-client", "generate", "-", "-n", "6", "--stop", "t", "--json")),
        env=terminal.environment,
        input=b"ROMEO:\n",
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    stopped = json.loads(piped.stdout)
    assert stopped["text"] == given["text"].partition("t")[0]
    assert stopped["finish_reason"] == ("stop" if "t" in given["text"] else "length")
    drawn = terminal.json("hc-client", "generate", "ROMEO:", "-n", "4", "--temperature", "1")
    again = terminal.json(
        "hc-client", "generate", "ROMEO:", "-n", "4", "--temperature", "1", "--seed", str(drawn["seed"])
    )
    assert drawn["tokens"] == again["tokens"]

    held = terminal.json("hc-client", "balance")
    assert held["hct_wei"] + held["deposits_wei"] == 10 * HCT
    assert held["recoverable_wei"] + held["spent_wei"] == held["deposits_wei"]
    path = terminal.json("hc-client", "path", "--alpha", "1")
    shares = [node[name] for node in path["nodes"] for name in ("price_share", "time_share", "risk_share")]
    assert math.isclose(math.fsum(shares), path["weight"], rel_tol=1e-9)
    assert all(node["time_share"] == 0 < node["risk_share"] for node in path["nodes"])


def test_b1_what_cannot_be_is_refused_in_one_sentence_and_blames_nobody(terminal: Terminal) -> None:
    """B1, D1, G1, X2, X6: too long, empty, out of range, too dear."""
    cases = [
        (["ROMEO: " * 400, "-n", "1"], "512"),
        ([""], "empty"),
        (["ROMEO:", "--max-cost", ""], "--max-cost"),
        (["ROMEO:", "--stop", ""], "--stop"),
        (["ROMEO:", "--top-p", "0"], "top-p"),
        (["ROMEO:", "--min-p", "1"], "min-p"),
        (["ROMEO:", "--max-cost", "0.0000001"], "0.0000001 HCT"),
        (["--file", "nowhere.txt"], "nowhere.txt"),
        ([], "--file"),
    ]
    for arguments, said in cases:
        done = terminal.run("hc-client", "generate", *arguments)
        assert done.code in (1, 2), arguments
        assert said in done.err, arguments
        assert " wei" not in done.err, arguments
        assert "Traceback" not in done.err, arguments
        assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 1, done.err
    assert terminal.run("hc-client", "close", "").code == 2
    assert terminal.json("hc-client", "reputation") == []
    assert terminal.json("hc-client", "generate", "ROMEO:", "-n", "4")["finish_reason"] == "length"
    assert terminal.json("hc-client", "balance")["deposits_wei"] == HCT // 50


def test_f1_two_at_once_in_one_home_queue_on_the_wallet(terminal: Terminal) -> None:
    """F1: the second says for whom it waits; both are good and nobody is blamed."""
    first = Started(terminal, "hc-client", "generate", "ROMEO:", "-n", "450")
    first.wait_for("out", "ROMEO:", more=8)
    second = Started(terminal, "hc-client", "generate", "ROMEO:", "-n", "8", "--json")
    second.wait_for("err", f"(pid {first.process.pid}) spends from the wallet")
    first.process.send_signal(signal.SIGINT)
    assert first.end().code == 130
    done = second.end()
    assert done.code == 0
    assert len(done.json["tokens"]) == 8
    assert blamed(terminal) == 0


def test_e3_ctrl_c_ends_in_a_newline_the_cost_and_the_audits(terminal: Terminal) -> None:
    """E3: text mode, audited as asked."""
    started = Started(terminal, "hc-client", "generate", "ROMEO:", "-n", "450", "--audit-rate", "1")
    started.wait_for("out", "ROMEO:", more=8)
    started.process.send_signal(signal.SIGINT)
    done = started.end()
    assert done.code == 130
    assert done.out.endswith("\n")
    assert "(cancelled)" in done.err
    assert "HCT to 2 providers" in done.err
    assert done.err.count("audit:") == 2
    assert "Traceback" not in done.err
    assert blamed(terminal) == 0


def wait_until_it_pays(terminal: Terminal, started: Started) -> None:
    """Vouchers of a request under way are in the journal, until its end."""
    journal, deadline = terminal.home / VOUCHERS, time.monotonic() + SECONDS
    while not journal.exists() or journal.stat().st_size < PAYING_BYTES:
        assert started.process.poll() is None, started._read
        assert time.monotonic() < deadline, started._read
        time.sleep(0.05)


def test_e2_ctrl_c_with_json_gives_the_document(terminal: Terminal) -> None:
    """E2: so does SIGTERM; what was signed stands in it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        started = Started(terminal, "hc-client", "generate", "ROMEO:", "-n", "450", "--json")
        if number is signal.SIGINT:
            started.wait_for("err", "opens 2 channels")
        wait_until_it_pays(terminal, started)
        started.process.send_signal(number)
        done = started.end()
        assert done.code == 130
        assert done.json["error"] == "interrupted."
        if number is signal.SIGINT:
            assert done.json["finish_reason"] == "cancelled"
            assert done.json["spent_wei"] == sum(hop["paid_wei"] for hop in done.json["path"])
            assert done.json["gas_wei"] > 0


def test_e1_a_provider_that_dies_leaves_what_was_paid_for(network: LocalNetwork, terminal: Terminal) -> None:
    """E1: the only provider of a range is killed midway, with --json."""
    started = Started(terminal, "hc-client", "generate", "ROMEO:", "-n", "450", "--json")
    started.wait_for("err", "opens 2 channels")
    wait_until_it_pays(terminal, started)
    victim = network.providers[1]
    victim.kill()
    try:
        done = started.end()
    finally:
        network.providers.remove(victim)
        network.wait(network.start(victim.spec, victim.home, victim.operator, model=demo_model()))
    assert done.code == 1
    document = done.json
    assert document["finish_reason"] == "failed"
    assert victim.peer in document["error"]
    assert document["spent_wei"] == sum(hop["paid_wei"] for hop in document["path"])
    assert victim.peer in document["failed"]
    assert done.err.count("error: ") == 1


def test_a_watch_runs_beside_others_and_ends_when_nothing_is_left(terminal: Terminal) -> None:
    """One watch at a time; whoever spends from the wallet meanwhile is not kept waiting."""
    assert terminal.json("hc-client", "watch", "--once") == {"finished": [], "audits": []}
    with terminal.running("hc-client", "watch", "--every", "1", until="Watching over"):
        second = terminal.run("hc-client", "watch", "--once")
        assert second.code == 75
        assert "hc-client watch (pid" in second.err
        spent = terminal.run("hc-client", "generate", "ROMEO:", "-n", "2", "--audit-rate", "0")
        assert spent.code == 0, spent.err
        assert "waiting until it has ended" not in spent.err
    refused = terminal.run("hc-client", "watch", "--every", "never")
    assert refused.code == 2
    assert "--every" in refused.err
