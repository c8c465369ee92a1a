"""A command loads what its own work needs, and nothing else; --version and completion are quick and there for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hypercluster.market.chain import Chain, Deployment
from hypercluster.node.home import keys
from hypercluster.node.home.settings import Settings

BIN = Path(sys.executable).parent
PROGRAMS = ["provider", "client", "verifier", "testnet", "model", "market"]
NODE = "16Uiu2HAm5hPxT7s3TA2f4b4YjAPzS7yLRSgdj87ysDZ6NAXMiRuY"
CHAIN = {"web3"}
LEDGER = {"sqlalchemy"}
NOTHING: set[str] = set()
HEAVY = {
    "alembic", "apscheduler", "eth_account", "gguf", "libp2p", "llama_cpp", "matplotlib", "numpy", "polars", "scipy",
    "sqlalchemy", "trio", "web3",
}  # fmt: skip
COMES_WITH_WEB3 = {"eth_account"}
SCRIPT = """
import atexit, json, sys
from hypercluster.node.cli import start
program, *sys.argv[1:] = sys.argv[1:]
atexit.register(lambda: print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr))
start.program(f"hypercluster.node.cli.{program}.app")()
"""


def loaded(command: str, environment: dict[str, str]) -> set[str]:
    """The heavy packages that a command has loaded when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *command.split()],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("HC_")},
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    return HEAVY & set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture(scope="module")
def environment(
    anvil: str, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """A home with all keys, cheap ones, its ledger made, and a chain."""
    home = tmp_path_factory.mktemp("home")
    for key in keys.Key:
        keys.create(home, key, "secret", work=2)
    deployment.save(home / "deployment.json")
    environment = {"HC_HOME": str(home), "HC_RPC_URL": anvil, "HC_DEPLOYMENT": str(home / "deployment.json")}
    loaded("client audits", environment)
    return environment


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("client --version", NOTHING),
        ("client --help", NOTHING),
        ("client generate --help", NOTHING),
        ("client balance", CHAIN | LEDGER),
        ("client audits", LEDGER),
        ("client channels", CHAIN | LEDGER),
        ("provider status", CHAIN | LEDGER),
        ("provider earnings", CHAIN | LEDGER),
        ("provider prices", LEDGER),
        ("verifier status", CHAIN | LEDGER),
        ("verifier cases", CHAIN | LEDGER),
    ],
)
def test_t1_commands_load_what_they_need(
    command: str, needed: set[str], environment: dict[str, str], chain: Chain
) -> None:
    """T1: none of these reads a model, talks to a peer or computes."""
    assert chain.timestamp()
    found = loaded(command, environment)
    assert found - COMES_WITH_WEB3 == needed


@pytest.mark.parametrize("command", ["peers", "path"])
def test_t1_looking_at_the_network_needs_no_engine(command: str, environment: dict[str, str]) -> None:
    """T1: the network is asked, no model is computed and no text is cut into tokens."""
    settings = {**environment, "HC_BOOTSTRAP": f"/ip4/127.0.0.1/tcp/9/p2p/{NODE}"}
    found = loaded(f"client {command} --wait 0", settings)
    assert "libp2p" in found
    assert not {"llama_cpp", "alembic", "scipy", "matplotlib", "polars"} & found


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_has_a_version_and_completion(program: str) -> None:
    name = f"hc-{program}"

    def asked(*words: str, **settings: str) -> str:
        # It looks which shell called it, and who runs the tests may have none.
        return subprocess.run(
            ["bash", "-c", '"$0" "$@"; exit $?', str(BIN / name), *words],
            env={**os.environ, **settings},
            capture_output=True,
            check=True,
            text=True,
        ).stdout

    assert asked("--version").split()[0] == name
    assert f"complete -o default -F _hc_{program}_completion {name}" in asked("--show-completion")
    variable = f"_HC_{program.upper()}_COMPLETE"
    bash = {variable: "complete_bash", "COMP_CWORD": "1"}
    commands = asked(COMP_WORDS=f"{name} ", **bash).split()
    first = commands[0]
    assert asked(COMP_WORDS=f"{name} {first[:2]}", **bash).split()[0][:2] == first[:2]
    options = asked(COMP_WORDS=f"{name} {first} --", **{**bash, "COMP_CWORD": "2"}).split()
    assert "--help" in options


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_names_every_setting(program: str) -> None:
    told = subprocess.run(
        [str(BIN / f"hc-{program}"), "--help"], capture_output=True, check=True, text=True
    ).stdout
    for name in Settings.model_fields:
        assert f"HC_{name.upper()}" in told
