"""Two models on one local network, for every test of traffic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.node.engine import reference
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.traffic.entries import NamedModel
from hypercluster.node.traffic.market import Market
from hypercluster.node.traffic.opening import open_market
from tests.node.helpers.providers import Served, Wallet, new_wallet, running_provider
from tests.node.helpers.random_models import Shape, write_random_model

PROMPT = (72, 101, 108, 108)
TERMS = {"sessions": 4, "session_tokens": 100, "step_tokens": 16, "refresh_seconds": 2.0}
PRICE, PROMPT_PRICE = 1000, 250


def cost(tokens: int) -> int:
    """Wei of so many tokens after PROMPT, where all of them were allowed."""
    return len(PROMPT) * PROMPT_PRICE + (tokens - 1) * PRICE


@dataclass(eq=False)
class Network:
    """One provider of each of two models, four sessions of 100 tokens each; both are found through the first."""

    chain: Chain
    first: Served
    second: Served
    tiny: NamedModel
    other: NamedModel

    @asynccontextmanager
    async def market(
        self, wallet: Wallet, home: Path, *models: NamedModel, **options: Any
    ) -> AsyncIterator[Market]:
        settings = Settings(home=home, bootstrap=(self.first.address,))
        async with open_market(
            settings, self.chain, wallet.purse, models or [self.tiny], **options
        ) as market:
            await covered(market)
            yield market

    def greedy(self, model: NamedModel, tokens: int) -> list[int]:
        assert model.stored.source
        ids: list[int] = reference.generate(model.stored.source, list(PROMPT), tokens, threads=1).ids.tolist()
        return ids

    def best_vouchers(self, payer: str) -> int:
        """All that the providers could claim from a wallet."""
        rows = [row for each in (self.first, self.second) for row in each.ledger.payee.channels()]
        return sum(row.best for row in rows if row.payer == payer)


async def covered(market: Market) -> None:
    with trio.fail_after(300):
        while any(entry.coverage < 1 for entry in market.models()):
            await trio.sleep(0.05)


@pytest.fixture(scope="session")
def network(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("providers")
    other = open_model(write_random_model(folder / "other.gguf", Shape(layers=2, seed=7)), folder / "home")
    with (
        running_provider(chain, stored_tiny, folder / "first", (0, 4), **TERMS) as first,
        running_provider(
            chain, other, folder / "second", (0, 2), bootstrap=(first.address,), **TERMS
        ) as second,
    ):
        yield Network(
            chain, first, second, NamedModel("tiny", stored_tiny, ("llama-tiny",)), NamedModel("other", other)
        )


@pytest.fixture
def wallet(chain: Chain) -> Wallet:
    return new_wallet(chain)
