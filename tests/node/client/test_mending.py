"""A path that breaks in mid-completion is mended: who is left goes on from where it was, and only others begin anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.money.budget import Budget
from hypercluster.market.money.units import HCT, format_hct
from hypercluster.market.money.voucher import charge
from hypercluster.market.trust.receipt import Receipt
from hypercluster.node.client import kept
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.client import Client
from hypercluster.node.client.completing import Completing
from hypercluster.node.client.completion import Completion, HopBill
from hypercluster.node.client.draft_model import Drafting
from hypercluster.node.client.events import Event, HopReplaced, PathChosen, Prefilled, SparesChanged, Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.levelling import Levelling
from hypercluster.node.client.own_layers import Ends, OwnStage
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.request import Allowance, Request, Sampling, Wishes
from hypercluster.node.client.siblings import Siblings
from hypercluster.node.client.spare import LEAST_ROWS, Spare
from hypercluster.node.client.standing_by import Standby
from hypercluster.node.client.trips import Trips
from hypercluster.node.engine import reference
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.evidence.checking import check_bundle
from hypercluster.node.home.policy import policy_file
from hypercluster.node.home.settings import Settings
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.connection import Connection
from hypercluster.node.provider import awaiting
from hypercluster.node.provider import process as provider
from hypercluster.node.provider.prices import PriceRule
from hypercluster.node.provider.process import HONEST
from hypercluster.node.provider.sessions import serve_session
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Accept, Error, StepResult
from tests.node.client.test_chaining import Moody
from tests.node.client.test_client import Lie, Lies, Lying, on_result
from tests.node.helpers.providers import Served, Wallet, new_wallet, running_provider

PROMPT = (72, 101, 108, 108)
TOKENS = 12
CHEAP, DEAR = 100, 150
RANGES = {
    "head": (0, 1),
    "middle": (1, 3),
    "tail": (3, 4),
    "spare left": (1, 2),
    "spare right": (2, 3),
    "spare tail": (3, 4),
}


@dataclass(eq=False)
class World:
    """A cheap path of three that lie when told to, two for the place of the second, and one for that of the last."""

    served: dict[str, Served]
    lies: dict[str, Lies]
    moods: list[str]
    """what the second makes of its links; see test_chaining.Moody"""
    mute: list[bool]
    """whether it hangs up where it is asked for what it signed for"""
    chain: Chain
    stored: StoredModel
    greedy: list[int]

    @asynccontextmanager
    async def client(
        self,
        wallet: Wallet,
        home: Path,
        auditing: Auditing | None = None,
        drafting: Drafting | None = None,
        own: Ends | None = None,
        **wishes: Any,
    ) -> AsyncIterator[Client]:
        settings = Settings(home=home, bootstrap=(self.served["head"].address,))
        market = MarketParameters(alpha=1.0, risk_weight=0.0)
        given: dict[str, Any] = {"chain": False, "market": market, "deposit_wei": HCT // 100}
        wanted = Wishes(**(given | wishes))
        async with joined(
            settings,
            self.chain,
            self.stored,
            wallet.purse,
            wishes=wanted,
            auditing=auditing,
            drafting=drafting,
            own=own,
        ) as client:
            with trio.fail_after(300):
                while sum(advert.free >= 3 for advert in client.adverts()) < len(self.served):
                    await trio.sleep(0.05)
            yield client

    def best_vouchers(self, wallet: Wallet) -> int:
        rows = [row for each in self.served.values() for row in each.ledger.payee.channels()]
        return sum(row.best for row in rows if row.payer == wallet.sender.address)

    def names(self, bills: list[HopBill]) -> list[str]:
        by_peer = {served.advert.peer: name for name, served in self.served.items()}
        return [by_peer[bill.peer] for bill in bills]


@pytest.fixture(scope="module")
def world(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("providers")
    assert stored_tiny.source
    ids = [int(each) for each in reference.generate(stored_tiny.source, PROMPT, 60, threads=1).ids]
    served: dict[str, Served] = {}
    lies = {name: Lies() for name in RANGES}
    moods, mute = list[str](), list[bool]()

    async def recalled(connection: Connection, *given: Any) -> None:
        await (connection.close() if mute else HONEST.recall(connection, *given))

    def lying(told: Lies) -> Any:
        async def serve(connection: Any, service: Any) -> None:
            await serve_session(Lying(connection, told), service)  # type: ignore[arg-type]

        return serve

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, layers in RANGES.items():
            price = DEAR if name.startswith("spare") else CHEAP
            patch.setattr(provider, "serve_session", lying(lies[name]))
            terms: dict[str, Any] = {
                "sessions": 6,
                "session_tokens": 100,
                "step_tokens": 16,
                "refresh_seconds": 2.0,
                "price": PriceRule(start_wei=price, start_prompt_wei=price // 4, adapt=False),
                "bootstrap": (served["head"].address,) if served else (),
            }
            if name == "middle":
                terms["ways"] = replace(HONEST, outlet=partial(Moody, moods), recall=recalled)
            running = running_provider(chain, stored_tiny, folder / name, layers, **terms)
            served[name] = stack.enter_context(running)
        yield World(served, lies, moods, mute, chain, stored_tiny, ids)


@pytest.fixture(autouse=True)
def honest(world: World) -> Iterator[None]:
    for lies in world.lies.values():
        lies.tell, lies.results = Lies.tell, 0
    yield
    world.moods.clear()
    world.mute.clear()
    assert [name for name, lies in world.lies.items() if lies.hasty] == []


def hang_up_at(number: int) -> Lie:
    def tell(message: Message, count: int) -> Message | None:
        if isinstance(message, StepResult) and count == number:
            raise ConnectionLost("The provider hangs up.")
        return message

    return tell


async def completed(
    world: World,
    wallet: Wallet,
    home: Path,
    prompt: tuple[int, ...] = PROMPT,
    allowance: dict[str, Any] | None = None,
    sampling: Sampling | None = None,
    own: Ends | None = None,
    auditing: Auditing | None = None,
    between: Callable[[Completion], Awaitable[None]] | None = None,
    budgets: tuple[Budget, ...] = (),
    **wishes: Any,
) -> tuple[list[Event], Completion]:
    allowed = Allowance(**({"tokens": TOKENS} | (allowance or {})))
    request = Request(prompt=prompt, allowance=allowed, sampling=sampling or Sampling(), budgets=budgets)
    events: list[Event] = []
    async with world.client(wallet, home, auditing, own=own, **wishes) as client:
        with trio.fail_after(300):
            async with client.complete(request) as completing:
                async for event in completing:
                    events.append(event)
                    if between is not None and isinstance(event, Token):
                        await between(completing.completion)
        done = completing.completion
        await client.reports(done.request_id)
    # What was paid and what is at risk is what providers can claim, to the wei.
    assert done.spent_wei <= world.best_vouchers(wallet) <= done.spent_wei + done.risked_wei
    assert check_bundle(ReceiptFiles(home).load(done.request_id)).faults == ()
    return events, done


@pytest.mark.parametrize("chained", [False, True], ids=["relay", "chain"])
@pytest.mark.parametrize("step", [1, 6])
async def test_several_take_over_for_one_and_nobody_else_does_anything_twice(
    world: World, tmp_path: Path, step: int, chained: bool
) -> None:
    """But over links the last one may have the step that broke, and takes it again if the rows are others by a bit."""
    world.lies["middle"].tell = hang_up_at(step)
    events, done = await completed(world, new_wallet(world.chain), tmp_path, chain=chained)
    assert done.tokens == world.greedy[:TOKENS]
    assert done.failures == [world.served["middle"].advert.peer]
    assert world.names(done.bills) == ["middle", "head", "spare left", "spare right", "tail"]
    dead, head, left, right, tail = done.bills
    assert dead.risked_wei == CHEAP
    assert head.tokens == len(PROMPT) + TOKENS - 1
    assert tail.tokens - head.tokens in ((0, 1) if chained else (0,))
    for bill in (head, tail):
        paid = charge(CHEAP, CHEAP // 4, len(PROMPT)) + (bill.tokens - len(PROMPT)) * CHEAP
        assert bill.paid_wei == paid
    # The others read what was there as a prompt, the step that broke included.
    replayed = len(PROMPT) + step
    for bill in (left, right):
        assert bill.tokens == len(PROMPT) + TOKENS - 1
        assert bill.paid_wei == charge(DEAR, DEAR // 4, replayed) + (TOKENS - 1 - step) * DEAR
    kinds = [type(event) for event in events]
    at = kinds.index(HopReplaced)
    assert kinds[:at].count(Token) == step
    assert kinds[at + 1] is PathChosen
    assert next(event for event in events[at:] if isinstance(event, Prefilled)).tokens == replayed


async def test_a_step_over_rows_that_nobody_signed_for_is_taken_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sent them is gone, and who took its place comes to others: those behind are asked again, and paid again."""
    checked = []

    def other(levelling: Levelling, data: bytes, receipt: Receipt) -> bool:
        checked.append(receipt.seq)
        return False

    monkeypatch.setattr(Levelling, "_is_of", other)
    world.lies["middle"].tell = hang_up_at(9)
    _, done = await completed(world, new_wallet(world.chain), tmp_path, chain=True)
    assert done.tokens == world.greedy[:TOKENS]
    assert world.names(done.bills) == ["middle", "head", "spare left", "spare right", "tail"]
    assert done.bills[-1].tokens == len(PROMPT) + TOKENS - 1 + len(checked)
    assert len(checked) <= 1


