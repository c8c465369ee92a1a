"""Providers that are killed while they work: the text goes on, and everything that was paid is claimed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.units import HCT
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.events import Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.engine import reference
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.localnet import LocalNetwork, ProviderProcess, running_network
from hypercluster.node.testnet.specs import ProviderSpec

pytestmark = pytest.mark.slow

TOKENS = 60
FLAGS = (
    *("--refresh", "1", "--claim-every", "1", "--claim-multiple", "0"),
    *("--price-rule", "fixed", "--throttle", "5"),
)
WALLET = 10 * HCT


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return open_model(demo_model(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """One provider that is never killed, and two for the rest: the cheap one is taken, the dear one waits."""
    specs = [
        ProviderSpec(layers="0:4", price="1", flags=FLAGS),
        ProviderSpec(layers="4:8", price="1", flags=FLAGS),
        ProviderSpec(layers="4:8", price="9", flags=FLAGS),
    ]
    with running_network(tmp_path_factory.mktemp("network"), specs, model=demo_model()) as network:
        yield network


def complete(
    network: LocalNetwork, stored: StoredModel, name: str, moment: float | int, victim: ProviderProcess
) -> Completion:
    """Generate, and kill -9 the victim after so many tokens (int) or seconds of generating (float)."""
    settings = network.client(WALLET, name)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())

    async def main() -> Completion:
        market = MarketParameters(alpha=1.0)
        wishes = Wishes(market=market)
        async with joined(settings, network.chain, stored, purse, wishes=wishes) as client:
            with trio.fail_after(300):
                while len(client.adverts()) < 3:
                    await trio.sleep(0.1)
            pieces: list[str] = []

            def text(piece: str) -> None:
                pieces.append(piece)
                if isinstance(moment, int) and len(pieces) == moment:
                    victim.kill()
                elif isinstance(moment, float) and len(pieces) == 1:
                    threading.Timer(moment, victim.kill).start()

            request = Request(prompt="ROMEO:", allowance=Allowance(tokens=TOKENS))
            with trio.fail_after(300):
                async with client.complete(request) as completing:
                    async for event in completing:
                        if isinstance(event, Token) and event.text:
                            text(event.text)
            assert completing.completion.error is None
            return completing.completion

    return trio.run(main)


@pytest.mark.parametrize(
    "moment", [5, random.uniform(0.0, 0.4), random.uniform(0.0, 0.8)], ids=["at a token", "early", "anywhere"]
)
def test_a_provider_killed_at_work_is_replaced_and_paid(
    network: LocalNetwork, stored: StoredModel, moment: float | int, tmp_path: Path
) -> None:
    chain, victim = network.chain, network.providers[1]
    operators = {provider.operator for provider in network.providers}
    held = sum(map(chain.token.balance, operators))
    name = f"client-{moment}"
    completion = complete(network, stored, name, moment, victim)
    victim.process.wait(300)  # killed by now, or its timer was too late to matter

    assert completion.failures == [victim.peer]
    unsplit = reference.generate(demo_model(), completion.prompt, TOKENS, threads=1)
    assert completion.tokens == [int(token) for token in unsplit.ids]
    # The first provider goes on where it was; only who takes over reads what was there so far.
    lost, *path = completion.bills
    assert [bill.peer for bill in path] == [network.providers[0].peer, network.providers[2].peer]
    assert [bill.tokens for bill in path] == 2 * [len(completion.prompt) + TOKENS - 1]

    # With the same home it comes back and claims what it was paid, and one unanswered step at most.
    network.providers.remove(victim)
    again = network.start(victim.spec, victim.home, victim.operator, model=demo_model())
    network.wait(again)
    network.providers.remove(again)
    network.providers.insert(1, again)
    assert again.peer == victim.peer
    assert lost.peer == victim.peer
    ledger = Ledger(f"sqlite:///{victim.home / 'ledger.sqlite'}")
    with ledger:
        row = ledger.payee.channel(lost.channel_id)
    assert row is not None
    assert lost.paid_wei <= row.best <= lost.paid_wei + lost.risked_wei
    channels = {bill.channel_id for bill in completion.bills}
    due = completion.spent_wei - lost.paid_wei + row.best

    def settled() -> int:
        return sum(chain.channels.state(channel).settled for channel in channels)

    deadline = time.monotonic() + 300
    while settled() != due:
        assert time.monotonic() < deadline, (settled(), due)
        time.sleep(0.2)
    # Nothing appeared and nothing disappeared.
    states = [chain.channels.state(channel) for channel in channels]
    wallet = keys.address(network.home / name, Key.WALLET)
    locked = sum(state.deposit - state.settled for state in states)
    assert chain.token.balance(wallet) + locked + due == WALLET
    assert sum(map(chain.token.balance, operators)) - held == due
