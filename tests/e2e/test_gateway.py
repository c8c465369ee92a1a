"""`hc-gateway` as its user has it: keys made while it runs, programs that use it, and its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.market.ledger import Ledger
from hypercluster.market.ledger.requests import Which
from hypercluster.market.money.units import HCT
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
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
    return httpx.post(
        f"{url}/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=600
    )


def wait_for_path(url: str) -> None:
    deadline = time.monotonic() + 300
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
        with httpx.stream("POST", f"{url}/completions", json=body, headers=headers, timeout=600) as stream:
            lines = (line for line in stream.iter_lines() if line.startswith("data: "))
            next(lines), next(lines)
            running.process.send_signal(signal.SIGTERM)
            told = list(lines)
        assert told[-1] == "data: [DONE]"
        usage = json.loads(told[-2].removeprefix("data: "))
        assert usage["hypercluster"]["finish"] == "shutdown"
        assert int(usage["usage"]["cost_wei"]) > 0
        assert running.process.wait(300) == 0
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


def test_kill_9_in_mid_stream_loses_nothing_and_pays_nothing_twice(
    network: LocalNetwork, terminal: Terminal
) -> None:
    key = terminal.json(*PROGRAM, "keys", "create", "killed", "--budget", "1", "--period", "total")["key"]
    body = {"model": "verse", "prompt": "ROMEO:", "max_tokens": 400, "temperature": 0, "stream": True}
    headers = {"authorization": f"Bearer {key}"}
    with terminal.running(*SERVING, until="Models") as running, ExitStack() as stack:
        url = base_url(running)
        wait_for_path(url)
        asked = partial(httpx.stream, "POST", f"{url}/completions", json=body, headers=headers, timeout=600)
        streams = [stack.enter_context(asked()).iter_lines() for _ in range(2)]
        for lines in streams:
            pieces = (line for line in lines if line.startswith("data: "))
            assert [next(pieces), next(pieces)]
        running.process.kill()
        running.process.wait(300)
    with paid(terminal.home) as ledger:
        before = ledger.payer.channels(ended=False)
        assert len(ledger.requests.running()) == 2

    with terminal.running(*SERVING, until="Models") as running:
        url = base_url(running)
        wait_for_path(url)
        (listed,) = [each for each in terminal.json(*PROGRAM, "keys", "list") if each["name"] == "killed"]
        with paid(terminal.home) as ledger, paid(network.providers[0].home) as earned:
            rows = ledger.requests.latest(Which(key_id=listed["key_id"]))
            assert [row.outcome for row in rows] == ["interrupted"] * 2
            assert all(row.cost > 0 for row in rows)
            assert listed["spent_wei"] == sum(row.cost + row.risked for row in rows)
            assert ledger.requests.running() == []
            agree(ledger, earned)
        again = ask(url, key, prompt="JULIET:")
        assert again.status_code == 200, again.text
        with paid(terminal.home) as ledger, paid(network.providers[0].home) as earned:
            assert [row.channel_id for row in ledger.payer.channels(ended=False)] == [
                row.channel_id for row in before
            ]
            agree(ledger, earned)


def paid(home: Path) -> Ledger:
    return Ledger(f"sqlite:///{home / 'ledger.sqlite'}")


def agree(ledger: Ledger, earned: Ledger) -> None:
    """What was signed away is what all requests cost, and at most what they risked; the provider holds no more."""
    deadline = time.monotonic() + 300
    while ledger.requests.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    rows = ledger.requests.latest(Which(), limit=1000)
    cost, risked = sum(row.cost for row in rows), sum(row.risked for row in rows)
    channels = ledger.payer.channels()
    signed, held = sum(row.signed for row in channels), sum(row.best for row in earned.payee.channels())
    # A step that was risked counts as spent once the provider is seen to have billed it.
    assert cost <= sum(row.spent for row in channels) <= cost + risked
    assert cost <= held <= signed <= cost + risked