async def test_the_last_of_a_path_is_replaced_like_others(world: World, tmp_path: Path) -> None:
    world.lies["tail"].tell = hang_up_at(4)
    _, done = await completed(world, new_wallet(world.chain), tmp_path)
    assert done.tokens == world.greedy[:TOKENS]
    assert world.names(done.bills) == ["tail", "head", "middle", "spare tail"]
    assert [bill.tokens for bill in done.bills[1:]] == 3 * [len(PROMPT) + TOKENS - 1]


@pytest.mark.parametrize("name", ["middle", "tail"])
async def test_a_long_prompt_that_breaks_on_its_way_is_not_sent_twice_to_who_is_left(
    world: World, tmp_path: Path, name: str
) -> None:
    prompt = PROMPT * 16
    expected = reference.generate(world.stored.source, prompt, 4, threads=1)  # type: ignore[arg-type]
    world.lies[name].tell = hang_up_at(1)
    _, done = await completed(world, new_wallet(world.chain), tmp_path, prompt, {"tokens": 4})
    assert done.tokens == [int(each) for each in expected.ids]
    assert done.bills[0].tokens == 16
    assert {bill.tokens for bill in done.bills[1:]} == {len(prompt) + 3}


@pytest.mark.parametrize("name", ["middle", "tail"])
@pytest.mark.parametrize("long", [False, True])
async def test_what_went_from_provider_to_provider_is_fetched_for_who_takes_over(
    world: World, tmp_path: Path, name: str, long: bool
) -> None:
    prompt = PROMPT * 16 if long else PROMPT
    expected = reference.generate(world.stored.source, prompt, 8, threads=1)  # type: ignore[arg-type]
    world.lies[name].tell = hang_up_at(2 if long else 5)
    _, done = await completed(world, new_wallet(world.chain), tmp_path, prompt, {"tokens": 8}, chain=True)
    assert done.tokens == [int(each) for each in expected.ids]
    assert done.failures == [world.served[name].advert.peer]
    middle = ["spare left", "spare right"] if name == "middle" else ["middle"]
    tail = "spare tail" if name == "tail" else "tail"
    assert world.names(done.bills) == [name, "head", *middle, tail]


