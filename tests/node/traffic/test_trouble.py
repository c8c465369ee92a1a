"""When things fail while many ask: providers die, the chain is away, nobody serves, the wallet runs dry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.errors import InsufficientFunds
from hypercluster.market.ledger import Ledger
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.events import HopReplaced, Token
from hypercluster.node.client.needs import NoRoute
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.errors import ConnectionLost
from hypercluster.node.home.settings import Settings
from hypercluster.node.network import eligibility
from hypercluster.node.network.connection import Connection
from hypercluster.node.provider import process as provider
from hypercluster.node.provider.prices import PriceRule
from hypercluster.node.provider.service import Service
from hypercluster.node.provider.sessions import serve_session
from hypercluster.node.shards.store import open_model
from hypercluster.node.traffic.entries import NamedModel
from hypercluster.node.traffic.market import Market
from hypercluster.node.traffic.opening import open_market
from hypercluster.node.wire.codec import Message
from tests.market.proxy import Answer, proxy
from tests.node.client.test_client import Lies, Lying
from tests.node.helpers.providers import Wallet, new_wallet, running_provider
from tests.node.helpers.random_models import Shape, write_random_model
from tests.node.traffic.conftest import PRICE, PROMPT, TERMS, Network, cost, covered

NOBODY = "/ip4/127.0.0.1/tcp/9/p2p/16Uiu2HAmMwURyF5Ukm45aSnTrdVRXgRRFjBUcap5bWbToq3i3e94"


def asked(tokens: int = 8, **limits: Any) -> Request:
    return Request(prompt=PROMPT, allowance=Allowance(tokens=tokens, **limits))


async def all_at_once(
    market: Market, count: int, request: Request, on_token: Callable[[Completion], None] = lambda done: None
) -> list[tuple[Completion, list[Any]]]:
    ended: list[tuple[Completion, list[Any]]] = []

    async def one() -> None:
        events = []
        async with market.run(request) as answer:
            async for event in answer:
                events.append(event)
                if isinstance(event, Token):
                    on_token(answer.completion)
        ended.append((answer.completion, events))

    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
    return ended


def cheap() -> PriceRule:
    return PriceRule(start_wei=PRICE // 10, start_prompt_wei=PRICE // 40, adapt=False)


def spent(home: Path) -> int:
    with Ledger(f"sqlite:///{home / 'ledger.sqlite'}") as ledger:
        return sum(row.spent for row in ledger.payer.channels())


async def test_without_providers_or_bootstrap_a_market_is_open_and_says_so(
    network: Network, wallet: Wallet, tmp_path: Path
) -> None:
    """Who serves nothing yet is listed; once somebody does, it can be asked, through what is remembered as well."""
    third = open_model(write_random_model(tmp_path / "third.gguf", Shape(layers=3, seed=9)), tmp_path)
    nobody = NamedModel("nobody", third)
    home = tmp_path / "home"
    lost = Settings(home=home, bootstrap=(NOBODY,))
    async with open_market(lost, network.chain, wallet.purse, [nobody, network.tiny]) as market:
        assert [(entry.coverage, entry.sessions, entry.price_wei) for entry in market.models()] == [
            (0.0, 0, None)
        ] * 2
        assert market.model("nobody").context == third.manifest.context
        (done, _), *_ = await all_at_once(market, 1, asked(patience=1.0))
        assert isinstance(done.error, NoRoute)
    async with network.market(wallet, home) as market:
        await market.run(asked(2)).finished()
    async with open_market(lost, network.chain, wallet.purse, [network.tiny]) as market:
        await covered(market)
        assert (await market.run(asked(2)).finished()).finish == "length"


@contextmanager
def dying(dead: threading.Event) -> Iterator[None]:
    """Providers that start within the block are gone, for their clients, from when the event is set."""

    def silence(message: Message, _number: int) -> Message:
        if dead.is_set():
            raise ConnectionLost("The provider is gone.")
        return message

    async def serve(connection: Connection, service: Service) -> None:
        await serve_session(Lying(connection, Lies(silence)), service)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provider, "serve_session", serve)
        yield


@pytest.mark.parametrize(("dies_at", "tokens"), [(50, 96), (110, 110)])
async def test_an_answer_that_moves_to_shorter_sessions_has_as_many_tokens_as_they_hold(
    network: Network, tmp_path: Path, dies_at: int, tokens: int
) -> None:
    """It went over sessions of 200 tokens and goes on over those of 100, or ends where these are too short by then."""
    dead = threading.Event()
    wallet = new_wallet(network.chain)
    terms = TERMS | {"session_tokens": 200, "bootstrap": (network.first.address,)}
    with (
        dying(dead),
        running_provider(network.chain, network.tiny.stored, tmp_path / "long", (0, 4), **terms) as long,
    ):
        # Offers of earlier tests' providers are heard of until they expire.
        living = {network.first.advert.peer, long.advert.peer}
        wishes = Wishes(only=frozenset(living))
        async with network.market(wallet, tmp_path / "home", wishes=wishes) as market:
            with trio.fail_after(300):
                while not living <= {each.peer for each in market.client().adverts()}:
                    await trio.sleep(0.05)
            assert market.model().context == 200

            def die(done: Completion) -> None:
                if len(done.tokens) == dies_at:
                    dead.set()

            ((done, events),) = await all_at_once(market, 1, asked(128_000), die)
    assert (done.finish, len(done.tokens), done.error) == ("length", tokens, None)
    assert done.tokens == network.greedy(network.tiny, tokens)
    assert [event.peer for event in events if isinstance(event, HopReplaced)] == [long.advert.peer]


async def test_a_provider_that_dies_under_ten_answers_is_replaced_in_all_of_them(
    network: Network, tmp_path: Path
) -> None:
    stored, dead = network.tiny.stored, threading.Event()
    # More sessions than are asked for, as those that have ended may not be free again at once.
    terms = TERMS | {"sessions": 16, "bootstrap": (network.first.address,)}
    wallet = new_wallet(network.chain)
    with ExitStack() as stack:
        head = stack.enter_context(
            running_provider(
                network.chain, stored, tmp_path / "head", (0, 2), price=cheap(), throttle_ms=15.0, **terms
            )
        )
        with dying(dead):
            tail = stack.enter_context(
                running_provider(network.chain, stored, tmp_path / "tail", (2, 4), price=cheap(), **terms)
            )
        spare = stack.enter_context(
            running_provider(network.chain, stored, tmp_path / "spare", (0, 4), **terms)
        )
        living = {each.advert.peer for each in (head, tail, spare)}
        # Preferred, as one request at a time would try them otherwise.
        wishes = Wishes(only=frozenset(living), prefer=(head.advert.peer, tail.advert.peer))
        ended: list[tuple[Completion, list[Any]]] = []
        under_way, before, all_under_way = 0, 0, trio.Event()

        async def one(market: Market) -> None:
            nonlocal under_way
            events = []
            async with market.run(asked(30, patience=300.0)) as answer:
                async for event in answer:
                    events.append(event)
                    if isinstance(event, Token) and len(answer.completion.tokens) == 5:
                        under_way += 1
                        if under_way == 10:
                            dead.set()
                            all_under_way.set()
                        await all_under_way.wait()
            ended.append((answer.completion, events))

        async with network.market(wallet, tmp_path / "home", wishes=wishes) as market:
            with trio.fail_after(600):
                while not living <= {each.peer for each in market.client().adverts()}:
                    await trio.sleep(0.05)
                # Who has not paid yet has a few sessions at once only.
                paying = [wishes, replace(wishes, only=frozenset({spare.advert.peer}), prefer=())]
                for each in paying:
                    before += (await market.run(replace(asked(2), wishes=each)).finished()).spent_wei
                async with trio.open_nursery() as nursery:
                    for _ in range(10):
                        nursery.start_soon(one, market)
        rows = [
            row
            for each in (head, tail, spare)
            for row in each.ledger.payee.channels()
            if row.payer == wallet.sender.address
        ]
    expected = network.greedy(network.tiny, 30)
    assert [(done.finish, done.tokens) for done, _ in ended] == [("length", expected)] * 10
    for done, events in ended:
        assert {event.peer for event in events if isinstance(event, HopReplaced)} == {tail.advert.peer}
        assert [bill.peer for bill in done.bills] == [head.advert.peer, tail.advert.peer, spare.advert.peer]
    paid = before + sum(done.spent_wei for done, _ in ended)
    risked = sum(done.risked_wei for done, _ in ended)
    assert paid == spent(tmp_path / "home")
    assert paid <= sum(row.best for row in rows) <= paid + risked


async def test_a_wallet_that_runs_dry_ends_answers_with_what_was_paid(
    network: Network, tmp_path: Path
) -> None:
    """Money for three answers and a half of eight, one after the other or at once: all end, with as much text as they
    paid for, and nothing is owed.
    """
    money = 3 * cost(40) + cost(20)
    wallet = new_wallet(network.chain, money)
    wishes = Wishes(deposit_wei=cost(10), only=frozenset({network.first.advert.peer}))
    async with network.market(wallet, tmp_path, wishes=wishes) as market:
        ended = await all_at_once(market, 8, asked(40, patience=600.0))
        held = await market.wallet()
    for done, _ in ended:
        assert done.finish in ("length", "cost") or isinstance(done.error, InsufficientFunds)
        assert done.tokens == network.greedy(network.tiny, 40)[: len(done.tokens)]
        assert bool(done.tokens) == (done.finish != "failed")
    paid = sum(done.spent_wei for done, _ in ended)
    assert paid == spent(tmp_path) == network.best_vouchers(wallet.sender.address)
    assert paid + held.hct_wei + held.in_channels_wei == money
    assert held.hct_wei + held.in_channels_wei < cost(10) + 8 * 2 * PRICE
    assert {done.finish for done, _ in ended} >= {"cost"}


@contextmanager
def chain_that_may_go(network: Network) -> Iterator[tuple[Chain, threading.Event]]:
    away = threading.Event()

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        return None if away.is_set() else (200, ask())

    with proxy(network.chain.url, behave) as url:
        yield Chain(url, network.chain.deployment), away


async def test_open_channels_pay_while_the_chain_is_away(
    network: Network, wallet: Wallet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than an answer of the chain is kept: who was staked before still is, and comes back with the chain."""
    monkeypatch.setattr(eligibility, "KEEP_SECONDS", 0.1)
    with chain_that_may_go(network) as (chain, away):
        settings = Settings(home=tmp_path, bootstrap=(network.first.address,))
        async with open_market(settings, chain, wallet.purse, [network.tiny]) as market:
            await covered(market)
            await market.run(asked(2)).finished()
            away.set()
            known = market.client().adverts()[0].sequence
            with trio.fail_after(300):
                while market.client().adverts()[0].sequence == known:
                    await trio.sleep(0.1)
            assert (await market.run(asked(8)).finished()).finish == "length"
            away.clear()
            assert (await market.wallet()).in_channels_wei > 0
    assert spent(tmp_path) == cost(2) + cost(8)
