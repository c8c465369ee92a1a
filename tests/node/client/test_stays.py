"""A request that goes on from an earlier one: the same tokens for less, and nothing lost where it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.ledger import Ledger, Role
from hypercluster.market.money.voucher import charge
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.client.stays import LEAST_SHARED, ParkedPath, Stays
from hypercluster.node.evidence.checking import check_bundle
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import dial_steps
from tests.node.client.test_client import CHEAP, PROMPT, World, hang_up, honest, world
from tests.node.helpers.providers import Served, Wallet, new_wallet
from tests.node.helpers.visits import started

__all__ = ["honest", "world"]
TOKENS = 4
PRICES = CHEAP, CHEAP // 4, CHEAP // 80
"""of head and tail each: a token, a prompt token, one that is held"""


@asynccontextmanager
async def staying(world: World, wallet: Wallet, home: Path, *, chain: bool = False) -> AsyncIterator[Client]:
    async with world.client(wallet, home) as client:
        client.wishes = replace(client.wishes, stays=True, chain=chain)
        yield client


async def asked(client: Client, prompt: list[int], tokens: int = TOKENS, key: str = "") -> Completion:
    request = Request(prompt=tuple(prompt), allowance=Allowance(tokens=tokens))
    with trio.fail_after(300):
        return await client.complete(request, key).finished()


def cost(rows: int, cached: int, tokens: int = TOKENS) -> int:
    """Of two hops."""
    price, prompt, held = PRICES
    return 2 * (charge(price, prompt, rows) + held * cached + (tokens - 1) * price)


@pytest.mark.parametrize("chained", [False, True], ids=["relay", "chain"])
async def test_the_next_turn_pays_for_what_is_new(world: World, tmp_path: Path, chained: bool) -> None:
    wallet, text = new_wallet(world.chain), [*PROMPT, *world.greedy]
    first_prompt, next_prompt = text[:40], text[:50]
    async with staying(world, wallet, tmp_path, chain=chained) as client:
        first = await asked(client, first_prompt)
        assert (first.cached, first.spent_wei) == (0, cost(40, 0))
        second = await asked(client, next_prompt)
        # The last token of the first answer was never run.
        assert (second.cached, second.spent_wei) == (43, cost(7, 43))
        # The same again, as somebody does who wants another answer.
        third = await asked(client, next_prompt)
        assert (third.cached, third.spent_wei) == (49, cost(1, 49))
        # What another key left is nobody's business, and a path is left to who would lose most of it.
        assert (await asked(client, next_prompt, key="another")).cached == 0
        assert (await asked(client, [*text[: LEAST_SHARED - 1], 5, 6])).cached == 0
    assert first.tokens == text[40 : 40 + TOKENS]
    assert second.tokens == third.tokens == text[50 : 50 + TOKENS]
    hops = [bill.session for bill in first.bills]
    assert [bill.session for bill in second.bills] == [bill.session for bill in third.bills] == hops
    checked = [check_bundle(ReceiptFiles(tmp_path).load(each.request_id)) for each in (first, second, third)]
    assert [each.faults for each in checked] == [()] * 3
    assert [each.bundle.cost_wei for each in checked] == [each.spent_wei for each in (first, second, third)]
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        for done in (first, second, third):
            detail = ledger.requests.one(done.request_id)
            assert detail is not None
            assert (detail.row.spent, detail.row.tokens_cached) == (done.spent_wei, done.cached)
            assert {hop.stage_session for hop in detail.hops} == {*hops}
            assert sum(hop.billed for hop in detail.hops) == done.spent_wei
    for served, session in zip((world.head, world.tail), hops, strict=True):
        books = [
            row for row in served.ledger.history.sessions(role=Role.PROVIDER) if row.session_id == session
        ]
        total = sum(done.spent_wei for done in (first, second, third)) // 2
        assert [row.billed for row in books] == [total]


async def test_where_one_hop_let_go_all_begin_anew(world: World, tmp_path: Path) -> None:
    """Others took the places at one provider: the next turn costs what it costs, on the same path, and no more."""
    wallet, text = new_wallet(world.chain), [*PROMPT, *world.greedy]
    async with staying(world, wallet, tmp_path) as client:
        first = await asked(client, text[:40])
        await crowded(world, world.tail)
        with trio.fail_after(300):
            while any(advert.free < 3 for advert in client.adverts()):
                await trio.sleep(0.05)
        second = await asked(client, text[:50])
        assert (second.cached, second.spent_wei) == (0, cost(50, 0))
        assert second.failures == []
        third = await asked(client, text[:54])
        assert third.cached == 53
    for done, at in ((first, 40), (second, 50), (third, 54)):
        assert done.tokens == text[at : at + TOKENS]
        assert check_bundle(ReceiptFiles(tmp_path).load(done.request_id)).faults == ()
    assert second.bills[0].session == first.bills[0].session
    assert second.bills[1].session != first.bills[1].session
    total = sum(done.spent_wei for done in (first, second, third))
    assert world.best_vouchers(wallet) == total


async def crowded(world: World, served: Served) -> None:
    """All places of a provider are taken, and left again."""
    async with AsyncExitStack() as stack:
        for _ in range(2):
            wallet = new_wallet(world.chain)
            account = wallet.channel(served)
            host = await stack.enter_async_context(running_host(wallet.session_key))
            for _ in range(3):
                connection = await dial_steps(host, served.advert)
                stack.push_async_callback(connection.close)
                await started(served, connection, account)


async def test_a_provider_that_dies_in_the_next_turn_costs_nothing_more(world: World, tmp_path: Path) -> None:
    wallet, text = new_wallet(world.chain), [*PROMPT, *world.greedy]
    async with staying(world, wallet, tmp_path) as client:
        await asked(client, text[:40])
        world.tail_lies.tell, world.tail_lies.results = hang_up, 0
        second = await asked(client, text[:50])
    assert second.tokens == text[50 : 50 + TOKENS]
    assert world.tail.advert.peer in second.failures
    assert second.risked_wei > 0


async def test_the_path_that_holds_most_of_a_talk_is_gone_back_to_by_its_own_key_and_wishes() -> None:
    stays, wishes, record = Stays(), Wishes(stays=True), tuple(range(100))

    def put(tokens: tuple[int, ...], key: str = "", rewinds: bool = True, seconds: float = 60) -> ParkedPath:
        path = ParkedPath(
            key=key,
            wishes=wishes,
            tokens=tokens,
            stays={},
            rewinds=rewinds,
            until=trio.current_time() + seconds,
        )
        stays.put(path)
        return path

    put(record[:90], key="other")
    put(record[:31])
    put((*record[:35], *[7] * 40))
    put(record[:95], seconds=0)
    put((*record[:80], 7), rewinds=False)
    assert stays.take("", wishes, record) is None
    assert stays.take("", replace(wishes, spread=True), record) is None
    less, more, again = put(record[:40]), put((*record[:50], 7)), put((*record[:50], *[7] * 90))
    assert (less.shared(record), more.shared(record)) == (40, 50)
    assert stays.take("", wishes, record) is more
    assert stays.take("", wishes, record) is less
    # Of a talk that goes another way too much would be lost, but not of one that is answered again.
    assert again.shared(record) == 0
    assert again.shared(record[:50]) == 49
    assert stays.take("", wishes, record) is None
    for number in range(70):
        put((number, *record), key="many")
    assert len(stays) == 64
    assert stays.take("many", wishes, (5, *record)) is None
    assert stays.take("many", wishes, (6, *record, 1)) is not None


async def test_guesses_that_did_not_hold_are_no_part_of_what_is_gone_back_to(
    world: World, tmp_path: Path
) -> None:
    """Drafts leave more in the caches than was said: the next turn begins behind what was."""
    wallet, prompt, wrong = new_wallet(world.chain), PROMPT * 10, 0
    async with world.client(wallet, tmp_path) as client:
        plainly = replace(client.wishes, market=MarketParameters(alpha=0.1, risk_weight=0.0))
        for _ in range(3):
            client.wishes = replace(plainly, stays=True, drafts=4, in_flight=0)
            done = await asked(client, prompt, 9)
            wrong += done.drafted - done.draft_held
            client.wishes = plainly
            plain = await asked(client, prompt, 9)
            assert done.tokens == plain.tokens
            assert done.cached == (len(prompt) - 10 if len(prompt) > 40 else 0)
            prompt = [*prompt, *done.tokens, *prompt[:9]]
    assert wrong > 0
