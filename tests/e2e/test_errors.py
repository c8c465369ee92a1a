"""What goes wrong on the command lines ends in one sentence, without a traceback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hypercluster.market.chain import Deployment
from tests.e2e.shell import Result, Terminal

PASSWORD = "correct horse"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deployment_file(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("deployment") / "deployment.json"
    deployment.save(path)
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Terminal:
    """A terminal where nobody has set anything."""
    return Terminal(tmp_path, {"HC_RPC_URL": "http://127.0.0.1:9"})


@pytest.fixture
def terminal(anvil: str, deployment_file: Path, tmp_path: Path) -> Terminal:
    """A terminal with a chain and a password."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    settings = {"HC_RPC_URL": anvil, "HC_DEPLOYMENT": str(deployment_file), "HC_PASSWORD_FILE": str(secret)}
    return Terminal(tmp_path, settings)


def sentence(done: Result, code: int = 1) -> str:
    """The error of a command that failed as it should."""
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.err + done.out
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.err
    assert lines[0].rstrip().endswith(".")
    return lines[0]


@pytest.mark.parametrize(
    "command",
    ["hc-provider status", "hc-client path", "hc-testnet fund 0x" + "11" * 20],
)
def test_no_deployment(bare: Terminal, command: str) -> None:
    assert "hc-testnet up" in sentence(bare.run(*command.split()))


@pytest.mark.parametrize(
    "command",
    [
        "hc-client balance",
        "hc-provider status",
        "hc-provider claim",
        "hc-verifier status",
        "hc-testnet fund 0x" + "11" * 20,
    ],
)
def test_contracts_that_are_others(terminal: Terminal, command: str) -> None:
    """No program deals with contracts that are not what the deployment says."""
    file = Path(terminal.settings["HC_DEPLOYMENT"])
    other = terminal.home.parent / "other.json"
    deployment = Deployment.load(file)
    replace(deployment, code=deployment.code | {"channels": "0" * 64}).save(other)
    terminal.settings["HC_DEPLOYMENT"] = str(other)
    assert "The code of the channels" in sentence(terminal.run(*command.split()))


def test_no_chain(terminal: Terminal) -> None:
    terminal.settings["HC_RPC_URL"] = "http://127.0.0.1:9"
    assert "http://127.0.0.1:9" in sentence(terminal.run("hc-client", "path"))


@pytest.mark.parametrize(
    "command",
    ["hc-provider run --layers 0:4", "hc-client balance"],
)
def test_no_keys(terminal: Terminal, command: str) -> None:
    assert "init" in sentence(terminal.run(*command.split()))


def test_wrong_password(terminal: Terminal) -> None:
    assert terminal.run("hc-client", "init").code == 0
    Path(terminal.settings["HC_PASSWORD_FILE"]).write_text("wrong\n")
    told = sentence(terminal.run("hc-client", "close"))
    assert "password" in told
    assert PASSWORD not in told


def test_no_password(terminal: Terminal) -> None:
    del terminal.settings["HC_PASSWORD_FILE"]
    assert "HC_PASSWORD_FILE" in sentence(terminal.run("hc-client", "init"))


def test_keys_are_never_overwritten(terminal: Terminal) -> None:
    assert terminal.run("hc-provider", "init").code == 0
    before = (terminal.home / "keys" / "operator.json").read_bytes()
    sentence(terminal.run("hc-provider", "init"))
    assert (terminal.home / "keys" / "operator.json").read_bytes() == before


@pytest.mark.parametrize(("layers", "code"), [("3:2", 2), ("0:99", 1)])
def test_bad_layers(terminal: Terminal, layers: str, code: int) -> None:
    assert terminal.run("hc-provider", "init").code == 0
    told = sentence(terminal.run("hc-provider", "run", f"--layers={layers}"), code=code)
    assert "layer" in told.lower() or "range" in told.lower()


def test_no_bootstrap(terminal: Terminal) -> None:
    assert terminal.run("hc-client", "init").code == 0
    assert "--bootstrap" in sentence(terminal.run("hc-client", "generate", "ROMEO:"))


