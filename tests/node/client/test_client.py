"""The client over real providers, some of which lie: it names them, leaves them, and never pays too much."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import Path as Route
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.units import HCT
from hypercluster.node.client import hop, stepping
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion, TooExpensive
from hypercluster.node.client.events import PathChosen
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.joining import joined
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.engine import reference
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.home.settings import Settings
from hypercluster.node.network.connection import Connection
from hypercluster.node.provider import process as provider
from hypercluster.node.provider.prices import PriceRule, Prices
from hypercluster.node.provider.service import Service
from hypercluster.node.provider.sessions import serve_session
from hypercluster.node.rows import TopK, pack_topk, unpack_topk
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Accept, Close, Error, Step, StepResult
from tests.node.helpers.providers import Served, Wallet, new_wallet, running_provider

PROMPT = [72, 101, 108, 108]
TOKENS = 8
CHEAP, DEAR = 100, 1_000

Lie = Callable[[Message, int], Message | None]


@dataclass(eq=False)
class Lies:
    """What a provider makes of the answers it should give; None is silence."""

    tell: Lie = lambda message, number: message
    hasty: int = 0
    """steps that arrived before the one before was answered"""
    results: int = 0


class Lying:
    """A connection whose provider lies on it, and looks whether the client waits for its answers."""

    def __init__(self, inner: Connection, lies: Lies) -> None:
        self.peer, self.direct, self.source, self.ip = inner.peer, inner.direct, inner.source, inner.ip
        self.raise_bound, self.close = inner.raise_bound, inner.close
        self._inner, self._lies = inner, lies
        self._early: list[Message] = []

    async def receive(self, timeout: float | None = None) -> Message:
        if self._early:
            return self._early.pop()
        message = await self._inner.receive(timeout)
        if isinstance(message, Step):
            with trio.move_on_after(0.005):
                self._early.append(await self._inner.receive())
                early = self._early[0]
                self._lies.hasty += isinstance(early, Step) and not early.epoch
        return message

    async def send(self, message: Message, timeout: float | None = None) -> None:
        number = self._lies.results
        self._lies.results += isinstance(message, StepResult)
        told = self._lies.tell(message, number)
        if told is not None:
            await self._inner.send(told, timeout)


@dataclass(eq=False)
class World:
    """Two cheap providers that lie when told to, and an honest one that is dear and serves everything."""

    head: Served
    tail: Served
    whole: Served
    head_lies: Lies
    tail_lies: Lies
    chain: Chain
    stored: StoredModel
    greedy: list[int]

    @asynccontextmanager
    async def client(
        self, wallet: Wallet, home: Path, deposit: int = HCT // 100, **more: Any
    ) -> AsyncIterator[Client]:
        """A client that knows all three providers, idle, and looks at prices only."""
        settings = Settings(home=home, bootstrap=(self.whole.address,))
        market = MarketParameters(alpha=1.0, risk_weight=0.0)
        async with joined(
            settings,
            self.chain,
            self.stored,
            wallet.purse,
            wishes=Wishes(market=market, deposit_wei=deposit, chain=False),
            **more,
        ) as client:
            with trio.fail_after(300):
                while len(client.adverts()) < 3 or any(advert.free < 3 for advert in client.adverts()):
                    await trio.sleep(0.05)
            yield client

    def best_vouchers(self, wallet: Wallet) -> int:
        """All that the providers could claim from a wallet."""
        rows = [row for each in (self.head, self.tail, self.whole) for row in each.ledger.payee.channels()]
        return sum(row.best for row in rows if row.payer == wallet.sender.address)


@pytest.fixture(scope="module")
def world(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("providers")
    assert stored_tiny.source
    greedy = reference.generate(stored_tiny.source, PROMPT, 60, threads=1)
    head_lies, tail_lies = Lies(), Lies()

    def terms(price: int) -> dict[str, Any]:
        rule = PriceRule(start_wei=price, start_prompt_wei=price // 4, adapt=False)
        return {
            "sessions": 6,
            "session_tokens": 100,
            "step_tokens": 16,
            "refresh_seconds": 2.0,
            "price": rule,
        }

    def lying(lies: Lies) -> Any:
        async def serve(connection: Connection, service: Service) -> None:
            await serve_session(Lying(connection, lies), service)  # type: ignore[arg-type]

        return serve

    with running_provider(chain, stored_tiny, folder / "whole", (0, 4), **terms(DEAR)) as whole:
        joining = {"bootstrap": (whole.address,)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(provider, "serve_session", lying(head_lies))
            head_runs = running_provider(
                chain, stored_tiny, folder / "head", (0, 2), **terms(CHEAP), **joining
            )
            head = head_runs.__enter__()
            patch.setattr(provider, "serve_session", lying(tail_lies))
            tail_runs = running_provider(
                chain, stored_tiny, folder / "tail", (2, 4), **terms(CHEAP), **joining
            )
            tail = tail_runs.__enter__()
        try:
            ids = [int(token) for token in greedy.ids]
            yield World(head, tail, whole, head_lies, tail_lies, chain, stored_tiny, ids)
        finally:
            tail_runs.__exit__(None, None, None)
            head_runs.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def honest(world: World) -> Iterator[None]:
    """Each test begins with honest providers, and at its end nobody was ever sent a step too early."""
    for lies in (world.head_lies, world.tail_lies):
        lies.tell, lies.results = Lies.tell, 0
    yield
    assert (world.head_lies.hasty, world.tail_lies.hasty) == (0, 0)


async def complete(
    client: Client,
    *,
    tokens: int = TOKENS,
    prompt: list[int] = PROMPT,
    cost: int | None = None,
    on_path: Callable[[Route], None] = lambda path: None,
) -> Completion:
    request = Request(prompt=tuple(prompt), allowance=Allowance(tokens=tokens, cost_wei=cost))
    with trio.fail_after(300):
        completing = client.complete(request)
        async with completing:
            async for event in completing:
                if isinstance(event, PathChosen):
                    on_path(event.path)
    if completing.completion.error is not None:
        raise completing.completion.error
    return completing.completion


def on_result(number: int, **changes: Any) -> Lie:
    """Lie in the result of that number."""

    def tell(message: Message, count: int) -> Message | None:
        if isinstance(message, StepResult) and count == number:
            return replace(message, **{k: v(message) if callable(v) else v for k, v in changes.items()})
        return message

    return tell


def on_accept(**changes: Any) -> Lie:
    """Lie when the session opens."""

    def tell(message: Message, count: int) -> Message | None:
        if isinstance(message, Accept):
            return replace(message, **{k: v(message) if callable(v) else v for k, v in changes.items()})
        return message

    return tell


def instead(kind: type[Any], answer: Message | None) -> Lie:
    """Say something else, or nothing, instead of every message of a kind."""
    return lambda message, count: answer if isinstance(message, kind) else message


def hang_up(message: Message, count: int) -> Message | None:
    if isinstance(message, StepResult) and count == 2:
        raise ConnectionLost("The provider hangs up.")
    return message


def topk(change: Callable[[TopK], TopK]) -> Callable[[StepResult], bytes]:
    def changed(message: StepResult) -> bytes:
        return pack_topk(change(unpack_topk(message.output, message.rows)))

    return changed


def unsorted(best: TopK) -> TopK:
    return TopK(best.ids[:, ::-1].copy(), best.logits[:, ::-1].copy(), best.logsumexp)


def twice(best: TopK) -> TopK:
    return TopK(np.repeat(best.ids[:, :1], best.ids.shape[1], 1), best.logits, best.logsumexp)


def unknown(best: TopK) -> TopK:
    return TopK(best.ids + 320, best.logits, best.logsumexp)


def inflated(best: TopK) -> TopK:
    return TopK(best.ids, best.logits + 50, best.logsumexp)


def one_only(best: TopK) -> TopK:
    return TopK(best.ids[:, :1].copy(), best.logits[:, :1].copy(), best.logsumexp)


def nan_rows(result: StepResult) -> bytes:
    return np.full(len(result.output) // 4, np.nan, "<f4").tobytes()


def signed_before() -> Lie:
    """Send the receipt of the step before once more."""
    receipts: list[bytes] = []

    def tell(message: Message, count: int) -> Message | None:
        if not isinstance(message, StepResult):
            return message
        receipts.append(message.receipt)
        return replace(message, receipt=receipts[-2]) if len(receipts) == 3 else message

    return tell


def changed_after_signing(result: StepResult) -> bytes:
    values = np.frombuffer(result.output, "<f4").copy()
    values[0] += 1
    return values.tobytes()


LIES: dict[str, tuple[str, Lie]] = {
    "does not sign": ("head", on_result(2, receipt=bytes(64))),
    "signs as somebody else": ("tail", on_result(2, receipt=secrets.token_bytes(64))),
    "signs something else than it sends": ("head", on_result(2, output=changed_after_signing)),
    "sends an old receipt again": ("head", signed_before()),
    "dates its receipt back": ("tail", on_result(2, issued=lambda m: m.issued - 3600)),
    "dates its receipt otherwise than it signed": ("tail", on_result(2, issued=lambda m: m.issued + 1)),
    "names another profile than it signs for": ("head", on_accept(profile="another")),
    "names another nonce than it signs for": ("tail", on_accept(nonce=bytes(16))),
    "overbills a step": ("head", on_result(2, billed_wei=lambda m: m.billed_wei + 1)),
    "overbills a lot": ("tail", on_result(0, billed_wei=HCT)),
    "bills before anything was done": ("head", on_accept(billed_wei=1)),
    "shows a voucher nobody signed": (
        "head",
        on_accept(paid_wei=HCT, billed_wei=HCT, paid_signature=b"\1" * 64),
    ),
    "shows a voucher of another amount": (
        "tail",
        on_accept(paid_wei=lambda m: m.paid_wei + HCT, paid_signature=secrets.token_bytes(64)),
    ),
    "signs its quote with another key": ("head", on_accept(quote_signature=secrets.token_bytes(64))),
    "quotes more than it advertised": ("head", on_accept(price_wei=lambda m: m.price_wei + 1)),
    "quotes less than it signed": ("head", on_accept(price_wei=lambda m: m.price_wei - 1)),
    "has less room than asked for": ("tail", on_accept(capacity=lambda m: m.capacity - 1)),
    "has another width than advertised": ("tail", on_accept(width=65)),
    "answers another step": ("head", on_result(1, seq=7)),
    "sends NaN": ("head", on_result(2, output=nan_rows)),
    "sends too little": ("head", on_result(2, output=lambda m: m.output[:-4])),
    "sends activations for logits": ("tail", on_result(2, output=b"1234")),
    "sends logits for activations": (
        "head",
        on_result(
            2,
            output=pack_topk(TopK(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32), np.zeros(1))),
        ),
    ),
    "sends unsorted logits": ("tail", on_result(2, output=topk(unsorted))),
    "sends one token many times": ("tail", on_result(2, output=topk(twice))),
    "sends tokens that do not exist": ("tail", on_result(2, output=topk(unknown))),
    "sends more mass than there is": ("tail", on_result(2, output=topk(inflated))),
    "leaves the client no choice": ("tail", on_result(2, output=topk(one_only))),
    "answers Open with Close": ("head", instead(Accept, Close())),
    "answers a step with Accept's error": (
        "tail",
        instead(StepResult, Error(ErrorCode.INTERNAL, "The provider failed; try another one.")),
    ),
    "always wants more than it says": ("head", instead(Accept, Error(ErrorCode.PRICE_TOO_LOW, "More."))),
    "hangs up": ("head", hang_up),
    "is silent when opened": ("tail", instead(Accept, None)),
    "is silent when paid": ("head", instead(StepResult, None)),
}


@pytest.mark.parametrize("case", LIES)
async def test_a_provider_that_lies_is_named_and_left(
    world: World, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, lie = LIES[case]
    liar: Served = getattr(world, name)
    getattr(world, f"{name}_lies").tell = lie
    if "silent" in case:
        monkeypatch.setattr(hop, "OPEN_SECONDS", 1.0)
        monkeypatch.setattr(stepping, "STEP_SECONDS", 1.0)
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path) as client:
        completion = await complete(client)
    assert completion.failures == [liar.advert.peer]
    assert completion.tokens == world.greedy[:TOKENS]
    assert completion.bills[-1].peer == world.whole.advert.peer
    # What the liar can claim is what it was paid for good answers and for one more step at most.
    at_liar = [bill for bill in completion.bills if bill.peer == liar.advert.peer]
    paid = sum(bill.paid_wei for bill in at_liar)
    rows = [row for row in liar.ledger.payee.channels() if row.payer == wallet.sender.address]
    assert sum(row.best for row in rows) <= paid + CHEAP
    assert world.best_vouchers(wallet) <= completion.spent_wei + completion.risked_wei


async def test_a_lie_names_the_liar_in_the_error(world: World, tmp_path: Path) -> None:
    world.tail_lies.tell = on_result(1, billed_wei=HCT)
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        allowance = Allowance(tokens=TOKENS, failures=0)
        with pytest.raises(HopFailed) as failed:
            await client.complete(Request(prompt=tuple(PROMPT), allowance=allowance)).finished()
    assert failed.value.peer == world.tail.advert.peer
    assert world.tail.advert.peer in str(failed.value)


@pytest.mark.parametrize("cost", [199, 499, 800, 1234])
@pytest.mark.parametrize("lie", [None, "is silent when paid", "sends unsorted logits"])
async def test_no_more_is_spent_than_allowed(
    world: World, cost: int, lie: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vouchers that providers hold never sum up to more than the limit, failures or not."""
    if lie:
        name, tell = LIES[lie]
        getattr(world, f"{name}_lies").tell = tell
        monkeypatch.setattr(stepping, "STEP_SECONDS", 2.0)
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path, deposit=HCT) as client:
        # The prompt costs 200 on the cheap path, and 1,000 where one that was paid 100 is silent.
        if cost < (1100 if lie == "is silent when paid" else 200):
            with pytest.raises(TooExpensive, match="limit of this request"):
                await complete(client, cost=cost)
        else:
            completion = await complete(client, cost=cost)
            assert completion.spent_wei <= cost
            assert completion.finish in ("cost", "length")
            assert completion.tokens == world.greedy[: len(completion.tokens)]
    assert world.best_vouchers(wallet) <= cost


