"""Operating nodes by hand: one home and one process, restarts that forget nothing, and what the commands say of it."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hypercluster.market.chain import Chain, Deployment
from hypercluster.market.ledger import Ledger, PriceRow
from hypercluster.market.money.units import HCT, parse_price
from hypercluster.node.serving.stopping import ECHO_SECONDS
from hypercluster.node.shards import Manifest
from tests.e2e.shell import Result, Running, Terminal
from tests.market.proxy import hanging
from tests.node.helpers.providers import FREE, new_wallet

pytestmark = pytest.mark.slow

RUN = ["--listen", "/ip4/127.0.0.1/tcp/0", "--refresh", "2", "--claim-multiple", "1000000000"]
ADAPT = [
    "hc-provider",
    "run",
    "--layers",
    "0:8",
    "--price-every",
    "1000",
    "--refresh",
    "2",
    "--claim-multiple",
    "1000000000",
]
OWED = 2 * HCT
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
    registered = terminal.json("hc-provider", "register")
    # Twice is as good as once: nothing is staked again.
    assert terminal.json("hc-provider", "register") == {**registered, "added": []}
    return terminal


@pytest.fixture(scope="module")
def serving(provider: Terminal) -> Iterator[Running]:
    """The provider as SERVE starts it, but told by a file of settings; it shows itself over HTTP."""
    config = provider.home.parent / "hc.toml"
    config.write_text(
        '[provider]\nlayers = "0:8"\nprice-rule = "fixed"\nlisten = "/ip4/127.0.0.1/tcp/0"\nrefresh = 2\n'
        'claim_multiple = 1000000000\nhttp = ["127.0.0.1:0"]\n'
    )
    with provider.running("hc-provider", "run", "--config", str(config), until="login?t=") as process:
        yield process


def sentence(done: Result, code: int = 1) -> str:
    """The error of a command that failed as it should."""
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.err + done.out
    return " ".join(done.err.split())


def test_i5_o3_o8_a_restart_forgets_neither_port_nor_price(provider: Terminal) -> None:
    """I5, O3, O8: after kill -9, without any of the flags; and a session holds what the model holds."""
    first = ["--listen", "/ip4/127.0.0.1/tcp/0", "--session-tokens", "100000"]
    with provider.running(*ADAPT, *first, until="/p2p/") as process:
        assert "4 sessions of up to 512 tokens" in process.printed
        before = provider.json("hc-provider", "status")["running"]
        process.process.kill()
        process.process.wait()
    assert before["session_tokens"] == 512
    assert provider.json("hc-provider", "status")["running"] is None
    with Ledger(f"sqlite:///{provider.home / 'ledger.sqlite'}") as ledger:
        ledger.history.save_price(
            PriceRow(
                model_id=demo_manifest(provider).model_id,
                layer_start=0,
                layer_stop=8,
                price_before=parse_price("4"),
                price_after=parse_price("4.99"),
                gradient=0.1,
                probability=0.5,
                inputs={"next_prompt_price_wei": parse_price("1.2")},
            )
        )
    with provider.running(*ADAPT, until="/p2p/") as process:
        after = provider.json("hc-provider", "status")["running"]
        assert (after["addresses"], after["peer"]) == (before["addresses"], before["peer"])
        assert "price 4.99 HCT per million tokens" in process.printed
    assert process.process.returncode == 0
    host, port = after["addresses"][0].split("/")[2], int(after["addresses"][0].split("/")[4])
    with socket.create_server((host, port)):
        said = sentence(provider.run(*ADAPT))
    assert f"/ip4/{host}/tcp/{port}" in said
    assert "the address of the last run" in said


def demo_manifest(provider: Terminal) -> Manifest:
    [path] = (provider.home / "models").glob("*/manifest.json")
    return Manifest.load(path)


def test_a_provider_shows_itself_to_whoever_opens_a_link(provider: Terminal, serving: Running) -> None:
    [link] = re.findall(r"http://\S+/login\?t=\S+", serving.printed)
    url = link.partition("/login")[0]
    another = provider.json("hc-provider", "link")["link"]
    for each in (link, another):
        with httpx.Client(base_url=url) as browser:
            assert browser.get("/hc/provider").status_code == 401
            assert browser.get(each).status_code == 303
            found = browser.get("/hc/provider").json()
            assert found["layers"] == [0, 8]
            assert found["price_rule"] == "fixed"
    assert httpx.get(f"{url}/readyz").json()["status"] == "ready"
    assert "hypercluster_up_ready 1.0" in httpx.get(f"{url}/metrics").text
    refused = sentence(provider.run("hc-verifier", "link"))
    assert "Nothing that has pages runs from" in refused


def test_f2_a_second_node_in_one_home_is_refused(provider: Terminal, serving: Running) -> None:
    """F2: whoever has the home is named by program and pid; a verifier has the same node key."""
    held = f"hc-provider run (pid {serving.process.pid}) serves with the node key"
    assert held in sentence(provider.run(*SERVE), 75)
    assert held in sentence(provider.run("hc-verifier", "run", *RUN), 75)
    assert serving.process.poll() is None
    # The marker of the first is still there, and says what is true.
    assert provider.json("hc-provider", "status")["running"]["pid"] == serving.process.pid


def test_f2_a_copy_of_the_home_is_refused(provider: Terminal, serving: Running) -> None:
    """F2: a second home with the same key."""
    copy = provider.home.parent / "copy"
    shutil.copytree(provider.home, copy)
    said = sentence(Terminal(copy, provider.settings).run(*SERVE), 75)
    assert f"(pid {serving.process.pid}) runs with the same node key" in said
    assert str(provider.home) in said


def test_short_commands_work_beside_a_running_provider(provider: Terminal, serving: Running) -> None:
    assert provider.json("hc-provider", "earnings")["channels"] == []
    assert provider.json("hc-provider", "claim")["claimed_wei"] == 0
    assert all(step["layers"] == [0, 8] for step in provider.json("hc-provider", "prices"))
    assert provider.json("hc-verifier", "status")["running"]["pid"] == serving.process.pid


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_x4_a_chain_that_hangs_does_not_hold_up_the_end(
    provider: Terminal, anvil: str, chain: Chain, again: bool
) -> None:
    """X4: TERM takes its leave within a bound that is well below the chain's own patience; a second one ends it now."""
    home = provider.home.parent / f"hanging-{again}"
    home.mkdir()
    with hanging(anvil) as (url, hangs):
        terminal = Terminal(home, {**provider.settings, "HC_RPC_URL": url})
        made = terminal.json("hc-provider", "init")
        terminal.json("hc-testnet", "fund", made["operator"])
        terminal.json("hc-provider", "register")
        owe(chain, home, made["operator"])
        with terminal.running(*SERVE, until="/p2p/") as process:
            hangs.set()
            process.process.send_signal(signal.SIGTERM)
            if again:
                process.wait_for("stopping")
                time.sleep(2 * ECHO_SECONDS)
                process.process.send_signal(signal.SIGTERM)
            process.process.wait(300)
        assert process.process.returncode == (130 if again else 0), process.printed
        assert ("told twice to end" if again else "stays in the ledger") in process.printed
        assert "Traceback" not in process.printed
    # Nothing is lost by it.
    terminal.settings = provider.settings
    assert terminal.json("hc-provider", "status")["unclaimed_wei"] == OWED
    assert terminal.json("hc-provider", "claim")["claimed_wei"] == OWED


def owe(chain: Chain, home: Path, operator: str) -> None:
    """A client has paid this provider, which has not claimed it yet."""
    paying = new_wallet(chain).channel(operator, OWED)
    cumulative, signature = paying.authorise(OWED, FREE)
    with Ledger(f"sqlite:///{home / 'ledger.sqlite'}") as ledger:
        ledger.payee.adopt(paying.domain, paying.descriptor, deposit=OWED)
        ledger.payee.store_voucher(paying.channel_id, cumulative, signature, cumulative)
