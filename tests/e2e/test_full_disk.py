"""A disk that is full, program by program: each says so in a sentence, and no money is lost."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercluster.market.ledger import IncomingChannel, Ledger
from hypercluster.market.money.units import HCT
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.shards.store import demo_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec

pytestmark = pytest.mark.slow

FLAGS = ("--claim-every", "1", "--claim-multiple", "0", "--refresh", "1", "--price-rule", "fixed")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    specs = [ProviderSpec(layers=layers, flags=FLAGS) for layers in ("0:4", "4:8")]
    with running_network(tmp_path_factory.mktemp("network"), specs, model=demo_model()) as network:
        yield network


@contextmanager
def full_disk(pid: int, most: int) -> Iterator[None]:
    """No file of a process may grow beyond so many bytes."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def generate(network: LocalNetwork, home: Path, most: int | None = None) -> subprocess.CompletedProcess[str]:
    """`hc-client generate`, with files of so many bytes at most."""

    def bounded() -> None:
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return subprocess.run(
        [
            sys.executable,
            "-m",
            "hypercluster.node.cli.client",
            "generate",
            "ROMEO:",
            "-n",
            "8",
            "--wait",
            "5",
        ],
        env=network.environment(home),
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=bounded,
    )


def test_a_provider_with_a_full_disk_answers_nothing_that_it_cannot_write_down(network: LocalNetwork) -> None:
    """Its client is told to go elsewhere and pays for no answer; once there is room all goes on, and is claimed."""
    home = network.client(10 * HCT, "client-1").home
    first = generate(network, home)
    assert first.returncode == 0, first.stderr
    provider = network.providers[1]
    # Files that are there already grow no further: no channel is taken up. Then none grows at all: no voucher is.
    stranger = network.client(10 * HCT, "client-3").home
    for most, asking in (((provider.home / "ledger.sqlite-wal").stat().st_size, stranger), (0, home)):
        with full_disk(provider.process.pid, most):
            refused = generate(network, asking)
            assert refused.returncode == 1, refused.stderr
            assert "Traceback" not in refused.stderr
            assert provider.process.poll() is None
    assert "Nothing is answered that cannot be written down: make room" in provider.log
    assert "Traceback" not in provider.log
    again = generate(network, home)
    assert again.returncode == 0, again.stderr
    books_agree(network, home)


def test_a_client_with_a_full_disk_says_so_and_spends_nothing(network: LocalNetwork) -> None:
    settings = network.client(10 * HCT, "client-2")
    full = generate(network, settings.home, most=4096)
    assert full.returncode == 1, full.stdout
    assert "Traceback" not in full.stderr
    assert full.stderr.startswith("error: ")
    assert "File too large" in full.stderr
    assert network.chain.token.balance(keys.address(settings.home, Key.WALLET)) == 10 * HCT


def books_agree(network: LocalNetwork, home: Path) -> None:
    """All that providers hold is claimed, and what a client's requests cost and risked covers what it signed."""
    with Ledger(home / "ledger.sqlite") as ledger:
        rows, channels = ledger.requests.latest(limit=100), ledger.payer.channels()
    cost, risked = sum(row.cost for row in rows), sum(row.risked for row in rows)
    assert 0 < cost <= sum(each.signed for each in channels) <= cost + risked
    held: dict[bytes, IncomingChannel] = {}
    for provider in network.providers:
        with Ledger(provider.home / "ledger.sqlite") as ledger:
            held |= {row.channel_id: row for row in ledger.payee.channels()}
    for ours in channels:
        theirs = held[ours.channel_id]
        assert ours.spent <= theirs.billed <= theirs.best <= ours.signed
        deadline = time.monotonic() + 300
        while network.chain.channels.state(ours.channel_id).settled < theirs.best:
            assert time.monotonic() < deadline
            time.sleep(0.2)
