"""A network of one's own that is kept running: for trying everything out with play money, by hand and by programs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from hypercluster.market.money.units import HCT
from hypercluster.node.catalogue import SMOLLM2, ListedModel
from hypercluster.node.home.profile import NetworkProfile, profile_of
from hypercluster.node.identity import short_peer
from hypercluster.node.provider.placing import free_memory
from hypercluster.node.shards import check_source, partition
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.demo import shipped_bounds
from hypercluster.node.testnet.leftovers import end_leftovers, note_children, nothing_left
from hypercluster.node.testnet.localnet import (
    LocalNetwork,
    ProviderProcess,
    VerifierProcess,
    running_chain,
)
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec
from hypercluster.node.testnet.telling import Telling

WALLET_HCT = 1_000 * HCT
MOST_SESSION_TOKENS = 4096
PACE = ("--refresh", "3", "--claim-every", "10", "--claim-multiple", "0")
PAGES = ("--http", "127.0.0.1:0")
GRACE_SECONDS = 60


@contextmanager
def kept_network(home: Path, stored: StoredModel, telling: Telling) -> Iterator[LocalNetwork]:
    """A fresh chain, providers that serve `stored` by now, and a verifier; all of them end with the block.

    Keys in `home` are used again. What a killed run left running is ended first. The verifier may come a little
    later, as it measures a model that is new to it before it judges others.

    Raises:
        LocalNetworkError: a provider did not start.
        AnvilError, ChainError.
    """
    assert stored.source is not None, "shards are cut from the whole model"
    home.mkdir(parents=True, exist_ok=True)
    if ended := end_leftovers(home):
        telling.news(f"{ended} processes of an earlier run that was killed were still there: ended")
    with ExitStack() as stack:
        stack.callback(nothing_left, home)
        telling.status("Starting the chain and deploying the contracts")
        network = stack.enter_context(running_chain(home, grace_seconds=GRACE_SECONDS))
        note_children(home)
        specs, judges = _specs(stored)
        telling.status("Starting the providers")
        names = [f"provider-{i + 1}" for i in range(len(specs))]
        names += [f"verifier-{i + 1}" for i in range(len(judges))]
        with ThreadPoolExecutor(4) as pool:
            enlisted = list(pool.map(network.enlist, names))
        for index, (spec, (node_home, operator)) in enumerate(zip(specs, enlisted, strict=False)):
            provider = network.start(spec, node_home, operator, model=stored.source)
            note_children(home)
            if index == 0:  # the others join through it
                network.wait(provider)
                telling.news(_started(provider))
        for judge, (node_home, operator) in zip(judges, enlisted[len(specs) :], strict=True):
            network.start_verifier(judge, node_home, operator, model=stored.source)
            note_children(home)
        for provider in network.providers[1:]:
            network.wait(provider)
            telling.news(_started(provider))
        if stored.manifest.model_id == SMOLLM2.model_id:  # whose bounds are known
            for verifier in network.verifiers:
                network.wait(verifier)
                telling.news(_started(verifier))
        yield network


def profile_for(network: LocalNetwork, model: ListedModel) -> NetworkProfile:
    """How others join it, and what its model is called."""
    return profile_of(network.chain, "local play money", bootstrap=network.bootstrap, models=(model,))


def ended(network: LocalNetwork, known: set[int]) -> list[ProviderProcess | VerifierProcess]:
    """The nodes that have ended by themselves and whose process ids are not in `known`, which then has them."""
    gone = [
        node for node in network.nodes if node.process.poll() is not None and node.process.pid not in known
    ]
    known |= {node.process.pid for node in gone}
    return gone


def _specs(stored: StoredModel) -> tuple[list[ProviderSpec], list[VerifierSpec]]:
    """Four ranges, of which one is offered twice, and who looks after them; fewer where memory is short."""
    assert stored.source is not None
    layers, context = stored.manifest.layers, stored.manifest.context
    starts = stored.manifest.starts
    parts = min(4, layers if starts is None else len(starts))
    ranges = [f"{start}:{stop}" for start, stop in partition(layers, parts, starts)]
    flags = (*PACE, "--sessions", "4", "--session-tokens", str(min(context, MOST_SESSION_TOKENS)))
    prices = ("1", "1.5", "2.25", "2")
    specs = [
        ProviderSpec(layers=each, price=price, flags=flags)
        for each, price in zip(ranges, prices, strict=False)
    ]
    specs[0] = replace(specs[0], flags=(*flags, *PAGES))  # one of each kind shows its own pages
    if check_source(stored.source).data_bytes * 3.5 > free_memory():
        return specs, []
    rival = ProviderSpec(
        layers=ranges[-2 if len(ranges) > 1 else 0], price="1", flags=(*flags, "--throttle", "4")
    )
    bounds = shipped_bounds() if stored.manifest.model_id == SMOLLM2.model_id else None
    judge = (*PACE, *PAGES, "--watch", "1", "--threads", "1", *(("--bounds", str(bounds)) if bounds else ()))
    return [*specs, rival], [VerifierSpec(flags=judge)]


def _started(node: ProviderProcess | VerifierProcess) -> str:
    return f"{short_peer(node.peer)}: {node.spec.name}"
