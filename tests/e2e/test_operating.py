"""Operating nodes by hand: one home and one process, restarts that forget nothing, and what the commands say of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from hypercluster.market.chain import Deployment
from tests.e2e.shell import Result, Running, Terminal

pytestmark = pytest.mark.slow

RUN = ["--listen", "/ip4/127.0.0.1/tcp/0", "--refresh", "2", "--claim-multiple", "1000000000"]
SERVE = ["hc-provider", "run", "--layers", "0:8", "--price-rule", "fixed", *RUN]


@pytest.fixture(scope="module")
def provider(anvil: str, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A staked provider's home."""
    folder = tmp_path_factory.mktemp("operating")
    deployment.save(folder / "deployment.json")
    (folder / "password").write_text("open sesame\n")
    home = folder / "home"
    home.mkdir()
    settings = {
        "HC_RPC_URL": anvil,
        "HC_DEPLOYMENT": str(folder / "deployment.json"),
        "HC_PASSWORD_FILE": str(folder / "password"),
        "TMPDIR": str(folder),
    }
    terminal = Terminal(home, settings)
    made = terminal.json("hc-provider", "init")
    terminal.json("hc-testnet", "fund", made["operator"])
    terminal.json("hc-provider", "register")
    return terminal


@pytest.fixture(scope="module")
def serving(provider: Terminal) -> Iterator[Running]:
    with provider.running(*SERVE, until="/p2p/") as process:
        yield process


def sentence(done: Result) -> str:
    """The error of a command that failed as it should."""
    assert done.code == 1, done.out + done.err
    assert "Traceback" not in done.err + done.out
    return " ".join(done.err.split())


def test_f2_a_second_node_in_one_home_is_refused(provider: Terminal, serving: Running) -> None:
    """F2: whoever has the home is named by program and pid; a verifier has the same node key."""
    held = f"hc-provider run (pid {serving.process.pid}) serves with the node key"
    assert held in sentence(provider.run(*SERVE))
    assert held in sentence(provider.run("hc-verifier", "run", *RUN))
    assert serving.process.poll() is None
    # The marker of the first is still there, and says what is true.
    assert provider.json("hc-provider", "status")["running"]["pid"] == serving.process.pid


def test_f2_a_copy_of_the_home_is_refused(provider: Terminal, serving: Running) -> None:
    """F2: a second home with the same key."""
    copy = provider.home.parent / "copy"
    shutil.copytree(provider.home, copy)
    said = sentence(Terminal(copy, provider.settings).run(*SERVE))
    assert f"(pid {serving.process.pid}) runs with the same node key" in said
    assert str(provider.home) in said


def test_short_commands_work_beside_a_running_provider(provider: Terminal, serving: Running) -> None:
    assert provider.json("hc-provider", "earnings")["channels"] == []
    assert provider.json("hc-provider", "claim")["claimed_wei"] == 0
    assert provider.json("hc-provider", "prices") == []
    assert provider.json("hc-verifier", "status")["running"]["pid"] == serving.process.pid
