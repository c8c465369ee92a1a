"""Models by their id: a provider that has no file, and a client that has none, get what they need from peers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercluster.market.money.units import HCT
from hypercluster.node.shards.digests import build_manifest
from hypercluster.node.testnet.faucet import give
from hypercluster.node.testnet.localnet import LocalNetwork, running_chain
from tests.e2e.shell import Terminal
from tests.node.helpers.random_models import Shape, write_random_model

pytestmark = pytest.mark.slow

RUN = (
    *("hc-provider", "run", "--listen", "/ip4/127.0.0.1/tcp/0", "--price-rule", "fixed"),
    *("--sessions", "1", "--session-tokens", "128"),
)
TWO_LAYERS = "0.0004"
"""GiB: two layers and an embedding fit, three layers do not"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    with running_chain(tmp_path_factory.mktemp("chain")) as chain:
        yield chain


def registered(chain: LocalNetwork, name: str, program: str = "hc-provider", **more: str) -> Terminal:
    node = Terminal.beside(chain, name, **more)
    give(chain.chain, node.json(program, "init")["operator"], 1000 * HCT)
    node.json(program, "register")
    return node


def test_a_provider_and_a_client_join_from_peers_alone(chain: LocalNetwork, tmp_path: Path) -> None:
    """The first has the file of a model that nobody has by name; the second serves half of it by its id."""
    file = write_random_model(tmp_path / "model.gguf", Shape())
    model_id = build_manifest(file).model_id
    first = registered(chain, "first")
    with first.running(*RUN, "--layers", "0:2", "--model", str(file), until="Serving layers 0:2"):
        address = first.json("hc-provider", "status")["running"]["addresses"][0]
        second = registered(chain, "second", HC_BOOTSTRAP=address)
        serve = (*RUN, "--layers", "2:4", "--model", model_id)
        with second.running(*serve, until="Serving layers 2:4"):
            client = Terminal.beside(chain, "client", HC_BOOTSTRAP=address)
            client.json("hc-client", "init")
            refused = client.run("hc-client", "generate", "hello", "--model", model_id)
            assert (refused.code, "hc-model pull" in refused.err) == (1, True), refused.err
            client.json("hc-model", "pull", model_id)
            client.json("hc-client", "fund", "--hct", "10")
            ask = ("--audit-rate", "0", "--temperature", "0", "--wait", "120")
            said = client.json("hc-client", "generate", "hello", "-n", "4", "--model", model_id, *ask)
            assert [hop["layers"] for hop in said["path"]] == [[0, 2], [2, 4]]
            listed = client.json("hc-model", "list", "--wait", "60")
            (network,) = [each["network"] for each in listed if each["model_id"] == model_id]
            assert (network["coverage"], network["providers"], network["sessions"]) == (1.0, 2, 1)
            assert network["price_wei"] > 0
            assert network["ms"] > 0
            assert {each["network"] for each in client.json("hc-model", "list", "--here")} == {None}
            whole = client.json("hc-model", "pull", model_id, "--layers", "1:3")
            assert Path(whole["path"]).name == "layers-0001-0003.gguf"
            audited_from_peers(chain, client, model_id, address)
        # What it has it keeps: the next start needs nobody.
        with second.running(*serve, until="Serving layers 2:4"):
            pass


def test_a_provider_without_a_file_finds_and_takes_the_layers_that_nobody_serves(
    chain: LocalNetwork, tmp_path: Path
) -> None:
    """By the id alone: a layer of each kind comes to be timed, then those that fit and earn most."""
    file = write_random_model(tmp_path / "model.gguf", Shape(seed=1))
    model_id = build_manifest(file).model_id
    first = registered(chain, "seller")
    with first.running(*RUN, "--layers", "0:2", "--model", str(file), until="Serving layers 0:2"):
        address = first.json("hc-provider", "status")["running"]["addresses"][0]
        finder = registered(chain, "finder", HC_BOOTSTRAP=address)
        find = (*RUN, "--layers", "auto", "--model", model_id, "--memory", TWO_LAYERS)
        with finder.running(*find, until="Serving layers 2:4"):
            assert finder.json("hc-provider", "status")["running"]["layers"] == [2, 4]
            client = Terminal.beside(chain, "asker", HC_BOOTSTRAP=address)
            client.json("hc-client", "init")
            client.json("hc-model", "pull", model_id)
            client.json("hc-client", "fund", "--hct", "10")
            ask = ("--audit-rate", "0", "--temperature", "0", "--wait", "120")
            said = client.json("hc-client", "generate", "hello", "-n", "4", "--model", model_id, *ask)
            assert [hop["layers"] for hop in said["path"]] == [[0, 2], [2, 4]]


def audited_from_peers(chain: LocalNetwork, client: Terminal, model_id: str, address: str) -> None:
    """A verifier without a file takes the layers that it calibrates with and those that it audits."""
    judge = registered(chain, "judge", "hc-verifier", HC_BOOTSTRAP=address)
    judge.json("hc-verifier", "calibrate", model_id, "--texts", "1", "--tokens", "24")
    serve = ("hc-verifier", "run", "--model", model_id, "--listen", "/ip4/127.0.0.1/tcp/0")
    with judge.running(*serve, until="Auditing model"):
        ask = ("--audit-rate", "1", "--auditor", "verifier", "--temperature", "0", "--wait", "120")
        said = client.json("hc-client", "generate", "hello", "-n", "4", "--model", model_id, *ask)
    assert [each["finding"] for each in said["audits"]] == ["pass", "pass"]
    shards = {path.name for path in (judge.home / "models" / model_id / "audited").glob("*.gguf")}
    assert {"layers-0000-0002.gguf", "layers-0002-0004.gguf"} <= shards
    advised = Terminal.beside(chain, "idle", HC_BOOTSTRAP=address).json(
        "hc-provider", "advise", "--model", model_id
    )
    assert advised["ranges"]


def test_what_nobody_has_is_a_sentence(chain: LocalNetwork) -> None:
    alone = Terminal.beside(chain, "alone")
    result = alone.run("hc-model", "pull", "ab" * 32)
    assert (result.code, "there is no node to ask for it" in result.err) == (1, True), result.err
    assert "Traceback" not in result.err