@pytest.mark.parametrize("name", ["middle", "tail"])
async def test_drafts_go_on_over_a_mended_path(world: World, tmp_path: Path, name: str) -> None:
    told = PROMPT + tuple(world.greedy[:20]) + PROMPT
    plain = await completed(world, new_wallet(world.chain), tmp_path / "plain", told, {"tokens": 30})
    for lies in world.lies.values():
        lies.results = 0
    world.lies[name].tell = hang_up_at(8)
    events, done = await completed(world, new_wallet(world.chain), tmp_path, told, {"tokens": 30}, drafts=8)
    assert done.tokens == plain[1].tokens
    assert done.draft_held
    assert any(isinstance(event, HopReplaced) for event in events)
    assert world.names(done.bills)[0] == name


async def test_with_a_seed_the_same_comes(world: World, tmp_path: Path) -> None:
    drawn = Sampling(temperature=0.8, seed=11)
    _, calm = await completed(world, new_wallet(world.chain), tmp_path / "calm", sampling=drawn)
    for lies in world.lies.values():
        lies.results = 0
    world.lies["middle"].tell = hang_up_at(5)
    _, done = await completed(world, new_wallet(world.chain), tmp_path, sampling=drawn)
    assert done.tokens == calm.tokens
    assert len(done.bills) == 5


async def test_who_takes_over_may_fail_as_well(world: World, tmp_path: Path) -> None:
    """Nobody else has these layers, so it ends with what came."""
    world.lies["middle"].tell = hang_up_at(5)
    world.lies["spare right"].tell = hang_up_at(0)
    events, done = await completed(world, new_wallet(world.chain), tmp_path)
    assert done.finish == "failed"
    assert done.tokens == world.greedy[:5]
    assert world.names(done.bills) == ["middle", "head", "spare left", "spare right", "tail"]
    assert [event.peer for event in events if isinstance(event, HopReplaced)] == done.failures
    assert len(done.failures) == 2


async def test_who_has_no_room_to_take_over_is_waited_for(world: World, tmp_path: Path) -> None:
    refusals = [Error(ErrorCode.FULL, "Full.")]
    world.lies["tail"].tell = hang_up_at(5)
    world.lies["spare tail"].tell = lambda message, count: (
        refusals.pop() if isinstance(message, Accept) and refusals else message
    )
    _, done = await completed(world, new_wallet(world.chain), tmp_path)
    assert done.tokens == world.greedy[:TOKENS]
    path = ["head", "middle", "spare tail"]
    assert world.names(done.bills) in (["tail", *path], ["tail", "head", "middle", *path])


async def test_more_failures_than_are_allowed_end_it(world: World, tmp_path: Path) -> None:
    world.lies["middle"].tell = hang_up_at(5)
    _, done = await completed(
        world, new_wallet(world.chain), tmp_path, allowance={"tokens": TOKENS, "failures": 0}
    )
    assert done.finish == "failed"
    assert done.tokens == world.greedy[:5]
    assert done.failures == [world.served["middle"].advert.peer]


