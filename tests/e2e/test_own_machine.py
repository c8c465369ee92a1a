"""What a client's own machine does for it, from the command line: it runs layers itself, and guesses ahead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercluster.market.money.units import HCT
from hypercluster.node.shards.store import demo_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
from tests.e2e.shell import Terminal
from tests.node.helpers.random_models import write_random_model

pytestmark = pytest.mark.slow

FLAGS = ("--refresh", "1", "--price-rule", "fixed")
ASKED = ("hc-client", "generate", "ROMEO:", "-n", "12", "--alpha", "1")
"""where only the price counts, as many guesses go along as cost nothing more"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """Two providers that hold all layers together."""
    specs = [ProviderSpec(layers=layers, price="1", flags=FLAGS) for layers in ("0:4", "4:8")]
    with running_network(tmp_path_factory.mktemp("network"), specs, model=demo_model()) as network:
        yield network


@pytest.fixture(scope="module")
def terminal(network: LocalNetwork) -> Terminal:
    settings = network.client(10 * HCT, "own")
    environment = network.environment(settings.home)
    return Terminal(settings.home, {name: v for name, v in environment.items() if name.startswith("HC_")})


def test_own_layers_a_draft_model_and_who_is_trusted(terminal: Terminal, tmp_path: Path) -> None:
    plain = terminal.json(*ASKED, "--audit-rate", "0")
    friends = tmp_path / "friends"
    friends.write_text(f"0x{'11' * 20}  # nobody here\n")
    trust = ("--trust", str(friends), "--audit-rate", "1", "--auditor", "own")
    own = terminal.json(*ASKED, "--local", "0:4", "--draft-model", "verse", *trust)
    assert own["tokens"] == plain["tokens"]
    assert [hop["layers"] for hop in own["path"]] == [[4, 8]]
    assert own["draft_held"] == own["drafted"] > 0
    assert [audit["finding"] for audit in own["audits"]] == ["pass"]
    alone = terminal.json(*ASKED, "--local", "0:8")
    assert (alone["tokens"], alone["path"], alone["spent_wei"]) == (plain["tokens"], [], 0)
    lines = b"Who is there?\nAnd who else?\n"
    talk = terminal.run(
        "hc-client", "chat", "-n", "6", "--local", "4:8", "--draft-model", "verse", "--json", stdin=lines
    )
    assert [[hop["layers"] for hop in turn["path"]] for turn in talk.json["turns"]] == [[[0, 4]], [[0, 4]]]


def test_what_cannot_be_is_refused_before_anything_is_spent(terminal: Terminal, tmp_path: Path) -> None:
    strange = write_random_model(tmp_path / "strange.gguf")
    (tmp_path / "nobody").write_text("# nobody\n")
    before = terminal.json("hc-client", "balance")
    for arguments, said in (
        (["--local", "2:5"], "no end of this model"),
        (["--local", "0:9"], "no end of this model"),
        (["--local", "4:0"], "names no layers"),
        (["--draft-model", str(strange)], "other tokens"),
        (["--draft-model", "no-such-model"], "no-such-model"),
        (["--draft-model", "verse", "--draft", "0"], "leave one of them out"),
        (["--in-flight", "4"], "nothing is guessed: give --draft"),
        (["--in-flight", "4", "--draft", "0"], "nothing is guessed: give --draft"),
        (["--trust", str(tmp_path / "nobody")], "names no operator"),
        (["--trust", str(tmp_path / "none")], "cannot be read"),
        (["--local", "0:3", "--wait", "1"], "of providers layers 3:8 are asked"),
    ):
        done = terminal.run(*ASKED, *arguments)
        assert done.code in (1, 2), arguments
        assert said in done.err, (arguments, done.err)
        assert "Traceback" not in done.err, arguments
    assert terminal.json("hc-client", "balance") == before
