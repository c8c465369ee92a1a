"""`hc-gateway` as its user has it: keys made while it runs, programs that use it, and its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.market.money.units import HCT
from hypercluster.node.testnet.localnet import LocalNetwork, ProviderSpec, running_network
from tests.e2e.shell import Running, Terminal

pytestmark = pytest.mark.slow

PROGRAM = ("python", "-m", "hypercluster.node.cli.gateway")
FLAGS = ("--refresh", "5", "--claim-every", "60", "--price-rule", "fixed", "--throttle", "20")
SERVING = (*PROGRAM, "run", "--model", "verse", "--listen", "127.0.0.1:0", "--audit-rate", "0")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    from hypercluster.node.shards.store import demo_model

    specs = [ProviderSpec(layers="0:8", price="1", flags=FLAGS)]
    with running_network(tmp_path_factory.mktemp("network"), specs, model=demo_model()) as network:
        yield network


@pytest.fixture(scope="module")
def terminal(network: LocalNetwork) -> Terminal:
    settings = network.client(HCT)
    return Terminal(
        settings.home, {k: v for k, v in network.environment(settings.home).items() if k.startswith("HC_")}
    )


def base_url(running: Running) -> str:
    found = re.search(r"OpenAI\s+(\S+)", running.printed)
    assert found, running.printed
    return found[1]


def ask(url: str, key: str, **fields: Any) -> httpx.Response:
    body = {"model": "verse", "prompt": "ROMEO:", "max_tokens": 4, "temperature": 0} | fields
    return httpx.post(f"{url}/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60)


def wait_for_path(url: str) -> None:
    deadline = time.monotonic() + 60
    while httpx.get(url.replace("/v1", "/readyz")).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_keys_are_made_used_and_revoked_while_it_runs_and_its_end_is_graceful(terminal: Terminal) -> None:
    with terminal.running(*SERVING, until="Models") as running:
        url = base_url(running)
        running.wait_for("There is no API key yet")
        wait_for_path(url)
        made = terminal.json(*PROGRAM, "keys", "create", "script", "--budget", "0.001", "--period", "total")
        answer = ask(url, made["key"])
        assert answer.status_code == 200, answer.text
        (listed,) = terminal.json(*PROGRAM, "keys", "list")
        assert listed["spent_wei"] == int(answer.json()["usage"]["cost_wei"]) > 0
        assert made["key"] not in (terminal.home / "ledger.sqlite").read_bytes().decode("latin-1")
        terminal.json(*PROGRAM, "keys", "revoke", "script")
        time.sleep(1.1)
        assert ask(url, made["key"]).status_code == 401
        assert terminal.run(*PROGRAM, "link").out.startswith("http://127.0.0.1:")

        key = terminal.json(*PROGRAM, "keys", "create", "second")["key"]
        body = {
            "model": "verse",
            "prompt": "ROMEO:",
            "max_tokens": 400,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"authorization": f"Bearer {key}"}
        with httpx.stream("POST", f"{url}/completions", json=body, headers=headers, timeout=60) as stream:
            lines = (line for line in stream.iter_lines() if line.startswith("data: "))
            next(lines), next(lines)
            running.process.send_signal(signal.SIGTERM)
            told = list(lines)
        assert told[-1] == "data: [DONE]"
        usage = json.loads(told[-2].removeprefix("data: "))
        assert usage["hypercluster"]["finish"] == "shutdown"
        assert int(usage["usage"]["cost_wei"]) > 0
        assert running.process.wait(30) == 0
    assert not (terminal.home / "gateway.link").exists()
    assert terminal.run(*PROGRAM, "link").code == 1
    by_name = {each["name"]: each for each in terminal.json(*PROGRAM, "keys", "list", "--all")}
    assert by_name["second"]["spent_wei"] == int(usage["usage"]["cost_wei"])
    assert by_name["script"]["state"] == "revoked"


def test_what_would_let_others_near_the_wallet_needs_to_be_said(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    for words in (("--listen", "0.0.0.0:0"), ("--listen", "[::]:0"), ("--listen", "example.org:80")):
        refused = terminal.run(*PROGRAM, "run", *words)
        assert refused.code == 1
        assert "--expose" in refused.err
    open_ = terminal.run(*PROGRAM, "run", "--listen", "0.0.0.0:0", "--expose", "--ollama-open", "script")
    assert open_.code == 1
    assert "--ollama-open" in open_.err
    assert terminal.run(*PROGRAM, "run", "--listen", "nowhere").code == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = terminal.run(*PROGRAM, "run", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert refused.code == 1
    assert "already in use" in refused.err