async def test_a_prompt_longer_than_a_step_goes_in_chunks_one_at_a_time(world: World, tmp_path: Path) -> None:
    prompt = [*PROMPT, *world.greedy[:45]]  # 49 tokens; a step has 16
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path) as client:
        completion = await complete(client, prompt=prompt, tokens=4)
    assert completion.tokens == world.greedy[45:49]
    assert world.head_lies.results == 4 + 3
    assert completion.spent_wei == world.best_vouchers(wallet) == 2 * (49 * (CHEAP // 4) + 3 * CHEAP)


async def test_a_price_that_moved_is_asked_for_and_no_failure(world: World, tmp_path: Path) -> None:
    served, before = world.tail, world.tail.provider.asking.prices
    moved: list[Route] = []

    def publish(prices: Prices) -> None:
        served.provider.asking.prices = prices
        done: list[bool] = []

        async def work() -> None:
            await served.presence.publish()
            done.append(True)

        world.tail.token.run_sync_soon(trio.lowlevel.spawn_system_task, work)
        while not done:
            time.sleep(0.01)

    def move(path: Route) -> None:
        # The client's loop stands still meanwhile, so it cannot hear the new advert in time.
        moved.append(path)
        if len(moved) == 1:
            publish(Prices(2 * CHEAP, CHEAP // 2))

    try:
        async with world.client(new_wallet(world.chain), tmp_path) as client:
            completion = await complete(client, on_path=move)
    finally:
        publish(before)
    assert completion.failures == []
    assert [bill.peer for bill in completion.bills] == [world.head.advert.peer, world.tail.advert.peer]
    assert completion.bills[1].price_wei == 2 * CHEAP
    assert completion.tokens == world.greedy[:TOKENS]


async def test_a_full_provider_is_gone_around(world: World, tmp_path: Path) -> None:
    first, second = new_wallet(world.chain), new_wallet(world.chain)
    async with world.client(first, tmp_path / "1") as holding, world.client(second, tmp_path / "2") as client:
        path = await holding.route()
        assert [node.id for node in path.nodes] == [world.head.advert.peer, world.tail.advert.peer]
        async with AsyncExitStack() as stack:
            held = []
            for _ in range(6):
                pipeline = await holding.open(path, capacity=50, prompt=4, tokens=8)
                held.append(await stack.enter_async_context(pipeline))
                best = await pipeline.run(PROMPT)
                assert best.ids[0, 0] == world.greedy[0]
            completion = await complete(client)
            # Those who hold the sessions go on.
            for pipeline in held:
                best = await pipeline.run(world.greedy[:1])
                assert best.ids[0, 0] == world.greedy[1]
    assert len(completion.failures) <= 1  # none if the advert has said so in the meantime
    assert [bill.peer for bill in completion.bills] == [world.whole.advert.peer]
    assert completion.tokens == world.greedy[:TOKENS]


async def test_two_clients_at_once_and_two_completions_of_one(world: World, tmp_path: Path) -> None:
    """Two sessions with each provider at the same time, over two channels and then over one."""
    wallets = [new_wallet(world.chain), new_wallet(world.chain)]
    done: list[tuple[int, Completion]] = []

    async def run(client: Client, number: int) -> None:
        done.append((number, await complete(client, tokens=12)))

    async with (
        world.client(wallets[0], tmp_path / "1") as first,
        world.client(wallets[1], tmp_path / "2") as second,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, first, 0)
            nursery.start_soon(run, second, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, first, 0)
            nursery.start_soon(run, first, 0)
    assert len(done) == 4
    for _, completion in done:
        assert completion.tokens == world.greedy[:12]
        assert completion.failures == []
        assert len(completion.bills) == 2
    for number, wallet in enumerate(wallets):
        spent = sum(completion.spent_wei for owner, completion in done if owner == number)
        assert world.best_vouchers(wallet) == spent


async def test_a_channel_that_runs_out_is_topped_up(world: World, tmp_path: Path) -> None:
    """The ledger forgot what was spent, so the channel holds less than the client thinks."""
    wallet = new_wallet(world.chain)
    enough = 12 * CHEAP
    async with world.client(wallet, tmp_path, deposit=enough) as client:
        first = await complete(client)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        channels = ledger.payer.channels()
        for row in channels:
            ledger.payer.store(row.channel_id, 0, 0)
    async with world.client(wallet, tmp_path, deposit=enough) as client:
        second = await complete(client)
    assert first.tokens == second.tokens == world.greedy[:TOKENS]
    assert second.failures == []
    assert {bill.channel_id for bill in second.bills} == {row.channel_id for row in channels}
    assert world.best_vouchers(wallet) == first.spent_wei + second.spent_wei
    for row in channels:
        assert world.chain.channels.state(row.channel_id).deposit > enough


async def test_a_client_that_lost_its_ledger_opens_another_channel(world: World, tmp_path: Path) -> None:
    wallet = new_wallet(world.chain)
    spent = 0
    for home in (tmp_path / "before", tmp_path / "after"):
        async with world.client(wallet, home) as client:
            completion = await complete(client)
        assert completion.tokens == world.greedy[:TOKENS]
        assert completion.failures == []
        spent += completion.spent_wei
    assert world.best_vouchers(wallet) == spent
    rows = [r for r in world.head.ledger.payee.channels() if r.payer == wallet.sender.address]
    assert len(rows) == 2
