"""`hc up` and `hc chat`: from nothing to a paid chat, and nothing left of it at the end, however it ends."""

from __future__ import annotations

import json
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.node.home.profile import profile_at
from hypercluster.node.testnet.anvil import free_port
from tests.e2e.shell import Result, Running, Terminal, descendants
from tests.e2e.test_demo import gone

pytestmark = pytest.mark.slow
READY = '"key"'


def opened(up: Running) -> dict[str, Any]:
    """The document that `hc up --json` prints when it is ready."""
    out = up.printed
    found: dict[str, Any] = json.JSONDecoder().raw_decode(out[out.index("{") :])[0]
    return found


def chat(terminal: Terminal, said: str, *more: str) -> Result:
    return terminal.run("hc", "chat", *more, stdin=said.encode())


def test_a_network_of_ones_own_a_paid_chat_and_an_end(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    assert "start hc up in another terminal" in chat(terminal, "ROMEO:\n").err
    port = free_port()
    command = ["hc", "up", "--model", "verse", "--port", str(port), "--json"]
    with terminal.running(*command, until=READY) as up:
        up.wait_for('"home"')
        door = opened(up)
        started = descendants(up.process.pid)
        assert len(started) >= 6
        assert door["base_url"] == f"http://127.0.0.1:{port}/v1"
        assert door["models"] == ["verse"]
        for private in ("up.json", "up.key"):
            assert stat.S_IMODE((tmp_path / private).stat().st_mode) == 0o600

        second = terminal.run("hc", "up", "--model", "verse")
        assert second.code == 1
        assert (
            f"hc up runs in {tmp_path} already (pid {up.process.pid}): talk to it with hc chat" in second.err
        )

        answers = chat(terminal, "ROMEO:\n\nJULIET:\n", "-n", "8", "--json")
        assert answers.code == 0, answers.err
        turns = answers.json["turns"]
        assert [turn["tokens"] for turn in turns] == [8, 8]
        assert all(turn["cost_wei"] > 0 and turn["text"] for turn in turns)
        told = chat(terminal, "ROMEO:\n", "-n", "4", "--temperature", "0")
        assert told.out.strip()
        assert "4 tokens, 0.0" in told.err
        assert "HCT to 4 providers, length]" in told.err
        assert "no model" in chat(terminal, "ROMEO:\n", "--model", "gpt-4").err

        with httpx.Client(base_url=door["base_url"], trust_env=False, timeout=60) as http:
            asked = {"model": "verse", "prompt": "ROMEO:", "max_tokens": 4}
            assert http.post("/completions", json=asked).status_code == 401
            paid = http.post("/completions", json=asked, headers={"Authorization": f"Bearer {door['key']}"})
            assert paid.json()["usage"]["completion_tokens"] == 4
        with httpx.Client(trust_env=False, follow_redirects=True) as browser:
            page = browser.get(door["link"])
            assert page.status_code == 200
            assert "HyperCluster" in page.text
            assert browser.get(f"http://127.0.0.1:{port}/hc/me").json()["role"] == "gateway"

        profile = profile_at(door["profile"], tmp_path)
        assert [model.name for model in profile.models] == ["verse"]
        assert profile.bootstrap

        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0
    assert "Traceback" not in up.printed
    assert not (tmp_path / "up.json").exists()
    gone(tmp_path, started)


def test_a_killed_run_is_cleared_away_its_key_stays_and_ctrl_c_ends_a_start(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    command = ["hc", "up", "--model", "verse", "--port", str(free_port())]
    with terminal.running(*command, until="Ctrl-C ends all of it.") as up:
        started = descendants(up.process.pid)
        key = (tmp_path / "up.key").read_text()
        assert key.strip() in up.printed
        up.process.kill()
    assert "start hc up in another terminal" in chat(terminal, "ROMEO:\n").err
    with terminal.running(*command, until="were still there: ended") as again:
        again.wait_for(": provider of layers 0:2")
        started += descendants(again.process.pid)
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(60) == 130
    assert "Traceback" not in again.printed
    assert (tmp_path / "up.key").read_text() == key
    gone(tmp_path, started)


def test_what_is_wrong_is_said_before_anything_is_started(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, {"HC_CACHE": str(tmp_path / "cache")})
    said = {
        ("--model", "nobody"): "no model called 'nobody', and no such file",
        ("--model", "./nobody.gguf"): "There is no model file or folder",
        ("--join", str(tmp_path / "none.json")): "cannot be read: No such file",
        ("--join", "http://example.org/net.json"): "a file or an https URL",
        ("--model", "verse", "--model", "smollm2"): "several times with --join only",
        ("--port", "0"): "no whole number from 1",
    }
    for options, sentence in said.items():
        result = terminal.run("hc", "up", *options)
        assert result.code in (1, 2)
        assert sentence in result.err, result.err
        assert "Traceback" not in result.err
    assert not (tmp_path / "up.json").exists()


def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = Terminal(tmp_path).run("hc", "up", "--model", "verse", "--port", str(port))
    assert result.code == 1
    assert f"port {port} of this machine cannot be used" in result.err
    assert not (tmp_path / "up" / "deployment.json").exists()
    assert "Traceback" not in result.err
    gone(tmp_path, [])