async def test_a_limit_that_does_not_hold_the_replay_ends_it_with_what_came(
    world: World, tmp_path: Path
) -> None:
    plain = charge(CHEAP, CHEAP // 4, len(PROMPT)) + (TOKENS - 1) * CHEAP
    world.lies["middle"].tell = hang_up_at(8)
    _, done = await completed(
        world, new_wallet(world.chain), tmp_path, allowance={"tokens": TOKENS, "cost_wei": 3 * plain}
    )
    assert done.finish == "cost"
    assert done.tokens == world.greedy[: len(done.tokens)]
    assert done.spent_wei + done.risked_wei <= 3 * plain


async def test_rows_that_are_not_kept_cost_a_whole_new_path(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 100)
    world.lies["middle"].tell = hang_up_at(5)
    _, done = await completed(world, new_wallet(world.chain), tmp_path)
    assert done.tokens == world.greedy[:TOKENS]
    path = ["head", "spare left", "spare right", "tail"]
    assert world.names(done.bills) == ["middle", *path, *path]


async def test_rows_come_from_transcripts_and_every_stage_can_be_audited(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory is never asked for then."""
    monkeypatch.setattr(kept, "MOST_BYTES", 0)
    world.lies["middle"].tell = hang_up_at(5)
    policy = Policy(rate=1.0)
    _, done = await completed(
        world,
        new_wallet(world.chain),
        tmp_path,
        auditing=Auditing(policy=policy, auditor="own"),
    )
    assert done.tokens == world.greedy[:TOKENS]
    assert world.names(done.bills) == ["middle", "head", "spare left", "spare right", "tail"]
    assert [report.finding for report in done.reports] == 5 * ["pass"]


async def test_a_session_that_is_ended_by_the_provider_is_opened_again_alone(
    world: World, tmp_path: Path
) -> None:
    """It was started again, or took us for idle: it is asked again, and nobody is blamed."""
    told: list[int] = []

    def lost(message: Message, count: int) -> Message | None:
        if isinstance(message, StepResult) and count == 5 and not told:
            told.append(count)
            return Error(ErrorCode.UNKNOWN_SESSION, "There is no such session.")
        return message

    world.lies["middle"].tell = lost
    events, done = await completed(world, new_wallet(world.chain), tmp_path)
    assert done.tokens == world.greedy[:TOKENS]
    assert done.failures == []
    assert world.names(done.bills) == ["middle", "head", "middle", "tail"]
    assert [event.blamed for event in events if isinstance(event, HopReplaced)] == [False]


@pytest.mark.parametrize(
    ("ends", "dies", "names", "chained"),
    [
        (("0:1",), "middle", ["middle", "spare left", "spare right", "tail"], False),
        (("0:1",), "tail", ["tail", "middle", "spare tail"], True),
        (("3:4",), "middle", ["middle", "head", "spare left", "spare right"], True),
        (("0:1", "3:4"), "middle", ["middle", "spare left", "spare right"], False),
    ],
    ids=["its own begin", "its own begin and the last dies", "its own end", "its own at both ends"],
)
async def test_between_own_layers_whoever_is_left_keeps_what_it_holds(
    world: World, tmp_path: Path, ends: tuple[str, ...], dies: str, names: list[str], chained: bool
) -> None:
    """Own layers hold what they held, and give whoever takes over behind them what they gave before."""
    run: list[tuple[int, int]] = []

    async def noting(stage: OwnStage, payload: Any, rows: int, **given: Any) -> Any:
        run.append((stage.position, rows))
        return await step(stage, payload, rows, **given)

    step = OwnStage.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OwnStage, "step", noting)
        world.lies[dies].tell = hang_up_at(6)
        own = Ends(ranges=ends, threads=1)
        _, done = await completed(world, new_wallet(world.chain), tmp_path, own=own, chain=chained)
    assert done.tokens == world.greedy[:TOKENS]
    assert world.names(done.bills) == names
    all_tokens = len(PROMPT) + TOKENS - 1
    left = [bill for bill in done.bills[1:] if not world.names([bill])[0].startswith("spare")]
    # But over a link the one behind may take the step that broke again.
    assert all(0 <= bill.tokens - all_tokens <= chained for bill in left)
    new = [bill for bill in done.bills[1:] if bill not in left]
    assert {bill.tokens for bill in new} == {all_tokens}
    # Each end has run each token once; where a step of the ends was taken again, that one twice.
    assert all_tokens * len(ends) <= sum(rows for _, rows in run) <= all_tokens * len(ends) + chained


async def test_own_layers_take_again_what_the_one_before_them_takes_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were sent what it had answered, before it was known that it had to take that step once more."""
    checked, told = list[int](), list[int]()

    def other(levelling: Levelling, data: bytes, receipt: Receipt) -> bool:
        checked.append(receipt.seq)
        return False

    def lost(message: Message, count: int) -> Message | None:
        if isinstance(message, StepResult) and count == 6 and not told:
            told.append(count)
            return Error(ErrorCode.UNKNOWN_SESSION, "There is no such session.")
        return message

    monkeypatch.setattr(Levelling, "_is_of", other)
    world.lies["head"].tell = lost
    own = Ends(ranges=("3:4",), threads=1)
    _, done = await completed(world, new_wallet(world.chain), tmp_path, own=own, chain=True)
    assert done.tokens == world.greedy[:TOKENS]
    assert world.names(done.bills) == ["head", "head", "middle"]
    assert done.bills[-1].tokens == len(PROMPT) + TOKENS - 1 + len(checked)


async def test_who_does_not_show_what_it_is_paid_for_is_left_for_others(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not opened again to be paid for the same once more; of all others only the step that broke is at risk."""
    monkeypatch.setattr(awaiting, "LEAST_SECONDS", 0.5)
    world.moods.append("withhold-rows")
    wallet = new_wallet(world.chain)
    events, done = await completed(world, wallet, tmp_path, allowance={"tokens": 40}, chain=True)
    middle = world.served["middle"].advert
    assert done.tokens == world.greedy[:40]
    assert done.failures == [middle.peer]
    assert [event.blamed for event in events if isinstance(event, HopReplaced)] == [True]
    assert world.names(done.bills) == ["middle", "head", "spare left", "spare right", "tail"]
    assert [bill.risked_wei for bill in done.bills] == 5 * [0]


async def test_who_does_not_show_what_another_has_to_be_sent_is_left_as_well(
    world: World, tmp_path: Path
) -> None:
    """Else all would begin anew, and everybody were paid for the prompt once more, that one too."""
    world.mute.append(True)
    world.lies["tail"].tell = hang_up_at(9)
    _, done = await completed(world, new_wallet(world.chain), tmp_path, chain=True)
    assert done.tokens == world.greedy[:TOKENS]
    assert done.failures == [world.served[name].advert.peer for name in ("tail", "middle")]
    assert world.names(done.bills) == ["tail", "middle", "head", "spare left", "spare right", "spare tail"]
    assert done.bills[2].tokens == len(PROMPT) + TOKENS - 1


async def test_a_lie_is_answered_by_another_at_the_same_place(world: World, tmp_path: Path) -> None:
    world.lies["tail"].tell = on_result(6, receipt=bytes(64))
    _, done = await completed(world, new_wallet(world.chain), tmp_path)
    assert done.tokens == world.greedy[:TOKENS]
    assert world.names(done.bills) == ["tail", "head", "middle", "spare tail"]
    assert replace(done.bills[1], paid_wei=0).tokens == len(PROMPT) + TOKENS - 1


@pytest.mark.parametrize("kept", [True, False], ids=["with transcripts", "without"])
async def test_a_talk_that_went_on_is_mended_and_goes_on_again(
    world: World, tmp_path: Path, kept: bool
) -> None:
    """Where the rows of earlier turns are kept they are handed on; else all begin anew. Either can be gone on with."""
    text, wallet = (*PROMPT, *world.greedy), new_wallet(world.chain)
    auditing = Auditing(policy=Policy(rate=0.0), auditor="own") if kept else None
    turns: list[Completion] = []
    async with world.client(wallet, tmp_path, auditing, stays=True) as client:
        for length in (40, 50, 56):
            if turns:
                world.lies["middle"].tell, world.lies["middle"].results = hang_up_at(2), 0
            request = Request(prompt=text[:length], allowance=Allowance(tokens=4))
            with trio.fail_after(300):
                turns.append(await client.complete(request).finished())
            assert turns[-1].tokens == [*text[length : length + 4]]
    first, second, third = turns
    assert [done.cached for done in turns] == [0, 43 if kept else 0, 53]
    assert world.names(second.bills)[-4:] == ["head", "spare left", "spare right", "tail"]
    sessions = {bill.peer: bill.session for bill in first.bills}
    head = second.bills[-4]
    assert (head.session == sessions[head.peer]) is kept
    assert [bill.session for bill in third.bills] == [bill.session for bill in second.bills[-4:]]
    paid = sum(done.spent_wei for done in turns)
    assert paid <= world.best_vouchers(wallet) <= paid + second.risked_wei


async def test_a_talk_that_goes_on_is_mended_and_goes_on_over_the_mended_path(
    world: World, tmp_path: Path
) -> None:
    """Who takes over reads the turns before as well, from the transcripts; all others have them in their caches."""
    text = (*PROMPT, *world.greedy)

    async def turn(client: Client, prompt: int, tokens: int) -> Completion:
        allowance = Allowance(tokens=tokens)
        with trio.fail_after(300):
            done = await client.complete(Request(prompt=text[:prompt], allowance=allowance)).finished()
        assert done.tokens == list(text[prompt : prompt + tokens])
        return done

    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path, auditing=Auditing(policy=Policy()), stays=True) as client:
        assert (await turn(client, 40, 4)).cached == 0
        world.lies["middle"].tell, world.lies["middle"].results = hang_up_at(2), 0
        second = await turn(client, 50, 6)
        assert second.cached == 43
        assert world.names(second.bills) == ["middle", "head", "spare left", "spare right", "tail"]
        assert [bill.tokens for bill in second.bills[1:]] == [12, 55, 55, 12]
        third = await turn(client, 60, 2)
        assert third.cached == 55
        assert world.names(third.bills) == ["head", "spare left", "spare right", "tail"]


@pytest.mark.parametrize("name", ["middle", "tail"])
async def test_who_takes_over_gets_links_to_its_neighbours(world: World, tmp_path: Path, name: str) -> None:
    """So that rows go on from provider to provider; only while somebody reads what was there do they go through us."""
    gone: dict[str, list[bool]] = {each: [] for each in RANGES}

    def noting(each: str, tell: Lie) -> Lie:
        def told(message: Message, count: int) -> Message | None:
            if isinstance(message, StepResult):
                gone[each].append(bool(message.out_root))
            return tell(message, count)

        return told

    for each, lies in world.lies.items():
        lies.tell = noting(each, hang_up_at(5) if each == name else Lies.tell)
    _, done = await completed(world, new_wallet(world.chain), tmp_path, allowance={"tokens": 55}, chain=True)
    assert done.tokens == world.greedy[:55]
    assert done.failures[0] == world.served[name].advert.peer
    names = world.names(done.bills)
    path = names[names.index("head") :]
    assert name not in path
    assert [gone[each][-1] for each in path] == [True] * (len(path) - 1) + [False]


class Watched:
    """What those who stand by are sent: the rows of each step, by their layers; and how many were let go."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.steps: dict[tuple[int, int], list[int]] = {}
        step = Spare._step

        async def noting(spare: Spare, tokens: Any, *given: Any, **named: Any) -> None:
            await step(spare, tokens, *given, **named)
            self.steps.setdefault((spare.start, spare.stop), []).append(len(tokens))

        patch.setattr(Spare, "_step", noting)
        self.gone = 0
        let_go = Standby._let_go

        async def counting(standby: Standby, spare: Spare) -> None:
            await let_go(standby, spare)
            self.gone += 1

        patch.setattr(Standby, "_let_go", counting)

    def losing(self, spares: int) -> Callable[[Completion], Awaitable[None]]:
        """Waits behind the second token until so many were let go."""

        async def wait(done: Completion) -> None:
            while len(done.tokens) > 1 and self.gone < spares:
                await trio.sleep(0.01)

        return wait

    def keeping_up(self, *places: tuple[int, int]) -> Callable[[Completion], Awaitable[None]]:
        """Waits between two tokens, until one fails, for who stands by at some places to be as level as it is to be."""

        async def wait(done: Completion) -> None:
            # The last token was not run yet, and the one before it was told of a moment ago.
            sure = len(done.prompt) + len(done.tokens) - 2
            while (
                len(done.tokens) > 1
                and not done.failures
                and any(
                    sure - sum(self.steps.get(place, ())) >= LEAST_ROWS or place not in self.steps
                    for place in places
                )
            ):
                await trio.sleep(0.01)

        return wait


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def paid_by(world: World, wallet: Wallet, name: str) -> int:
    """What a provider can claim of a wallet."""
    rows = world.served[name].ledger.payee.channels()
    return sum(row.best for row in rows if row.payer == wallet.sender.address)


LONG = 50


@pytest.mark.parametrize("chained", [False, True], ids=["relay", "chain"])
async def test_who_stands_by_takes_over_and_reads_only_what_came_since(
    world: World, tmp_path: Path, watched: Watched, chained: bool
) -> None:
    """Two of them for one hop here. What all are paid is what they can claim, and every stage can be audited."""
    step, wallet = 41, new_wallet(world.chain)
    world.lies["middle"].tell = hang_up_at(step)
    events, done = await completed(
        world,
        wallet,
        tmp_path,
        allowance={"tokens": LONG},
        auditing=Auditing(policy=Policy(rate=1.0), auditor="own"),
        between=watched.keeping_up((3, 4), (1, 3)),
        chain=chained,
        spare=True,
    )
    assert done.tokens == world.greedy[:LONG]
    assert done.failures == [world.served["middle"].advert.peer]
    assert world.names(done.bills) == ["middle", "spare tail", "head", "spare left", "spare right", "tail"]
    assert [bill.stood_by for bill in done.bills] == [False, True, False, False, False, False]
    pieces = watched.steps[1, 3]
    since = len(PROMPT) + step - sum(pieces)
    assert pieces[0] == len(PROMPT)
    assert 0 < since <= LEAST_ROWS + 2
    for bill in done.bills[3:5]:
        replay = [since] if since <= 16 else [since - since // 2, since // 2]
        read = sum(charge(DEAR, DEAR // 4, rows) for rows in pieces + replay)
        assert bill.paid_wei == read + (LONG - 1 - step) * DEAR
        assert bill.tokens == len(PROMPT) + LONG - 1
    assert done.bills[1].paid_wei == sum(charge(DEAR, DEAR // 4, rows) for rows in watched.steps[3, 4])
    for bill in done.bills[1:]:
        assert bill.risked_wei == 0
        assert paid_by(world, wallet, world.names([bill])[0]) == bill.paid_wei
    assert [report.finding for report in done.reports] == len(done.bills) * ["pass"]
    changes = [event for event in events if isinstance(event, SparesChanged)]
    spares = {world.served[name].advert.peer for name in ("spare left", "spare right", "spare tail")}
    assert {*changes[0].peers} == spares
    assert changes[0].without == ((0, 1),)
    assert changes[1].peers == (world.served["spare tail"].advert.peer,)


async def test_guesses_and_rounded_rows_go_on_with_who_stood_by(
    world: World, tmp_path: Path, watched: Watched
) -> None:
    """What it was sent are rows of tokens that nobody takes back, whatever was guessed behind them."""
    told = PROMPT + tuple(world.greedy[:20]) + PROMPT
    wishes: dict[str, Any] = {"chain": True, "drafts": 8, "wire_dtype": WireDtype.F16}
    plain = await completed(
        world, new_wallet(world.chain), tmp_path / "plain", told, {"tokens": 40}, **wishes
    )
    for lies in world.lies.values():
        lies.results = 0
    world.lies["tail"].tell = hang_up_at(12)
    between = watched.keeping_up((3, 4))
    _, done = await completed(
        world, new_wallet(world.chain), tmp_path, told, {"tokens": 40}, between=between, spare=True, **wishes
    )
    assert done.tokens == plain[1].tokens
    assert done.draft_held
    assert world.names(done.bills)[-1] == "spare tail"
    assert not done.bills[-1].stood_by
    assert sum(watched.steps[3, 4]) >= len(told)


async def test_between_own_layers_who_stands_by_is_sent_what_they_gave(
    world: World, tmp_path: Path, watched: Watched
) -> None:
    world.lies["middle"].tell = hang_up_at(30)
    _, done = await completed(
        world,
        new_wallet(world.chain),
        tmp_path,
        allowance={"tokens": 40},
        own=Ends(ranges=("0:1",), threads=1),
        between=watched.keeping_up((1, 3)),
        spare=True,
    )
    assert done.tokens == world.greedy[:40]
    assert sum(watched.steps[1, 3]) > len(PROMPT)
    assert {bill.tokens for bill in done.bills if bill.price_wei == DEAR and not bill.stood_by} == {
        len(PROMPT) + 39
    }


@pytest.mark.parametrize("dies", ["at once", "later"])
async def test_who_dies_while_it_stands_by_hurts_nobody(
    world: World, tmp_path: Path, watched: Watched, dies: str
) -> None:
    lies = world.lies["spare tail"]
    if dies == "later":
        lies.tell = hang_up_at(0)
    else:
        lies.tell = lambda message, count: (
            Error(ErrorCode.FULL, "Full.") if isinstance(message, Accept) else message
        )
    wallet = new_wallet(world.chain)
    events, done = await completed(
        world,
        wallet,
        tmp_path,
        allowance={"tokens": LONG},
        between=watched.losing(1),
        spare=True,
    )
    assert done.tokens == world.greedy[:LONG]
    assert done.failures == []
    assert not any(isinstance(event, HopReplaced) for event in events)
    last = [event for event in events if isinstance(event, SparesChanged)][-1]
    assert world.served["spare tail"].advert.peer in last.reason
    assert last.without == ((0, 1), (3, 4))
    assert world.names(done.bills)[-3:] == ["head", "middle", "tail"]
    spares = [bill for bill in done.bills if bill.stood_by]
    assert {*world.names(spares)} == {
        "spare left",
        "spare right",
        *(["spare tail"] if dies == "later" else []),
    }
    for bill in done.bills:
        held = paid_by(world, wallet, world.names([bill])[0])
        assert bill.paid_wei <= held <= bill.paid_wei + bill.risked_wei


async def test_others_stand_by_for_an_answer_that_begins_with_copies_too(
    world: World, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are there before a copy has signed for what it holds, which nobody can be shown until then."""
    opened: list[Spare] = []
    plan, opening = Trips.plan, Spare._open

    async def noting(spare: Spare, *given: Any) -> None:
        await opening(spare, *given)
        opened.append(spare)

    async def late(trips: Trips, pending: Sequence[int], room: int) -> int:
        while len(pending) == 1 and len(opened) < 4:
            await trio.sleep(0.01)
        return await plan(trips, pending, room)

    monkeypatch.setattr(Spare, "_open", noting)
    monkeypatch.setattr(Trips, "plan", late)
    allowance, siblings, events = Allowance(tokens=TOKENS), Siblings(), list[Event]()
    request = Request(prompt=PROMPT, allowance=allowance)

    async def run(completing: Completing) -> None:
        async with completing:
            async for event in completing:
                events.append(event)
                while len(completing.completion.tokens) == TOKENS - 1 and any(
                    sum(watched.steps.get(place, ())) < 2 * len(PROMPT) for place in ((1, 3), (3, 4))
                ):
                    await trio.sleep(0.01)

    async with world.client(new_wallet(world.chain), tmp_path, spare=True) as client:
        both = [client.complete(request, "", siblings) for _ in range(2)]
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                for each in both:
                    nursery.start_soon(run, each)
    assert sorted(each.completion.cached for each in both) == [0, len(PROMPT)]
    for each in both:
        assert each.completion.tokens == world.greedy[:TOKENS]
        spares = [bill for bill in each.completion.bills if bill.stood_by]
        assert {*world.names(spares)} == {"spare left", "spare right", "spare tail"}
        assert all(bill.tokens >= len(PROMPT) for bill in spares)
    assert {event.reason for event in events if isinstance(event, SparesChanged)} == {""}


PLAIN = 3 * (charge(CHEAP, CHEAP // 4, len(PROMPT)) + (LONG - 1) * CHEAP)
"""wei, what an answer costs for which nobody stands by"""


@pytest.mark.parametrize(
    "whose", ["limit of this request", "budget of a key", "wallet's limit for a request"]
)
async def test_what_the_answer_may_need_is_not_spent_on_who_stands_by(
    world: World, tmp_path: Path, watched: Watched, whose: str
) -> None:
    limit = PLAIN + DEAR - 1
    allowance = {"tokens": LONG}
    if whose == "limit of this request":
        allowance["cost_wei"] = limit
    elif whose == "wallet's limit for a request":
        policy_file(tmp_path).write_text(f'[limits]\nper_request = "{format_hct(limit)}"\n')
    events, done = await completed(
        world,
        new_wallet(world.chain),
        tmp_path,
        allowance=allowance,
        between=watched.losing(2),
        budgets=(Budget(whose, limit),) if whose == "budget of a key" else (),
        spare=True,
    )
    assert done.tokens == world.greedy[:LONG]
    assert done.finish == "length"
    assert done.spent_wei == PLAIN
    assert watched.steps == {}
    told = [event for event in events if isinstance(event, SparesChanged)]
    assert told[0].peers
    assert told[-1].peers == ()
    assert whose in told[-1].reason


async def test_a_wallet_that_holds_the_answer_alone_pays_for_that_alone(world: World, tmp_path: Path) -> None:
    """No deposit goes to others that the answer would miss in the end."""
    path = [world.served[name].advert for name in ("head", "middle", "tail")]
    holds = sum(max(PLAIN // 3 + CHEAP, advert.reserve_wei) for advert in path)
    wallet = new_wallet(world.chain, holds)
    events, done = await completed(world, wallet, tmp_path, allowance={"tokens": LONG}, spare=True)
    assert done.tokens == world.greedy[:LONG]
    assert (done.finish, done.spent_wei) == ("length", PLAIN)
    (told,) = [event for event in events if isinstance(event, SparesChanged)]
    assert (told.peers, told.without) == ((), ((0, 1), (1, 3), (3, 4)))
    assert f"holds {format_hct(holds)} HCT" in told.reason
    assert {deposit.recipient.node for funding in done.fundings for deposit in funding.deposits} == {
        address_of_peer(advert.peer) for advert in path
    }


@pytest.mark.parametrize("said", ["in the environment", "in a file .env"])
async def test_others_stand_by_where_the_settings_say_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"HC_SPARE={int(said == 'in a file .env')}\n")
    if said == "in the environment":
        monkeypatch.setenv("HC_SPARE", "1")
    events, done = await completed(world, new_wallet(world.chain), tmp_path)
    assert done.tokens == world.greedy[:TOKENS]
    assert any(event.peers for event in events if isinstance(event, SparesChanged))


@pytest.mark.parametrize("dies", [False, True], ids=["nobody dies", "one dies"])
async def test_a_talk_goes_on_over_its_path_and_others_stand_by_anew(
    world: World, tmp_path: Path, watched: Watched, dies: bool
) -> None:
    """Also where the path is one that another took a place of."""
    text, wallet, level = (*PROMPT, *world.greedy), new_wallet(world.chain), watched.keeping_up((1, 3))
    if dies:
        world.lies["middle"].tell = hang_up_at(5)
    path = ["head", *(["spare left", "spare right"] if dies else ["middle"]), "tail"]
    async with world.client(wallet, tmp_path, spare=True, stays=True) as client:
        for length, cached in ((40, 0), (50, 43)):
            request = Request(prompt=text[:length], allowance=Allowance(tokens=4))
            with trio.fail_after(300):
                async with client.complete(request) as completing:
                    async for event in completing:
                        if isinstance(event, Token) and not cached:
                            await level(completing.completion)
            done = completing.completion
            assert done.tokens == [*text[length : length + 4]]
            assert done.cached == cached
            assert any(bill.stood_by for bill in done.bills)
            assert world.names([bill for bill in done.bills if not bill.stood_by])[-len(path) :] == path
