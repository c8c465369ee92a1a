"""A verifier by hand: keys, stake, calibration, audits that clients pay for, and what its commands say of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercluster.market.money.units import HCT, parse_price
from hypercluster.node.testnet.anvil import free_port
from tests.e2e.shell import Terminal

pytestmark = pytest.mark.slow

RUN = ["--listen", "/ip4/127.0.0.1/tcp/0", "--refresh", "2", "--claim-multiple", "1000000000"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("town")
    secret = folder / "password"
    secret.write_text("open sesame\n")
    (folder / "testnet").mkdir()
    command = ["hc-testnet", "up", "--port", str(free_port())]
    with Terminal(folder / "testnet").running(*command, until="Ctrl-C ends the chain.") as chain:
        export = next(line for line in chain.printed.splitlines() if "export " in line)
        told = dict(word.split("=", 1) for word in export.split()[1:])
        yield folder, {**told, "HC_PASSWORD_FILE": str(secret)}


def terminal(settings: tuple[Path, dict[str, str]], name: str, **more: str) -> Terminal:
    home = settings[0] / name
    home.mkdir(exist_ok=True)
    return Terminal(home, {**settings[1], **more})


def calibrated_in_a_sentence(judge: Terminal) -> None:
    """O5: progress with the time left, a sentence at the end, the table on demand, and Ctrl-C harms nothing."""
    long = ["hc-verifier", "calibrate", "--texts", "4", "--tokens", "96"]
    with judge.running(*long, until="Calibrating: 10 %, about ") as process:
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(300) == 130
    assert "Traceback" not in process.printed
    bounds = judge.home / "bounds.json"
    short = ["hc-verifier", "calibrate", "--texts", "1", "--tokens", "24", "--bounds", str(bounds)]
    done = judge.run(*short)
    assert done.code == 0, done.err
    sentence, where = done.out.splitlines()
    assert sentence.startswith("Calibrated: 12 honest ways to compute, ")
    assert str(bounds) in where
    assert "Calibrating: 100 %, about 0 s left" in done.err
    kept = bounds.read_bytes()
    with judge.running(*short, until="Calibrating: 10 %") as process:
        process.process.send_signal(signal.SIGINT)
        process.process.wait(300)
    assert bounds.read_bytes() == kept
    table = judge.run(*short, "--table").out
    assert "flash attention, cache q8_0" in table
    assert "accepted up to" in table


def test_a_verifier_by_hand(settings: tuple[Path, dict[str, str]]) -> None:
    provider, judge = terminal(settings, "provider"), terminal(settings, "judge")
    for program, who in (("hc-provider", provider), ("hc-verifier", judge)):
        keys = who.json(program, "init")
        who.json("hc-testnet", "fund", keys["operator"])
        registered = who.json(program, "register")
        assert registered["active_wei"] == 100 * HCT
    calibrated_in_a_sentence(judge)
    found = judge.json("hc-verifier", "calibrate", "--texts", "1", "--tokens", "40")
    assert set(found["limits"]) == {"body", "tail"}
    assert len({row["variation"] for row in found["measured"]}) >= 8
    serve = ["hc-provider", "run", "--layers", "0:8", "--price-rule", "fixed", *RUN]
    with provider.running(*serve, until="/p2p/"):
        [address] = provider.json("hc-provider", "status")["running"]["addresses"]
        judge.settings = {**judge.settings, "HC_BOOTSTRAP": address}
        with judge.running("hc-verifier", "run", "--price", "0.5", *RUN, until="/p2p/") as verifier:
            status = judge.json("hc-verifier", "status")
            assert status["enlisted"] is True
            assert status["running"]["role"] == "verifier"
            client = terminal(settings, "client", HC_BOOTSTRAP=address)
            client.json("hc-client", "init")
            client.json("hc-client", "fund", "--hct", "5")
            said = client.json(
                "hc-client", "generate", "ROMEO:", "-n", "12", "--audit-rate", "1", "--trap-rate", "1", "--wait", "60"
            )  # fmt: skip
            rows = said["prompt_tokens"] + 11
            findings = [audit["finding"] for audit in said["audits"]]
            # A trap needs a row that comes out otherwise behind other rows; sometimes none does.
            assert findings in (["pass", "pass"], ["error", "pass"])
            earned = findings.count("pass") * rows * parse_price("0.5")
            # Who served computes the fault, as a prompt.
            assert said["audit_wei"] == earned + rows * parse_price("0.25")
            assert said["doubtful"] is False
            assert judge.json("hc-verifier", "status")["unclaimed_wei"] == earned
            plain = client.run(
                "hc-client", "generate", "ROMEO:", "-n", "4", "--audit-rate", "1", "--trap-rate", "0"
            )
            assert plain.code == 0
            assert "audit: pass" in plain.err
            bad = client.run("hc-client", "generate", "ROMEO:", "--auditor", "nobody")
            assert (bad.code, "--auditor: 'nobody' is not one of" in bad.err) == (2, True)
            reputation = client.json("hc-client", "reputation")
            assert {node["peer"] for row in reputation for node in row["nodes"]} == {
                said["path"][0]["peer"],
                said["audits"][-1]["auditor"],
            }
            assert all(row["reliability"] > 0.9 for row in reputation)
            assert {row["finding"] for row in client.json("hc-client", "audits")} == {*findings, "pass"}
            export = client.home / "trust.json"
            assert client.run("hc-client", "reputation", "--export", str(export)).code == 0
            assert json.loads(export.read_text())
            assert judge.json("hc-verifier", "cases") == []
            assert judge.json("hc-verifier", "delist")["enlisted"] is False
        assert verifier.process.returncode == 0
        assert "Traceback" not in verifier.printed


def test_what_is_wrong_is_said_in_a_sentence(settings: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    bare = terminal(settings, "bare")
    junk = tmp_path / "bounds.json"
    junk.write_text("{}")
    recording = tmp_path / "there.npz"
    recording.write_bytes(b"no recording")
    operator = bare.json("hc-verifier", "init")["operator"]
    unbacked = bare.run("hc-verifier", "run")
    assert (unbacked.code, "Run hc-verifier register" in unbacked.err) == (1, True), unbacked.err
    bare.json("hc-testnet", "fund", operator)
    assert bare.json("hc-verifier", "register")["added"][:2] == ["100 HCT staked", "node key authorised"]
    for command, words in {
        ("hc-verifier", "run", "--bounds", str(junk)): "The bounds in",
        ("hc-verifier", "run", "--model", "missing.gguf"): "missing.gguf",
        ("hc-verifier", "calibrate", "missing.gguf"): "missing.gguf",
        ("hc-verifier", "calibrate", "--include", str(recording)): "is no recording",
        ("hc-verifier", "run", "--jobs", "17"): "register --share 106.25",
        ("hc-verifier", "register", "--stake", "100000"): "hc-testnet fund",
        ("hc-verifier", "init"): "already",
        ("hc-verifier", "delist"): "NotEnlisted",
    }.items():
        result = bare.run(*command)
        assert result.code == 1, command
        assert words in result.err, result.err
        assert "Traceback" not in result.err


def test_answers_are_recorded_for_other_machines(settings: tuple[Path, dict[str, str]]) -> None:
    here, there = terminal(settings, "here"), terminal(settings, "there")
    recording = there.home / "there.npz"
    small = ["--texts", "1", "--tokens", "32"]
    assert there.run("hc-verifier", "calibrate", "--record", str(recording), *small).code == 0
    found = here.json("hc-verifier", "calibrate", "--include", str(recording), *small)
    assert any(row["variation"].startswith("recorded: ") for row in found["measured"])
