"""Several answers to one prompt: it is run once and paid once, and each of them is what it would be alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hypercluster.market.ledger import Ledger, Role
from hypercluster.market.money.budget import Budget
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.client.siblings import Siblings
from hypercluster.node.evidence.checking import check_bundle
from hypercluster.node.provider import parking
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import StepResult
from tests.node.client.test_client import CHEAP, PROMPT, World, honest, world
from tests.node.client.test_stays import cost
from tests.node.helpers.providers import new_wallet

__all__ = ["honest", "world"]
LONG = PROMPT * 10
TOKENS = 6
HELD = CHEAP // 80
END = 319
"""the token that ends an answer, which none of them shall"""


def request(
    seed: int, tokens: int = TOKENS, prompt: list[int] = LONG, budget: Budget | None = None
) -> Request:
    return Request(
        prompt=tuple(prompt),
        allowance=Allowance(tokens=tokens, shared=budget),
        sampling=Sampling(temperature=1.5, seed=seed, logit_bias=((END, -100.0),)),
    )


async def answers(
    client: Client, count: int, together: bool = True, tokens: int = TOKENS, budget: Budget | None = None
) -> list[Completion]:
    """To one prompt with other seeds, the one that ran it first."""
    siblings = Siblings() if together else None
    completing = [client.complete(request(k, tokens, budget=budget), "", siblings) for k in range(count)]
    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            for each in completing:
                nursery.start_soon(each.finished)
    return sorted((each.completion for each in completing), key=lambda done: done.cached)


def texts(found: list[Completion]) -> dict[int | None, list[int]]:
    return {done.seed: done.tokens for done in found}


def branched(tokens: int = TOKENS) -> int:
    """What an answer costs at two hops that does not run the prompt; its first token comes with that of the other."""
    return 2 * (HELD * len(LONG) + (tokens - 1) * CHEAP) if tokens > 1 else 0


@pytest.mark.parametrize("stays", [False, True], ids=["ended", "kept"])
@pytest.mark.parametrize("chained", [False, True], ids=["relay", "chain"])
async def test_the_prompt_is_run_once(world: World, tmp_path: Path, chained: bool, stays: bool) -> None:
    wallet = new_wallet(world.chain)
    looked = Auditing(policy=Policy(rate=1.0), auditor="own") if stays else None
    async with world.client(wallet, tmp_path, auditing=looked) as client:
        client.wishes = replace(client.wishes, chain=chained, stays=stays)
        found = await answers(client, 4)
        apart = [done for k in range(4) for done in [await alone(client, k)]]
        assert texts(found) == texts(apart)
        assert [done.cached for done in found] == [0, 40, 40, 40]
        assert [done.spent_wei for done in found] == [cost(40, 0, TOKENS), *[branched()] * 3]
        assert len({bill.session for done in found for bill in done.bills}) == 8
        for done in found:
            checked = check_bundle(ReceiptFiles(tmp_path).load(done.request_id))
            assert checked.faults == ()
            assert checked.bundle.cost_wei == done.spent_wei
        if stays:
            # A branch is looked over as any other stage, with all that it begins with.
            for done in found:
                findings = [report.finding for report in await client.reports(done.request_id)]
                # So many questions at once are more than a provider answers one client.
                assert {*findings} <= {"pass", "error"}
                assert "pass" in findings
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        for done in found:
            detail = ledger.requests.one(done.request_id)
            assert detail is not None
            assert (detail.row.spent, detail.row.tokens_cached) == (done.spent_wei, done.cached)
    for served in (world.head, world.tail):
        sessions = {bill.session for done in found for bill in done.bills}
        rows = [
            row for row in served.ledger.history.sessions(role=Role.PROVIDER) if row.session_id in sessions
        ]
        assert sum(row.billed for row in rows) == sum(done.spent_wei for done in found) // 2


async def alone(client: Client, seed: int) -> Completion:
    wishes = replace(client.wishes, stays=False)
    with trio.fail_after(300):
        return await client.complete(replace(request(seed), wishes=wishes)).finished()


async def test_an_answer_of_one_token_costs_nothing_more(world: World, tmp_path: Path) -> None:
    """As whoever asks for twenty opinions in a word: they are all drawn behind one prompt."""
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        found = await answers(client, 5, tokens=1)
    assert [done.spent_wei for done in found] == [cost(40, 0, 1), 0, 0, 0, 0]
    assert all(len(done.tokens) == 1 for done in found)


async def test_one_limit_holds_for_all_of_them(world: World, tmp_path: Path) -> None:
    """Each has what it could pay for, and nobody's bill is lost."""
    wallet, limit = new_wallet(world.chain), cost(40, 0, TOKENS) + branched() + 2 * CHEAP
    budget = Budget("limit of this request", limit)
    async with world.client(wallet, tmp_path) as client:
        found = await answers(client, 3, budget=budget)
    # A step more would not have fitted, of whoever went on last.
    assert limit - branched(2) < sum(done.spent_wei for done in found) <= limit
    assert budget.spent_wei == sum(done.spent_wei for done in found) == world.best_vouchers(wallet)
    assert all(done.tokens and done.error is None for done in found)
    assert "cost" in {done.finish for done in found}


async def test_where_the_first_one_is_left_another_runs_the_prompt(world: World, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        siblings = Siblings()
        first, *others = [client.complete(request(k), "", siblings) for k in range(3)]
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery, first:
                await anext(first)
                for each in others:
                    nursery.start_soon(each.finished)
        assert first.completion.spent_wei == 0
        found = sorted((each.completion for each in others), key=lambda done: done.cached)
        assert [done.spent_wei for done in found] == [cost(40, 0, TOKENS), branched()]
        assert texts(found) == texts([await alone(client, k) for k in (1, 2)])


async def test_where_there_is_no_copy_each_runs_the_prompt(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "MOST_BYTES", 1)
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        found = await answers(client, 3)
        apart = await answers(client, 3, together=False)
    assert texts(found) == texts(apart)
    assert [done.spent_wei for done in found] == [cost(40, 0, TOKENS)] * 3
    assert not any(done.failures for done in found)


async def test_who_does_not_sign_for_what_was_there_is_left(world: World, tmp_path: Path) -> None:
    """One step is at risk, and the answer is the same, from others."""

    def unsigned(message: Message, count: int) -> Message | None:
        if isinstance(message, StepResult) and message.inherited:
            return replace(message, inherited=bytes(len(message.inherited)))
        return message

    wallet = new_wallet(world.chain)
    world.tail_lies.tell = unsigned
    async with world.client(wallet, tmp_path) as client:
        found = await answers(client, 2)
        _, second = sorted(found, key=lambda done: len(done.failures))
        assert second.failures == [world.tail.advert.peer]
        assert second.risked_wei == HELD * len(LONG) + CHEAP
        world.tail_lies.tell = lambda message, number: message
        assert texts(found) == texts([await alone(client, k) for k in (0, 1)])
