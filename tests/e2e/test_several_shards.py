"""One provider that serves several shards: a node key, an advert and books for each, in one process."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercluster.market.money.units import HCT
from hypercluster.node.home.further import further_home
from hypercluster.node.shards.store import demo_model
from hypercluster.node.testnet.faucet import give
from hypercluster.node.testnet.localnet import LocalNetwork, running_chain
from tests.e2e.shell import Terminal
from tests.node.helpers.random_models import Shape, write_random_model

pytestmark = pytest.mark.slow

RUN = (
    *("hc-provider", "run", "--listen", "/ip4/127.0.0.1/tcp/0", "--price-rule", "fixed"),
    *("--sessions", "1", "--session-tokens", "256", "--claim-every", "1", "--claim-multiple", "0"),
)
ASK = ("--audit-rate", "0", "--temperature", "0", "--wait", "120")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    with running_chain(tmp_path_factory.mktemp("chain")) as chain:
        yield chain


@pytest.fixture(scope="module")
def provider(chain: LocalNetwork) -> Terminal:
    """A home with keys for three shards, each staked for."""
    provider = Terminal.beside(chain, "provider")
    first = provider.json("hc-provider", "init")
    assert first["further"] == []
    more = provider.json("hc-provider", "init", "--shards", "3")
    assert (more["node"], more["operator"]) == (first["node"], first["operator"])
    assert len({first["node"], *(each["node"] for each in more["further"])}) == 3
    give(chain.chain, first["operator"], 1000 * HCT)
    registered = provider.json("hc-provider", "register")
    assert [each["sessions"] >= 1 for each in registered["further"]] == [True, True]
    return provider


def test_shards_of_two_models_are_served_paid_and_shown(
    chain: LocalNetwork, provider: Terminal, tmp_path: Path
) -> None:
    """One command, one process: two halves of one model, all of another; each paid over a channel of its own."""
    other = write_random_model(tmp_path / "other.gguf", Shape())
    serve = (*RUN, "--layers", "0:4", "--also", f"{demo_model()}=4:8", "--also", f"{other}=0:4")
    with provider.running(*serve, until="Serving layers 0:4 of model") as process:
        deadline = time.monotonic() + 300
        while process.printed.count("others join through") < 3:
            assert time.monotonic() < deadline, process.printed
            time.sleep(0.1)
        status = provider.json("hc-provider", "status")
        shown = [status["running"], *(each["running"] for each in status["further"])]
        assert [each["layers"] for each in shown] == [[0, 4], [4, 8], [0, 4]]
        assert len({each["peer"] for each in shown}) == 3
        assert {each["pid"] for each in shown} == {process.process.pid}
        client = Terminal.beside(chain, "client", HC_BOOTSTRAP=shown[0]["addresses"][0])
        client.json("hc-client", "init")
        client.json("hc-client", "fund", "--hct", "10")
        said = client.json("hc-client", "generate", "ROMEO:", "-n", "8", *ASK)
        assert [hop["peer"] for hop in said["path"]] == [each["peer"] for each in shown[:2]]
        client.settings["HC_BOOTSTRAP"] = shown[2]["addresses"][0]
        again = client.json("hc-client", "generate", "hello", "-n", "4", "--model", str(other), *ASK)
        assert [hop["peer"] for hop in again["path"]] == [shown[2]["peer"]]
        spent = said["spent_wei"] + again["spent_wei"]
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(300) == 0, process.printed
    assert "Traceback" not in process.printed
    status = provider.json("hc-provider", "status")
    assert [status["running"], *(each["running"] for each in status["further"])] == [None] * 3
    assert status["balance_wei"] + status["active_wei"] == 1000 * HCT + spent
    # Each further home is one like any other.
    home = further_home(provider.home, 2)
    second = Terminal(home, {**provider.settings, "HC_HOME": str(home)})
    assert second.json("hc-provider", "status")["node"] == status["further"][0]["node"]


def test_memory_is_shared_out_by_what_shards_take(provider: Terminal) -> None:
    verse = str(demo_model())
    short = provider.run(*RUN, "--layers", "0:4", "--also", f"{verse}=4:8", "--memory", "0.001")
    assert short.code == 1
    assert "GiB with 1 session each, and 0.00 GiB may be used" in short.err
    assert "Traceback" not in short.err
    with provider.running(
        *RUN, "--layers", "0:6", "--also", f"{verse}=auto", until="Serving layers 6:8 of model"
    ):
        status = provider.json("hc-provider", "status")
        assert status["further"][0]["running"]["layers"] == [6, 8]


def test_what_is_wrong_with_several_shards_is_said(provider: Terminal, chain: LocalNetwork) -> None:
    verse = str(demo_model())
    four = [part for _ in range(3) for part in ("--also", f"{verse}=4:8")]
    for command, words, code in (
        ((*RUN, "--layers", "0:4", *four), "hc-provider init --shards 4", 1),
        ((*RUN, "--layers", "0:4", "--also", verse), "--also", 2),
        ((*RUN, "--layers", "0:4", "--also", f"{verse}=4:99"), "4:99", 1),
        (("hc-provider", "init", "--shards", "0"), "--shards", 2),
        (("hc-provider", "init", "--shards", "2"), "already", 1),
    ):
        result = provider.run(*command)
        assert (result.code, words in result.err) == (code, True), result.err
        assert "Traceback" not in result.err
    elsewhere = Terminal(provider.home, {**provider.settings, "HC_LEDGER_URL": "sqlite:///books.sqlite"})
    result = elsewhere.run(*RUN, "--layers", "0:4", "--also", f"{verse}=4:8")
    assert (result.code, "HC_LEDGER_URL" in result.err) == (1, True), result.err
