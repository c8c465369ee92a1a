"""Providers that look for the layers to serve: before they start, and while they run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.economics.placement import Machine, ModelSize
from hypercluster.node.provider.terms import Moving
from hypercluster.node.shards.store import StoredModel, demo_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
from tests.node.helpers.providers import running_provider

pytestmark = pytest.mark.slow

# GiB: three layers of the demo model and an embedding fit, four layers do not.
ROOM = "0.0014"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """A network that lacks the layers in the middle; the first node adapts its price quickly."""
    first = ("--price-every", "1", "--refresh", "1")
    specs = [ProviderSpec(layers="0:3", flags=first), ProviderSpec(layers="6:8")]
    with running_network(tmp_path_factory.mktemp("network"), specs, model=demo_model()) as network:
        yield network


def provider_command(network: LocalNetwork, home: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "hypercluster.node.cli.provider", *arguments, "--json"],
        env=network.environment(home),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_newcomer_is_sent_where_nobody_serves(network: LocalNetwork) -> None:
    home, operator = network.enlist("newcomer")
    advice = provider_command(network, home, "advise", "--memory", ROOM, "--prompt-tokens", "2.5")
    assert advice["prompt_ratio"] == 2.5
    assert (advice["ranges"][0]["start"], advice["ranges"][0]["stop"]) == (3, 6)
    assert advice["ranges"][0]["unserved"] == 3
    spec = ProviderSpec(layers="auto", flags=("--memory", ROOM, "--refresh", "1"))
    provider = network.start(spec, home, operator, model=demo_model())
    network.wait(provider)
    assert provider_command(network, home, "status")["running"]["layers"] == [3, 6]


def test_the_ledger_says_why_a_price_moved(network: LocalNetwork) -> None:
    """With the newcomer there is a path, so the first node's price climbs its revenue."""
    home = network.providers[0].home
    deadline = time.monotonic() + 300
    while not (steps := [s for s in provider_command(network, home, "prices") if s["gradient"]]):
        assert time.monotonic() < deadline
        time.sleep(1)
    step = steps[-1]
    assert step["next_price_wei"] != step["price_wei"]
    assert (step["next_price_wei"] > step["price_wei"]) == (step["gradient"] > 0)
    assert step["adverts"] == 3
    assert 0 < step["probability"] <= 1


def test_a_provider_among_rivals_moves_to_layers_that_nobody_serves(
    chain: Chain, stored_tiny: StoredModel, tmp_path: Path
) -> None:
    # Room for two of the four layers, wherever they are.
    machine, model = Machine(memory_bytes=2, layer_ms=1.0), ModelSize(layer_bytes=[1, 1, 1, 1])
    move = Moving(machine=machine, model=model, every_seconds=0.5, dwell_seconds=0.0)
    with running_provider(chain, stored_tiny, tmp_path / "one", (0, 2)) as one:
        through = {"bootstrap": (one.address,)}
        with running_provider(chain, stored_tiny, tmp_path / "two", (0, 2), **through, move=move) as two:
            two.thread.join(60)
            assert not two.thread.is_alive()
            assert two.left == [(2, 4)]


def test_a_provider_that_has_its_place_stays(chain: Chain, stored_tiny: StoredModel, tmp_path: Path) -> None:
    machine, model = Machine(memory_bytes=2, layer_ms=1.0), ModelSize(layer_bytes=[1, 1, 1, 1])
    move = Moving(machine=machine, model=model, every_seconds=0.5, dwell_seconds=3600.0)
    with running_provider(chain, stored_tiny, tmp_path / "one", (0, 2)) as one:
        through = {"bootstrap": (one.address,)}
        with running_provider(chain, stored_tiny, tmp_path / "two", (0, 2), **through, move=move) as two:
            two.thread.join(5)
            assert two.thread.is_alive()
