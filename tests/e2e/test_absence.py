"""A client that is stopped for longer than providers wait, and one that is cut off from everybody at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from hypercluster.market.money.units import HCT, parse_hct
from hypercluster.node.shards.store import demo_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
from tests.e2e.shell import Terminal
from tests.e2e.test_client import Started, blamed

pytestmark = pytest.mark.slow

IDLE = 15
ARGUMENTS = ("ROMEO:", "-n", "120", "--audit-rate", "0")
FLAGS = (
    *("--refresh", "1", "--claim-every", "60", "--price-rule", "fixed"),
    *("--throttle", "20", "--idle", str(IDLE)),
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """Two slow and impatient providers that hold all layers together."""
    specs = [ProviderSpec(layers=layers, price="1", flags=FLAGS) for layers in ("0:4", "4:8")]
    with running_network(tmp_path_factory.mktemp("network"), specs, model=demo_model()) as network:
        yield network


@pytest.fixture
def terminal(network: LocalNetwork, request: pytest.FixtureRequest) -> Terminal:
    """A client's own, with 10 HCT."""
    settings = network.client(10 * HCT, request.node.name)
    environment = network.environment(settings.home)
    return Terminal(
        settings.home, {name: value for name, value in environment.items() if name.startswith("HC_")}
    )


def signed(terminal: Terminal) -> int:
    """Wei that the client's channels have spent."""
    return sum(each["spent_wei"] for each in terminal.json("hc-client", "channels"))


def test_b2_a_client_that_was_stopped_opens_its_sessions_again_and_goes_on(terminal: Terminal) -> None:
    """B2: SIGSTOP in mid-completion until all sessions are closed, then SIGCONT: the same text, and nobody blamed."""
    undisturbed = terminal.run("hc-client", "generate", *ARGUMENTS)
    assert undisturbed.code == 0, undisturbed.err
    before = signed(terminal)
    started = Started(terminal, "hc-client", "generate", *ARGUMENTS)
    started.wait_for("out", "ROMEO:", more=20)
    started.process.send_signal(signal.SIGSTOP)
    time.sleep(IDLE + 3)
    started.process.send_signal(signal.SIGCONT)
    done = started.end()
    assert done.code == 0, done.err
    assert done.out == undisturbed.out
    assert "Going on." in done.err, "it was in the midst of it"
    assert "Traceback" not in done.err
    # What came before is paid a second time, at the price of a prompt, and all of it stands in the bill.
    bill = next(line for line in done.err.splitlines() if " HCT to 2 providers" in line)
    spent = parse_hct(bill.partition(" HCT to")[0].rpartition(" ")[2])
    assert before < spent == signed(terminal) - before
    assert blamed(terminal) == 0


def test_b2_a_client_that_is_cut_off_from_everybody_blames_nobody(
    network: LocalNetwork, terminal: Terminal
) -> None:
    """B2's kind: all connections end at once and nobody answers, which is what a network that goes down looks like."""
    started = Started(terminal, "hc-client", "generate", *ARGUMENTS, "--wait", "4")
    started.wait_for("out", "ROMEO:", more=20)
    for provider in network.providers:
        provider.process.kill()
    done = started.end()
    assert done.code == 1
    assert "is this machine cut off?" in done.err
    assert " HCT to 2 providers" in done.err
    assert done.err.count("error: ") == 1
    assert "Traceback" not in done.err
    assert blamed(terminal) == 0
