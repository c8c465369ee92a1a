"""`hc up` and `hc chat`: from nothing to a paid chat, and nothing left of it at the end, however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypercluster.node.home.profile import profile_at
from hypercluster.node.testnet.anvil import free_port
from tests.e2e.shell import BIN, Result, Running, Terminal, descendants
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


@dataclass
class House:
    """What `hc up` runs: the terminal that it was started in, the process, and what it printed."""

    terminal: Terminal
    up: Running
    door: dict[str, Any]

    def stranger(self, home: Path, profile: Path | None = None) -> Terminal:
        """A terminal of somebody else, who has the profile and nothing else."""
        home.mkdir(exist_ok=True)
        (home / "password").write_text("of somebody else\n")
        settings = {"HC_PASSWORD_FILE": str(home / "password")}
        return Terminal(home, settings | {"HC_PROFILE": str(profile or self.door["profile"])})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """`hc up` over the verse model; that nothing is left of it is looked at in the end."""
    home = tmp_path_factory.mktemp("house")
    terminal = Terminal(home)
    command = ["hc", "up", "--model", "verse", "--port", str(free_port()), "--json"]
    with terminal.running(*command, until=READY) as up:
        up.wait_for('"home"')
        started = descendants(up.process.pid)
        assert len(started) >= 6
        yield House(terminal, up, opened(up))
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(300) == 0
    assert "Traceback" not in up.printed
    assert not (home / "up.json").exists()
    gone(home, started)


def test_a_chat_in_the_terminal_is_paid_for(house: House) -> None:
    terminal = house.terminal
    assert house.door["models"] == ["verse"]
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
    assert "no model 'a/../b?c#d' here" in chat(terminal, "ROMEO:\n", "--model", "a/../b?c#d").err
    assert "nothing was said" in chat(terminal, "\n").err


def test_ctrl_c_stops_an_answer_that_is_paid_as_far_as_it_came(house: House) -> None:
    with subprocess.Popen(
        [str(BIN / "hc"), "chat", "-n", "450"],
        env=house.terminal.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as talking:
        assert talking.stdin is not None
        assert talking.stdout is not None
        assert talking.stderr is not None
        talking.stdin.write(b"ROMEO:\n")
        talking.stdin.flush()
        assert os.read(talking.stdout.fileno(), 1)
        talking.send_signal(signal.SIGINT)
        assert talking.wait(30) == 130
        said = talking.stderr.read().decode()
    assert "[stopped; what came is paid for]" in said
    assert "Traceback" not in said


def test_programs_and_a_browser_come_in(house: House) -> None:
    with httpx.Client(base_url=house.door["base_url"], trust_env=False, timeout=600) as http:
        asked = {"model": "verse", "prompt": "ROMEO:", "max_tokens": 4}
        assert http.post("/completions", json=asked).status_code == 401
        paid = http.post("/completions", json=asked, headers={"Authorization": f"Bearer {house.door['key']}"})
        assert paid.json()["usage"]["completion_tokens"] == 4
    with httpx.Client(trust_env=False, follow_redirects=True) as browser:
        page = browser.get(house.door["link"])
        assert page.status_code == 200
        assert "HyperCluster" in page.text
        assert browser.get(page.url.join("/hc/me")).json()["role"] == "gateway"


def test_one_home_has_one_of_it_and_its_secrets_are_private(house: House) -> None:
    home = house.terminal.home
    second = house.terminal.run("hc", "up", "--model", "verse")
    assert second.code == 1
    assert f"hc up runs in {home} already (pid {house.up.process.pid}): talk to it with hc chat" in second.err
    for private in ("up.json", "up.key"):
        assert stat.S_IMODE((home / private).stat().st_mode) == 0o600


def test_whoever_has_the_profile_looks_around_without_keys_or_a_chain(house: House, tmp_path: Path) -> None:
    looker = house.stranger(tmp_path / "home")
    seen = looker.json("hc-client", "peers")
    assert len(seen) == 5
    assert all(each["stake_checked"] for each in seen)

    offline = tmp_path / "offline.json"
    replace(profile_at(house.door["profile"], tmp_path), rpc_url="http://127.0.0.1:9").save(offline)
    blind = house.stranger(tmp_path / "blind", offline)
    unchecked = blind.run("hc-client", "peers", "--model", "VERSE", "--json")
    assert {each["peer"] for each in unchecked.json} == {each["peer"] for each in seen}
    assert not any(each["stake_checked"] for each in unchecked.json)
    assert "Not checked against stake" in unchecked.err
    del blind.settings["HC_PROFILE"]
    route = blind.json("hc-client", "path", "--profile", str(offline))
    assert [node["layers"] for node in route["nodes"]] == [[0, 2], [2, 4], [4, 6], [6, 8]]
    assert route["stake_checked"] is False
    assert not list(blind.home.glob("**/*.gguf"))
    advised = blind.json("hc-provider", "advise", "--profile", str(offline), "--threads", "1")
    assert advised["ranges"]
    assert advised["stake_checked"] is False
    paying = blind.run("hc-client", "balance", "--profile", str(offline))
    assert paying.code == 1
    assert "127.0.0.1:9" in paying.err


def test_joining_makes_a_wallet_and_pays_from_it(house: House, tmp_path: Path) -> None:
    guest = house.stranger(tmp_path / "guest")
    profile = guest.settings.pop("HC_PROFILE")
    port = str(free_port())
    with guest.running("hc", "up", "--join", profile, "--port", port, until="Ctrl-C ends all of it.") as up:
        assert "The keys of your wallet are made" in up.printed
        assert "HCT of play money" in up.printed
        turn = chat(guest, "ROMEO:\n", "-n", "4", "--json").json["turns"][0]
        assert turn["cost_wei"] > 0
        key = (guest.home / "up.key").read_text()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(300) == 0
    balance = guest.json("hc-client", "balance", "--profile", profile)
    assert balance["spent_wei"] == turn["cost_wei"]
    keys = guest.json("hc-gateway", "keys", "list")
    assert [each["name"] for each in keys] == ["hc up"]
    assert keys[0]["budget_wei"]
    assert key.startswith(keys[0]["prefix"])


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
        assert again.process.wait(300) == 130
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
