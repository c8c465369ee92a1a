"""A market over real providers: many requests over two models, by name, streamed, paid from one wallet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from hypercluster.market.ledger import Ledger
from hypercluster.node.catalogue import ListedModel
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.events import Finished, PathChosen, Queued, Token
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.traffic.answer import text_of
from hypercluster.node.traffic.caller import Caller
from hypercluster.node.traffic.entries import NamedModel, NameTaken, UnknownModel, named_of
from hypercluster.node.traffic.happenings import (
    AdvertChanged,
    Happening,
    RequestAudited,
    RequestBegun,
    RequestEnded,
)
from tests.node.helpers.providers import Wallet
from tests.node.traffic.conftest import PRICE, PROMPT, PROMPT_PRICE, Network, cost, covered


def asked(tokens: int = 8, **changes: Any) -> Request:
    limits = changes.pop("limits", {})
    return Request(prompt=PROMPT, allowance=Allowance(tokens=tokens, **limits), **changes)


async def test_a_request_by_alias_gives_the_text_of_the_model(
    network: Network, wallet: Wallet, tmp_path: Path
) -> None:
    async with network.market(wallet, tmp_path) as market:
        async with market.run(asked(model="llama-tiny")) as answer:
            events = [event async for event in answer]
        tokens = [event.id for event in events if isinstance(event, Token)]
        assert tokens == network.greedy(network.tiny, 8)
        assert isinstance(events[-1], Finished)
        assert events[-1].error is None
        assert answer.completion.spent_wei == cost(8)
        assert "".join(map(text_of, events)) == answer.completion.text
        with pytest.raises(UnknownModel, match="Known are: tiny"):
            market.run(asked(model="gpt-5"))


async def test_a_model_is_listed_with_what_is_offered_of_it(
    network: Network, wallet: Wallet, tmp_path: Path
) -> None:
    async with network.market(wallet, tmp_path) as market:
        entry = market.model(network.tiny.model_id.upper())
        assert market.models() == (entry,)
        assert (entry.name, entry.layers, entry.coverage, entry.context) == ("tiny", 4, 1.0, 100)
        assert (entry.price_wei, entry.prompt_price_wei) == (PRICE, PROMPT_PRICE)
        assert 0 <= entry.sessions <= 4


async def test_two_models_share_a_host_a_wallet_and_a_ledger(
    network: Network, wallet: Wallet, tmp_path: Path
) -> None:
    """The second one is added while the first answers; what both cost is in one ledger, to the wei."""
    async with network.market(wallet, tmp_path) as market:
        async with market.run(asked(20)) as answer:
            async for event in answer:
                if isinstance(event, Token) and len(answer.completion.tokens) == 2:
                    await market.trade(network.other)
            first = answer.completion
        assert first.tokens == network.greedy(network.tiny, 20)
        await covered(market)
        second = await market.run(asked(12, model="other")).finished()
        assert second.tokens == network.greedy(network.other, 12)
        assert {advert.peer for advert in market.client("other").adverts()} == {network.second.advert.peer}
        assert {advert.peer for advert in market.client("tiny").adverts()} == {network.first.advert.peer}
        with pytest.raises(NameTaken):
            await market.trade(NamedModel("mine", network.other.stored, ("tiny",)))
        await market.trade(NamedModel("renamed", network.other.stored))
        assert [entry.name for entry in market.models()] == ["tiny", "renamed"]
        since = datetime.now(UTC) - timedelta(hours=1)
        for named, served in ((network.tiny, network.first), (network.other, network.second)):
            with trio.fail_after(300):
                while not (history := market.ledger.adverts.history(named.model_id, since)):
                    await trio.sleep(0.05)
            assert {row.peer for row in history} == {served.advert.peer}
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        assert sum(row.spent for row in ledger.payer.channels()) == cost(20) + cost(12)
    assert network.best_vouchers(wallet.sender.address) == cost(20) + cost(12)


async def test_fifty_requests_over_four_sessions_end_well_and_nobody_is_blamed(
    network: Network, wallet: Wallet, tmp_path: Path
) -> None:
    """Two keys ask for 25 completions each at once; ten more are left while they wait."""
    finished: list[Completion] = []
    told: list[Queued] = []
    callers = [Caller(key_id="a", app="loop"), Caller(key_id="b", app="loop")]

    async with network.market(wallet, tmp_path) as market:

        async def one(caller: Caller) -> None:
            async with market.run(asked(6, limits={"patience": 300.0}), caller) as answer:
                async for event in answer:
                    if isinstance(event, Queued):
                        told.append(event)
                finished.append(answer.completion)

        async def leaves() -> None:
            async with market.run(asked(6), callers[0]) as answer:
                async for event in answer:
                    if isinstance(event, Queued | PathChosen):
                        break
                assert answer.completion.spent_wei == 0

        async with trio.open_nursery() as nursery:
            for index in range(50):
                nursery.start_soon(one, callers[index % 2])
            for _ in range(10):
                nursery.start_soon(leaves)
        client = market.client()
        assert (len(client.line), client.vacancies.paths) == (0, 0)
        with trio.fail_after(300):
            while market.model().sessions < 4:
                await trio.sleep(0.05)
    expected = network.greedy(network.tiny, 6)
    assert len(finished) == 50
    assert {(done.finish, tuple(done.tokens), tuple(done.failures)) for done in finished} == {
        ("length", tuple(expected), ())
    }
    assert min(event.position for event in told) == 1
    assert (
        network.best_vouchers(wallet.sender.address)
        == 50 * cost(6)
        == sum(done.spent_wei for done in finished)
    )
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        assert sum(row.spent for row in ledger.payer.channels()) == 50 * cost(6)
        standings = ledger.trust.standings(datetime.now(UTC)).values()
        assert {node.bad + node.failed for each in standings for node in each.nodes.values()} == {0}


async def test_what_happens_is_told_to_who_looks_on(network: Network, wallet: Wallet, tmp_path: Path) -> None:
    async with network.market(wallet, tmp_path) as market:
        happened: list[Happening] = []

        async def look(task_status: Any) -> None:
            with market.watched() as happenings:
                task_status.started()
                async for happening in happenings:
                    happened.append(happening)

        async with trio.open_nursery() as nursery:
            await nursery.start(look)
            await trio.testing.wait_all_tasks_blocked()
            answer = market.run(asked(3))
            await answer.finished()
            left = market.run(asked(50))
            async with left:
                async for event in left:
                    if isinstance(event, Token):
                        break
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    model_id = network.tiny.model_id
    assert [each for each in happened if not isinstance(each, AdvertChanged)] == [
        RequestBegun(answer.request_id, model_id),
        RequestEnded(answer.request_id, model_id, "length", cost(3)),
        RequestBegun(left.request_id, model_id),
        RequestEnded(left.request_id, model_id, "cancelled", cost(1)),
    ]


async def test_audits_follow_in_the_background_and_are_told(
    network: Network, wallet: Wallet, tmp_path: Path
) -> None:
    """The answer is there before; the request's row says how many audits are still open, and what they found."""
    auditing = Auditing(policy=Policy(rate=1.0), auditor="own")
    async with network.market(wallet, tmp_path, auditing=auditing) as market:
        audited: list[RequestAudited] = []

        async def look() -> None:
            with market.watched() as happenings:
                async for happening in happenings:
                    if isinstance(happening, RequestAudited):
                        audited.append(happening)
                        return

        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                await trio.testing.wait_all_tasks_blocked()
                done = await market.run(asked(4), Caller(app="tests", endpoint="cli")).finished()
            while (detail := market.ledger.requests.one(done.request_id)) is None or detail.row.audits_open:
                await trio.sleep(0.05)
    assert audited == [
        RequestAudited(done.request_id, network.tiny.model_id, network.first.advert.peer, "pass", False)
    ]
    row = detail.row
    assert (row.app, row.endpoint, row.model_name, row.outcome) == ("tests", "cli", "tiny", "length")
    assert (row.tokens_in, row.tokens_out, row.cost) == (len(PROMPT), 4, cost(4))
    assert row.first_token is not None
    assert [audit.finding for audit in detail.audits] == ["pass"]
    assert [hop.peer for hop in detail.hops] == [network.first.advert.peer]


async def test_tokens_are_drawn_as_the_model_says_where_nobody_says_how(
    network: Network, wallet: Wallet, tmp_path: Path
) -> None:
    listed = ListedModel(
        name="tiny", model_id=network.tiny.model_id, layers=4, n_vocab=320, context=256, temperature=0.7
    )
    async with network.market(wallet, tmp_path, named_of(listed, network.tiny.stored)) as market:
        assert market.model().sampling == Sampling(temperature=0.7)
        drawn = await market.complete(PROMPT, tokens=2).finished()
        assert drawn.seed is not None
        greedy = await market.complete(PROMPT, tokens=2, sampling=Sampling()).finished()
        assert (greedy.seed, greedy.tokens) == (None, network.greedy(network.tiny, 2))
