"""A market over real providers: requests by name, streamed, paid, and whole when they are left early."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.node.client.events import Finished, Token
from hypercluster.node.client.request import Allowance, Request
from hypercluster.node.engine import reference
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.traffic.entries import NamedModel, UnknownModel
from hypercluster.node.traffic.market import Market
from hypercluster.node.traffic.opening import open_market
from tests.node.helpers.providers import Served, Wallet, new_wallet, running_provider

PROMPT = (72, 101, 108, 108)
TERMS = {"sessions": 4, "session_tokens": 100, "step_tokens": 16, "refresh_seconds": 2.0}


@pytest.fixture(scope="module")
def served(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One provider of the whole model, four sessions of 100 tokens."""
    with running_provider(chain, stored_tiny, tmp_path_factory.mktemp("whole"), (0, 4), **TERMS) as provider:
        yield provider


@pytest.fixture(scope="module")
def wallet(chain: Chain) -> Wallet:
    return new_wallet(chain)


@asynccontextmanager
async def trading(served: Served, stored: StoredModel, wallet: Wallet, home: Path) -> AsyncIterator[Market]:
    settings = Settings(home=home, bootstrap=(served.address,))
    named = NamedModel("tiny", stored, ("llama-tiny",))
    async with open_market(settings, served.chain, wallet.purse, [named]) as market:
        with trio.fail_after(30):
            while market.model().coverage < 1:
                await trio.sleep(0.05)
        yield market


def test_a_request_by_alias_gives_the_text_of_the_model(
    served: Served, stored_tiny: StoredModel, wallet: Wallet, tmp_path: Path
) -> None:
    async def main() -> None:
        async with trading(served, stored_tiny, wallet, tmp_path) as market:
            request = Request(prompt=PROMPT, allowance=Allowance(tokens=8), model="llama-tiny")
            events = []
            async with market.run(request) as answer:
                async for event in answer:
                    events.append(event)
            assert stored_tiny.source
            greedy = reference.generate(stored_tiny.source, list(PROMPT), 8, threads=1).ids.tolist()
            assert [event.id for event in events if isinstance(event, Token)] == greedy
            assert isinstance(events[-1], Finished)
            assert events[-1].error is None
            assert answer.completion.spent_wei == 4 * 250 + 7 * 1000
            with pytest.raises(UnknownModel, match="Known are: tiny"):
                market.run(Request(prompt="x", allowance=Allowance(tokens=1), model="gpt-5"))

    trio.run(main)


def test_a_model_is_listed_with_what_is_offered_of_it(
    served: Served, stored_tiny: StoredModel, wallet: Wallet, tmp_path: Path
) -> None:
    async def main() -> None:
        async with trading(served, stored_tiny, wallet, tmp_path) as market:
            entry = market.model(stored_tiny.manifest.model_id.upper())
            assert market.models() == (entry,)
            assert (entry.name, entry.layers, entry.coverage, entry.context) == ("tiny", 4, 1.0, 100)
            assert (entry.price_wei, entry.prompt_price_wei) == (1000, 250)
            assert 0 <= entry.sessions <= 4

    trio.run(main)
