"""What is besieged in the benchmark: a provider, one whose chain is slow, a verifier, an order book, a whole market."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.host import running_host
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.testnet.localnet import LocalNetwork
from hypercluster.node.testnet.specs import ProviderSpec
from tests.market.proxy import Answer, proxy
from tests.siege.asking import Asked, ask_many, gateway, mixed_crowd
from tests.siege.honest import Crowd
from tests.siege.honest_audits import auditors
from tests.siege.nodes import running_judge, running_target, target_of
from tests.siege.sieges import attacking
from tests.siege.target import Target, advert_of

FAR_SECONDS = 0.1
"""to a chain node that is far away"""
SESSIONS = ("--sessions", "6")
"""four honest ones at a time, a newcomer, and one to spare"""
HONEST_NODES = 10
"""beside the honeypots"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A node to attack, the honest payers of it, and what else happens during an attack."""

    target: Target
    crowd: Callable[[Target], AbstractAsyncContextManager[Crowd]]
    meanwhile: Callable[[], AbstractContextManager[None]] = nullcontext


@contextmanager
def served(network: LocalNetwork, name: str) -> Iterator[Scene]:
    """A provider; two payers of it and two who ask through a gateway."""
    with running_target(network, name, *SESSIONS) as target:
        yield Scene(target, mixed_crowd)


@contextmanager
def served_from_afar(network: LocalNetwork, name: str) -> Iterator[Scene]:
    """The same where each call to the chain takes the node 100 ms longer; the payers are close to it."""

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        time.sleep(FAR_SECONDS)
        return 200, ask()

    with (
        proxy(network.url, behave) as url,
        running_target(replace(network, url=url), name, *SESSIONS) as target,
    ):
        yield Scene(replace(target, url=network.url), mixed_crowd)


@contextmanager
def served_without_chain(network: LocalNetwork, name: str) -> Iterator[Scene]:
    """The same where during an attack the node's calls to the chain are taken and not answered."""
    answers = threading.Event()
    answers.set()

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        if answers.is_set():
            return 200, ask()
        answers.wait()
        return None

    @contextmanager
    def hanging() -> Iterator[None]:
        answers.clear()
        try:
            yield
        finally:
            answers.set()

    with (
        proxy(network.url, behave) as url,
        running_target(replace(network, url=url), name, *SESSIONS) as target,
    ):
        yield Scene(replace(target, url=network.url), mixed_crowd, hanging)


@contextmanager
def judged(network: LocalNetwork, name: str) -> Iterator[Scene]:
    """A verifier beside a provider, and two who have tokens audited."""
    with running_target(network, f"{name}-served"), running_judge(network, name) as target:
        yield Scene(target, lambda each: auditors(each))


async def seconds_until_known(network: LocalNetwork, target: Target, name: str) -> float:
    """How long it takes until an honest provider that starts now is in the book of somebody who joined before.

    Counted from the moment it is up. Raises NodeError, trio.TooSlowError.
    """
    async with running_host(secrets.token_bytes(32)) as host:
        model_id = (await advert_of(host, target)).model_id
        discovery = Discovery.alone(
            host, OrderBook(model_id, Eligibility(target.chain)), bootstrap=(target.address,)
        )
        async with discovery.running():
            with ExitStack() as stack:
                start = running_target(network, name)
                newcomer = await trio.to_thread.run_sync(stack.enter_context, start)
                since = time.perf_counter()
                with trio.fail_after(300):
                    while discovery.book.get(newcomer.peer) is None:
                        await trio.sleep(0.02)
                return time.perf_counter() - since


@contextmanager
def market(network: LocalNetwork, count: int = HONEST_NODES) -> Iterator[list[Target]]:
    """`count` honest providers of the whole model, each of its own operator."""
    model = network.home / "tiny.gguf"
    spec = ProviderSpec(layers="0:4", flags=("--price-rule", "fixed", "--threads", "1"))
    nodes = []
    try:
        for index in range(count):
            home, operator = network.enlist(f"honest-{index}")
            nodes.append(network.start(spec, home, operator, model=model))
            network.wait(nodes[-1]) if index == 0 else None
        for node in nodes[1:]:
            network.wait(node)
        yield [target_of(network, node) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
            network.providers.remove(node)


async def asked_among_honeypots(
    targets: list[Target], home: Path, *, pots: int, requests: int, at_once: int
) -> tuple[list[Asked], list[Asked]]:
    """Requests of two clients that know nobody: one without honeypots, then one among so many of them."""
    first, *others = targets
    async with gateway(first, home / "quiet", *others[:2]) as client:
        await _until_known(client.adverts, len(targets))
        quiet = list(await ask_many(client, requests, at_once))
    async with attacking(first, "honeypots", pots), gateway(first, home / "among", *others[:2]) as client:
        await _until_known(client.adverts, len(targets) + pots)
        return quiet, list(await ask_many(client, requests, at_once))


async def _until_known(adverts: Callable[[], Sequence[object]], count: int) -> None:
    """Wait until so many are offered. Raises trio.TooSlowError: with fewer, nothing would be shown."""
    with trio.fail_after(300):
        while len(adverts()) < count:
            await trio.sleep(0.1)
