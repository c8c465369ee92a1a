"""Nodes to attack: real processes on a chain of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercluster.market.trust.audit import Bounds
from hypercluster.node.network.addresses import split_peer
from hypercluster.node.shards.store import open_model
from hypercluster.node.testnet.localnet import LocalNetwork, NodeProcess, running_chain
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec
from tests.node.helpers.random_models import Shape, write_random_model
from tests.siege.target import Target

SESSIONS = 4
SHAPE = Shape()
BOUNDS = "bounds.json"


@contextmanager
def running_field(home: Path) -> Iterator[LocalNetwork]:
    """A chain with the contracts, and a tiny model of 4 layers with bounds beside it; no nodes yet."""
    with running_chain(home) as network:
        model = write_random_model(home / "tiny.gguf", SHAPE)
        # Calibration takes a minute, and nobody is judged here.
        Bounds.conservative(open_model(model, home / "models").manifest.model_id).save(home / BOUNDS)
        yield network


def target_of(network: LocalNetwork, node: NodeProcess[ProviderSpec] | NodeProcess[VerifierSpec]) -> Target:
    """A process of the network that is up, as attackers know it."""
    return Target(
        url=network.url,
        deployment=str(network.deployment_file),
        peer=node.peer,
        addrs=tuple(split_peer(address)[1] for address in node.addresses),
        operator=node.operator,
        pid=node.process.pid,
        home=str(node.home),
        model=str(network.home / "tiny.gguf"),
    )


@contextmanager
def running_target(network: LocalNetwork, name: str, *flags: str, layers: str = "0:4") -> Iterator[Target]:
    """A provider with 4 sessions unless the flags of `hc-provider run` say otherwise; `name` is its home's."""
    sessions = () if "--sessions" in flags else ("--sessions", str(SESSIONS))
    fixed = () if "--price-rule" in flags else ("--price-rule", "fixed")
    spec = ProviderSpec(layers=layers, flags=(*sessions, *fixed, *flags))
    home, operator = network.enlist(name)
    node = network.start(spec, home, operator, model=network.home / "tiny.gguf")
    try:
        network.wait(node)
        yield target_of(network, node)
    finally:
        ended(network, node)


@contextmanager
def running_judge(network: LocalNetwork, name: str, *flags: str) -> Iterator[Target]:
    """A verifier; `name` is its home's, the flags those of `hc-verifier run`."""
    home, operator = network.enlist(name)
    spec = VerifierSpec(flags=("--bounds", str(network.home / BOUNDS), *flags))
    node = network.start_verifier(spec, home, operator, model=network.home / "tiny.gguf")
    try:
        network.wait(node)
        yield target_of(network, node)
    finally:
        ended(network, node)


def ended(network: LocalNetwork, node: NodeProcess[ProviderSpec] | NodeProcess[VerifierSpec]) -> None:
    """End one node of several: nobody waits for its claims."""
    node.kill()
    for several in (network.providers, network.verifiers):
        if node in several:
            several.remove(node)  # type: ignore[arg-type]
