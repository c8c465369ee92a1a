"""A verifier in a thread of this process beside a provider of half the model, as those who ask it for audits see it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from hypercluster.market.trust.audit import Bounds
from tests.node.helpers.providers import running_provider
from tests.node.helpers.verifiers import Judging, running_verifier
from tests.siege.target import Target

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.chain import Chain, Deployment
    from hypercluster.node.shards.store import StoredModel

OFFERED = (0, 2)
"""the layers that a provider advertises"""


@dataclass(frozen=True, slots=True)
class Bench:
    """A verifier, what it cuts into, and how attackers know it."""

    judging: Judging
    stored: StoredModel
    target: Target

    @property
    def advert(self) -> Advert:
        """What it offers now."""
        return self.judging.presence.advert()

    @property
    def disk(self) -> int:
        """Bytes of shards that it cut."""
        return sum(path.stat().st_size for path in self.stored.folder.rglob("*.gguf"))


@contextmanager
def running_bench(
    chain: Chain, deployment: Deployment, stored: StoredModel, bounds: Bounds, folder: Path, **terms: Any
) -> Iterator[Bench]:
    """A provider of OFFERED and a verifier that has heard of it; `terms` are those of VerifierTerms."""
    deployment.save(folder / "deployment.json")
    with (
        running_provider(chain, stored, folder / "provider", OFFERED) as provider,
        running_verifier(
            chain, stored, bounds, folder / "verifier", bootstrap=(provider.address,), **terms
        ) as judging,
    ):
        target = Target(
            url=chain.url,
            deployment=str(folder / "deployment.json"),
            peer=judging.advert.peer,
            addrs=judging.advert.addrs,
            operator=judging.operator.address,
            pid=os.getpid(),
            home=str(folder),
            model=str(stored.source),
        )
        yield Bench(judging, stored, target)


async def heard(bench: Bench) -> None:
    """Wait until the verifier knows of the provider."""
    with trio.fail_after(300):
        while not bench.judging.presence.discovery.book.snapshot():
            await trio.sleep(0.05)