def test_a_bootstrap_address_that_is_none(terminal: Terminal) -> None:
    told = sentence(terminal.run("hc-client", "path", "--bootstrap", "localhost:4001"), code=2)
    assert "localhost:4001" in told


def test_nobody_to_be_found(terminal: Terminal) -> None:
    # The address is one where nobody listens.
    peer = "16Uiu2HAm5hPxT7s3TA2f4b4YjAPzS7yLRSgdj87ysDZ6NAXMiRuY"
    address = f"/ip4/127.0.0.1/tcp/9/p2p/{peer}"
    told = sentence(terminal.run("hc-client", "path", "--bootstrap", address, "--wait", "1"))
    assert f"{address} refused the connection" in told


def test_an_operator_without_money(terminal: Terminal) -> None:
    assert terminal.run("hc-provider", "init").code == 0
    assert "holds 0 HCT" in sentence(terminal.run("hc-provider", "register"))
    assert "NotOperator" in sentence(terminal.run("hc-provider", "revoke"))
    told = sentence(terminal.run("hc-provider", "register", "--share", "100", "--sessions", "8"), code=2)
    assert "--share" in told
    assert "give one of them" in told


@pytest.mark.parametrize("amount", ["ten"])
def test_bad_amounts(terminal: Terminal, amount: str) -> None:
    assert terminal.run("hc-client", "init").code == 0
    refused = terminal.run("hc-client", "fund", f"--hct={amount}")
    assert refused.code == 2
    assert amount in refused.err


def test_a_model_that_is_not_there(terminal: Terminal) -> None:
    assert terminal.run("hc-provider", "init").code == 0
    told = sentence(terminal.run("hc-provider", "run", "--layers", "0:1", "--model", "nowhere.gguf"))
    assert "nowhere.gguf" in told


def test_a_file_that_is_no_model(terminal: Terminal) -> None:
    (terminal.home / "text.gguf").write_text("not a model")
    assert terminal.run("hc-provider", "init").code == 0
    sentence(terminal.run("hc-provider", "run", "--layers", "0:1", "--model", "text.gguf"))


def test_a_deployment_file_that_is_none(terminal: Terminal) -> None:
    bad = terminal.home / "bad.json"
    bad.write_text("{")
    terminal.settings["HC_DEPLOYMENT"] = str(bad)
    sentence(terminal.run("hc-client", "path"))


def test_settings_that_are_none(terminal: Terminal) -> None:
    terminal.settings["HC_LOG_LEVEL"] = "LOUD"
    sentence(terminal.run("hc-client", "path"))


def test_a_taken_port(terminal: Terminal, anvil: str) -> None:
    told = sentence(terminal.run("hc-testnet", "up", "--port", anvil.rpartition(":")[2]))
    assert anvil.rpartition(":")[2] in told


def test_unstaking_what_is_not_there(terminal: Terminal) -> None:
    address = terminal.json("hc-provider", "init")["operator"]
    terminal.json("hc-testnet", "fund", address)
    sentence(terminal.run("hc-provider", "unstake", "5"))
    sentence(terminal.run("hc-provider", "withdraw"))


def test_a_home_is_backed_up_and_restored(bare: Terminal) -> None:
    """What is there already is never overwritten."""
    secret, file = bare.home / "password", str(bare.home / "home.tar.gz")
    secret.write_text(PASSWORD + "\n")
    bare.settings |= {"HC_PASSWORD_FILE": str(secret), "HC_HOME": str(bare.home / "one")}
    assert "no keys" in sentence(bare.run("hc-client", "backup", file))
    assert bare.run("hc-client", "init").code == 0
    assert "the ledger is not in it" in bare.run("hc-client", "backup", file).out
    assert "there already" in sentence(bare.run("hc-client", "restore", file))
    bare.settings["HC_HOME"] = str(bare.home / "again")
    assert bare.run("hc-client", "restore", file, "--json").json["node_key_set_aside"] is False
