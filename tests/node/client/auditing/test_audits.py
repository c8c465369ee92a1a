"""Audits over real connections: paid, signed, and safe from whoever speaks the protocol badly."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.budget import Budget
from hypercluster.market.money.signing import address_bytes
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.audit import Bounds, Difference
from hypercluster.market.trust.fingerprint import fingerprint, seed_of
from hypercluster.market.trust.receipt import Finding
from hypercluster.market.trust.reputation import Evidence, Reputation
from hypercluster.market.trust.standing import Standing
from hypercluster.node.client.auditing import verifier as verifier_auditor
from hypercluster.node.client.auditing.assembly import Auditing, client_transcripts
from hypercluster.node.client.auditing.inspection import Inspector
from hypercluster.node.client.auditing.policy import Policy, Report
from hypercluster.node.client.auditing.recall import Equivocation, NotShown, recall
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.drafting import Drafts
from hypercluster.node.client.exchanging import exchange
from hypercluster.node.client.joining import joined
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.client.watching import watch
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.steps import StepOutput
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.transcript_store import NoTranscript, TranscriptStore
from hypercluster.node.home.settings import Settings
from hypercluster.node.network.budgets import BOUNDS, OverBudget
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host
from hypercluster.node.provider import process as provider
from hypercluster.node.provider.prices import PriceRule
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.comparing import claimed_numbers
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.cheats import Tampering, changed
from hypercluster.node.verifier import audits as audit_session
from hypercluster.node.wire.audit import AUDIT_PROTOCOL, AuditEnd, AuditOpen, AuditVerdict, Recall
from hypercluster.node.wire.messages import Close, Error
from hypercluster.node.wire.records import AuditStep
from tests.node.helpers.providers import FREE, Served, Wallet, new_wallet, opening, running_provider
from tests.node.helpers.stages import served
from tests.node.helpers.verifiers import AUDIT_PRICE, Judging, running_verifier

PROMPT = [72, 101, 108, 108]
TOKENS = 12
CHEAP, DEAR = 100, 5_000
CHEAPEST = Wishes(market=MarketParameters(alpha=1.0))
GUESSING = replace(CHEAPEST, drafts=3, in_flight=0)


@pytest.fixture(scope="module")
def bounds(stored_tiny: StoredModel) -> Bounds:
    return calibrate(stored_tiny, texts=1, tokens=40)


@dataclass(eq=False)
class World:
    """Two honest providers of the first half, one of the second, one verifier; the cheap first half can be told to
    cheat.
    """

    chain: Chain
    stored: StoredModel
    bounds: Bounds
    head: Served
    rival: Served
    tail: Served
    verifier: Judging
    cheat: list[Tampering]
    folder: Path

    @asynccontextmanager
    async def client(
        self, wallet: Wallet, home: Path, auditor: str = "verifier", wishes: Wishes = CHEAPEST, **policy: Any
    ) -> AsyncIterator[Client]:
        self.bounds.save(self.stored.bounds_file)
        settings = Settings(home=home, bootstrap=(self.head.address,))
        auditing = Auditing(policy=Policy(**({"rate": 1.0} | policy)), auditor=auditor)  # type: ignore[arg-type]
        async with joined(
            settings,
            self.chain,
            self.stored,
            wallet.purse,
            wishes=wishes,
            auditing=auditing,
        ) as client:
            with trio.fail_after(300):
                while len(client.adverts()) < 3 or not client.verifiers():
                    await trio.sleep(0.05)
                while any(a.free < 4 for a in [*client.adverts(), *client.verifiers()]):
                    await trio.sleep(0.05)
            yield client


@pytest.fixture(scope="module")
def world(
    chain: Chain, stored_tiny: StoredModel, bounds: Bounds, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("audits")
    cheat: list[Tampering] = []

    class Doubtful(Engine):
        def begin(self, *step: Any, **named: Any) -> None:
            """Every step is submitted."""

        def submit(self, slot: int, *step: Any, **named: Any) -> Future[StepOutput]:
            honest = super().submit(slot, *step, **named)
            return changed(honest, lambda output: cheat[0](slot, output) if cheat else output)

    def terms(price: int) -> dict[str, Any]:
        rule = PriceRule(start_wei=price, start_prompt_wei=price // 4, adapt=False)
        return {
            "sessions": 4,
            "session_tokens": 100,
            "refresh_seconds": 2.0,
            "price": rule,
        }

    with ExitStack() as stack:
        tempted = replace(provider.HONEST, engine=Doubtful)
        head = stack.enter_context(
            running_provider(chain, stored_tiny, folder / "head", (0, 2), ways=tempted, **terms(CHEAP))
        )
        through: dict[str, Any] = {"bootstrap": (head.address,)}
        rival = stack.enter_context(
            running_provider(chain, stored_tiny, folder / "rival", (0, 2), **terms(DEAR), **through)
        )
        tail = stack.enter_context(
            running_provider(chain, stored_tiny, folder / "tail", (2, 4), **terms(CHEAP), **through)
        )
        verifier = stack.enter_context(
            running_verifier(chain, stored_tiny, bounds, folder / "verifier", **through)
        )
        yield World(chain, stored_tiny, bounds, head, rival, tail, verifier, cheat, folder)


@pytest.fixture(autouse=True)
def honest(world: World) -> Iterator[None]:
    world.cheat.clear()
    yield
    world.cheat.clear()


async def complete(client: Client, tokens: int = TOKENS, budgets: tuple[Budget, ...] = ()) -> Completion:
    request = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=tokens), budgets=budgets)
    with trio.fail_after(300):
        completion = await client.complete(request).finished()
        await client.reports(completion.request_id)
    return completion


def stake(world: World, operator: str) -> int:
    return world.chain.staking.stake_of(operator).active


async def test_honest_stages_pass_and_the_audit_is_paid_to_the_wei(world: World, tmp_path: Path) -> None:
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path) as client:
        done = await complete(client)
        assert [report.finding for report in done.reports] == ["pass", "pass"]
        assert not done.doubtful
        rows = len(PROMPT) + TOKENS - 1
        assert {report.tokens for report in done.reports} == {rows}
        assert done.audit_wei == 2 * rows * AUDIT_PRICE
    sales = world.verifier.ledger.trust.sales()
    assert [(sale.tokens, sale.finding, sale.paid) for sale in sales] == [
        (rows, "pass", rows * AUDIT_PRICE)
    ] * 2
    assert world.verifier.ledger.trust.sold() == (2, 2 * rows * AUDIT_PRICE)
    paid = [row for row in world.verifier.ledger.payee.channels() if row.payer == wallet.sender.address]
    assert [row.billed for row in paid] == [2 * rows * AUDIT_PRICE]
    assert [row.best for row in paid] == [2 * rows * AUDIT_PRICE]
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        audits = ledger.trust.audits()
        assert {audit.peer for audit in audits} == {world.head.advert.peer, world.tail.advert.peer}
        assert all(
            len(audit.fingerprint) == 8 + 8 * audit.tokens for audit in audits if audit.layer_start == 0
        )
        kinds = {event.kind for event in ledger.trust.events(world.head.advert.peer)}
        assert kinds == {"served", "audit_passed"}
        found = ledger.requests.one(done.request_id)
    assert found is not None
    assert (found.row.audit_cost, found.row.audits_open, found.row.doubtful) == (done.audit_wei, 0, False)
    assert found.row.spent == done.spent_wei + done.audit_wei
    assert {(audit.session, audit.peer) for audit in found.audits} == {
        (hop.session_id, hop.peer) for hop in found.hops
    }


@pytest.mark.parametrize("chained", [False, True], ids=["relay", "chain"])
async def test_a_stage_that_went_on_is_looked_at_with_all_its_turns(
    world: World, tmp_path: Path, chained: bool
) -> None:
    wallet, prompt = new_wallet(world.chain), tuple(PROMPT * 10)
    async with world.client(wallet, tmp_path, wishes=replace(CHEAPEST, stays=True, chain=chained)) as client:
        turns: list[Completion] = []
        for more in ((), (7, 8, 9)):
            prompt = (*prompt, *(turns[-1].tokens if turns else ()), *more)
            with trio.fail_after(300):
                request = Request(prompt=prompt, allowance=Allowance(tokens=TOKENS))
                turns.append(await client.complete(request).finished())
                await client.reports(turns[-1].request_id)
    first, second = turns
    held = 40 + TOKENS - 1
    assert (first.cached, second.cached) == (0, held)
    assert [report.finding for done in turns for report in done.reports] == ["pass"] * 4
    assert {report.tokens for report in first.reports} == {held}
    assert {report.tokens for report in second.reports} == {held + 4 + TOKENS - 1}
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        detail = ledger.requests.one(second.request_id)
    assert detail is not None
    assert [audit.tokens for audit in detail.audits] == [held + 4 + TOKENS - 1] * 2
    assert {hop.stage_session for hop in detail.hops} == {audit.session for audit in detail.audits}


async def test_who_is_trusted_is_not_looked_over_and_the_others_are(world: World, tmp_path: Path) -> None:
    trusted = frozenset({world.head.operator.lower()})
    async with world.client(new_wallet(world.chain), tmp_path, trusted=trusted) as client:
        done = await complete(client)
    assert [(report.peer, report.finding) for report in done.reports] == [(world.tail.advert.peer, "pass")]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.requests.unaudited() == []


async def test_audits_that_a_client_did_not_come_to_are_finished_by_a_watch(
    world: World, tmp_path: Path
) -> None:
    """It is closed as soon as it has the text: what was drawn and not looked at is looked at later, and paid once."""
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path) as client:
        request = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=TOKENS))
        with trio.fail_after(300):
            done = await client.complete(request).finished()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        (row,) = ledger.requests.unaudited()
    assert row.request_id == done.request_id
    found: list[tuple[str, Report]] = []
    settings = Settings(home=tmp_path, bootstrap=(world.head.address,))
    with trio.fail_after(300):
        await watch(
            settings,
            world.chain,
            wallet.purse,
            Auditing(policy=Policy(), auditor="verifier"),
            models=lambda model_id: world.stored,
            on_finished=lambda finished: None,
            on_report=lambda *report: found.append(report),
            once=True,
            every=0.2,
        )
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        detail = ledger.requests.one(done.request_id)
    assert detail is not None
    assert detail.row.audits_open == 0
    assert len(found) == row.audits_open
    assert {(name, report.finding) for name, report in found} == {(done.request_id, "pass")}
    assert {audit.peer for audit in detail.audits} == {world.head.advert.peer, world.tail.advert.peer}
    billed = sum(
        channel.billed
        for channel in world.verifier.ledger.payee.channels()
        if channel.payer == wallet.sender.address
    )
    assert detail.row.audit_cost + detail.row.risked >= billed > 0


@pytest.mark.parametrize("answered", [False, True])
async def test_an_audit_that_is_paid_for_is_in_the_books_when_the_client_ends_before_its_report(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """Vouchers are out before the verdict, and between that and the report there may be a case on chain."""
    wallet, paid_for = new_wallet(world.chain), trio.Event()

    async def endless(*told: Any) -> Any:
        if answered or isinstance(told[2], AuditEnd):
            paid_for.set()
            await trio.sleep_forever()
        return await exchange(*told)

    if answered:
        monkeypatch.setattr(Inspector, "_act_on", endless)
    else:
        monkeypatch.setattr(verifier_auditor, "exchange", endless)
    async with world.client(wallet, tmp_path) as client:
        with trio.fail_after(300):
            request = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=TOKENS))
            done = await client.complete(request).finished()
            await paid_for.wait()
    billed = (len(PROMPT) + TOKENS - 1) * AUDIT_PRICE
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        (row,) = ledger.requests.latest()
        channels = ledger.payer.channels()
    cost, risked = (billed, 0) if answered else (0, billed)
    assert (row.cost, row.audit_cost, row.risked, row.audits_open) == (done.spent_wei, cost, risked, 2)
    assert sum(each.spent for each in channels) == done.spent_wei + cost
    assert sum(each.signed for each in channels) == done.spent_wei + billed


async def test_an_audit_that_a_budget_does_not_hold_is_not_begun_and_nobody_is_blamed(
    world: World, tmp_path: Path
) -> None:
    wallet = new_wallet(world.chain)
    rows = len(PROMPT) + TOKENS - 1
    async with world.client(wallet, tmp_path) as client:
        free = await complete(client)
        budget = Budget("budget of a key", free.spent_wei + 2 * rows * AUDIT_PRICE - 1)
        done = await complete(client, budgets=(budget,))
    assert done.finish == "length"
    assert [report.finding for report in done.reports] == ["pass", "error"], "one was paid for"
    assert "not paid: The budget of a key" in done.reports[1].note
    assert done.audit_wei == rows * AUDIT_PRICE
    assert budget.spent_wei == done.spent_wei + done.audit_wei
    assert budget.reserved_wei == 0
    assert not done.doubtful
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        kinds = {event.kind for event in ledger.trust.events(world.verifier.advert.peer)}
        assert kinds == {"served"}
        found = ledger.requests.one(done.request_id)
    assert found is not None
    assert found.row.spent == budget.spent_wei


@pytest.mark.parametrize(
    ("cheat", "auditor"),
    [
        ("noise", "own"),
        ("noise", "verifier"),
        ("noise", "provider"),
        ("stale", "verifier"),
        ("truncate", "provider"),
    ],
)
async def test_a_cheat_is_found_and_avoided(world: World, tmp_path: Path, cheat: Any, auditor: str) -> None:
    world.cheat.append(Tampering(cheat))
    async with world.client(new_wallet(world.chain), tmp_path, auditor) as client:
        assert (await client.route()).ids[0] == world.head.advert.peer
        done = await complete(client)
        first = next(report for report in done.reports if report.layer_start == 0)
        assert (first.finding, first.fault) == ("fail", world.head.advert.peer), first
        # Another provider's word is not enough: a verifier was asked as well.
        assert first.auditor == ("own" if auditor == "own" else world.verifier.advert.peer)
        assert done.doubtful
        with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
            assert [row.doubtful for row in ledger.requests.latest()] == [True]
            spent = ledger.requests.spent_in(None, None)
        # Also where two auditors were asked.
        paid = [*world.verifier.ledger.payee.channels(), *world.rival.ledger.payee.channels()]
        billed = sum(row.billed for row in paid if row.payer == client.payer.payer)
        assert spent == done.spent_wei + done.risked_wei + done.audit_wei == done.spent_wei + billed
        assert (await client.route()).ids == [world.rival.advert.peer, world.tail.advert.peer]
    assert stake(world, world.head.operator) == world.chain.staking.minimum  # no dispute was asked for


async def test_others_hear_of_a_cheat_from_who_shares_and_take_it_for_a_word(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed audit that a staked verifier signed makes the cheat's paths dearer with clients that never met it."""
    world.cheat.append(Tampering("noise"))
    homes = [tmp_path / name for name in ("cheated", "other")]
    monkeypatch.setenv("HC_SHARE_EVIDENCE", "all")

    def standing(home: Path) -> Standing:
        with Ledger(f"sqlite:///{home / 'ledger.sqlite'}") as ledger:
            return ledger.trust.standing(world.head.operator, datetime.now(UTC))

    async with (
        world.client(new_wallet(world.chain), homes[1]),
        world.client(new_wallet(world.chain), homes[0]) as client,
    ):
        done = await complete(client)
        first = next(report for report in done.reports if report.layer_start == 0)
        assert first.finding == "fail"
        with trio.fail_after(300):
            while not standing(homes[1]).reputation.heard:
                await trio.sleep(0.2)
    heard, seen = standing(homes[1]), standing(homes[0])
    assert not heard.reputation.distrusted
    assert heard.reputation.reliability == Reputation().reliability
    assert heard.reputation.risk > Reputation().risk
    assert seen.reputation.distrusted
    paid = [row for row in world.verifier.ledger.payee.channels() if row.payer == client.payer.payer]
    assert sum(row.billed for row in paid) == done.audit_wei, "the second audit is on the bill as well"


async def test_another_provider_that_agrees_is_enough(world: World, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path, "provider") as client:
        done = await complete(client)
        by_range = {report.layer_start: report for report in done.reports}
        both = {world.head.advert.peer, world.rival.advert.peer}
        assert by_range[0].finding == "pass"
        assert {by_range[0].peer, by_range[0].auditor} == both
        assert by_range[0].cost_wei > 0
        assert by_range[2].finding == "error"
        assert "No other provider" in by_range[2].note


async def test_nobody_is_audited_at_rate_zero_and_half_at_half(world: World, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path, "own", rate=0.0) as client:
        assert (await complete(client)).reports == []
    reports: list[Report] = []
    async with world.client(new_wallet(world.chain), tmp_path, "own", rate=0.5) as client:
        for _ in range(12):
            reports += (await complete(client, 2)).reports
    assert 3 <= len(reports) <= 21  # of 24; beyond that one run in ten thousand


# --- traps ---------------------------------------------------------------------------------------------------


async def test_a_verifier_that_looks_falls_into_no_trap(world: World, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path, traps=1.0) as client:
        done = await complete(client)
    assert [report.finding for report in done.reports] == ["pass"] * 4, [r.note for r in done.reports]
    assert sum("planted" in report.note for report in done.reports) == 2


async def test_stages_that_went_back_are_audited_like_any_other(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses that did not hold were served and paid, and nothing after them looks at them."""

    async def guess(self: Drafts, cost: Callable[[int], int], most: int) -> list[int]:
        return [1, 2, 3][:most]

    monkeypatch.setattr(Drafts, "guess", guess)
    async with world.client(new_wallet(world.chain), tmp_path, wishes=GUESSING, traps=1.0) as client:
        done = await complete(client)
    assert done.drafted - done.draft_held > TOKENS
    assert [report.finding for report in done.reports] == ["pass"] * 4, [r.note for r in done.reports]
    rows = len(PROMPT) + TOKENS - 1 + done.drafted - done.draft_held
    assert {report.tokens for report in done.reports} == {rows}


def lazy(world: World) -> Callable[[Transcript], Judgement]:
    def judge(transcript: Transcript) -> Judgement:
        is_tail = transcript.record.layer_stop == 4
        rows = claimed_numbers(transcript, world.stored.manifest.width, is_tail)
        tolerance = world.bounds.tolerance("tail" if is_tail else "body", own=True)
        same = Difference(0, 0, 1, True, len(rows))
        return Judgement(Finding.PASS, same, "prefill", rows, 0, 0, tolerance=tolerance)

    return judge


async def test_a_lazy_verifier_is_caught_and_loses_stake(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.verifier.verifier._replayer, "judge", lazy(world))
    with running_verifier(
        world.chain,
        world.stored,
        world.bounds,
        tmp_path / "lazy",
        judge=lazy(world),
        bootstrap=(world.head.address,),
        price_wei=1,
    ) as idler:
        async with world.client(
            new_wallet(world.chain), tmp_path / "client", traps=1.0, disputes=True
        ) as client:
            with trio.fail_after(300):
                while len(client.verifiers()) < 2:
                    await trio.sleep(0.05)
            done = await complete(client)
            caught = [report for report in done.reports if report.fault == idler.advert.peer]
            assert caught
            rulings = [report.ruling for report in caught if report.ruling]
            assert [ruling.outcome for ruling in rulings] == ["contradiction"]
            assert rulings[0].slashed_wei == 100 * HCT
            later = await complete(client)
            assert idler.advert.peer not in {report.auditor for report in later.reports}
        assert stake(world, idler.operator.address) == world.chain.staking.minimum - 100 * HCT
    assert stake(world, world.verifier.operator.address) == world.chain.staking.minimum


async def test_a_verifier_that_computes_otherwise_than_before_passes_nothing_twice(
    world: World, tmp_path: Path
) -> None:
    """As after an upgrade: what it passed before and what it would pass now may be too far apart."""
    versions = itertools.count()

    def judge(transcript: Transcript) -> Judgement:
        found = world.verifier.verifier._replayer.judge(transcript)
        return replace(found, own_digest=next(versions).to_bytes(32, "big"))

    with running_verifier(
        world.chain,
        world.stored,
        world.bounds,
        tmp_path / "upgraded",
        judge=judge,
        bootstrap=(world.head.address,),
        price_wei=1,
    ) as upgraded:
        async with world.client(new_wallet(world.chain), tmp_path / "client") as client:
            with trio.fail_after(300):
                while len(client.verifiers()) < 2:
                    await trio.sleep(0.05)
            findings = [
                [r.finding for r in (await complete(client)).reports if r.auditor == upgraded.advert.peer]
                for _ in range(2)
            ]
    # Candidates cannot contradict each other on the chain.
    assert [sorted(each) for each in findings] == [["pass", "pass"], ["grey", "pass"]]


@pytest.mark.parametrize("show", ["refusing", "forging"])
async def test_who_does_not_show_the_rows_that_it_sent_on_is_taken_for_wrong(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show: str
) -> None:
    """Without them nobody can tell what it computed; it is bound to keep them, and the chain can make it show them."""
    load = TranscriptStore.load

    def forgotten(self: TranscriptStore, stage_hash: bytes, last_seq: int | None = None) -> Transcript:
        found = load(self, stage_hash, last_seq)
        if found.record.peer != world.head.advert.peer or self.folder.name == "client":
            return found
        if show == "refusing":
            raise NoTranscript("It is gone.")
        steps = tuple(replace(step, output=step.output[::-1]) for step in found.steps)
        return Transcript(found.record, steps)

    monkeypatch.setattr(TranscriptStore, "load", forgotten)
    # Verifiers of other tests that have gone may still be in the book: this client looks itself.
    async with world.client(new_wallet(world.chain), tmp_path, "own") as client:
        done = await complete(client)
        by_layer = {report.layer_start: report.finding for report in done.reports}
        # The first steps were relayed: only what went on later is not here.
        assert by_layer == {0: "error", 2: "pass"}, [report.note for report in done.reports]
        head = next(report for report in done.reports if report.layer_start == 0)
        assert "show" in head.note
        assert not any(report.fault for report in done.reports)
        held = client_transcripts(Settings(home=tmp_path), world.chain).latest(
            lambda record: record.peer == world.head.advert.peer
        )
        assert held is not None
        assert held.missing
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        standing = ledger.trust.standings(datetime.now(UTC))[world.head.operator]
    # A session that was served, and rows that were not shown.
    assert standing.reputation.distrusted


# --- recalls -------------------------------------------------------------------------------------------------


async def test_a_provider_shows_what_it_signed_to_its_client_alone(world: World, tmp_path: Path) -> None:
    wallet = new_wallet(world.chain)
    domain = world.chain.disputes.domain
    # All rows go through this client, so that it has them.
    relayed = replace(CHEAPEST, chain=False)
    async with world.client(wallet, tmp_path, "own", relayed, rate=0.0) as client:
        done = await complete(client)
        assert done.tokens
        host = client.network.host
        store = TranscriptStore(tmp_path / "transcripts" / "client", keep_seconds=100, max_bytes=10**9)
        kept = [store.load(bytes.fromhex(path.stem)) for path in store.folder.iterdir()]
        head = next(t for t in kept if t.record.peer == world.head.advert.peer)
        for seq in (0, 5, len(head.steps) - 1):
            assert await recall(host, world.head.advert.addrs, head, seq, domain) is None
        shown: list[Equivocation | None] = []

        async def again() -> None:
            shown.append(await recall(host, world.head.advert.addrs, head, 0, domain))

        # Audits run beside each other; more than two questions at once a provider does not hear.
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(again)
        assert shown == [None] * 6
        stream = await host.open_stream(
            head.record.peer, "/hypercluster/recall/2.0.0", world.head.advert.addrs
        )
        connection = Connection(stream)
        await connection.send(Recall(head.record.stage.struct_hash(), 999))
        answer = await connection.receive(10)
        assert isinstance(answer, Error)
        assert answer.code is ErrorCode.UNKNOWN_SESSION
    async with world.client(new_wallet(world.chain), tmp_path / "stranger", rate=0.0) as stranger:
        with pytest.raises(NotShown, match="no such step of yours"):
            await recall(stranger.network.host, world.head.advert.addrs, head, 0, domain)


async def test_a_provider_that_too_many_ask_is_asked_again_and_not_taken_for_gone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    within, refused, waits = Host.within, list[str](), [0.001, 0.3]

    def crowded(self: Host, name: str, peer: str, ip: str) -> AbstractContextManager[None]:
        if name == "recall" and waits:
            refused.append(peer)
            raise OverBudget(BOUNDS[name], waits.pop())
        return within(self, name, peer, ip)

    domain = world.chain.disputes.domain
    relayed = replace(CHEAPEST, chain=False)
    async with world.client(new_wallet(world.chain), tmp_path, "own", relayed, rate=0.0) as client:
        await complete(client)
        store = TranscriptStore(tmp_path / "transcripts" / "client", keep_seconds=100, max_bytes=10**9)
        kept = [store.load(bytes.fromhex(path.stem)) for path in store.folder.iterdir()]
        head = next(t for t in kept if t.record.peer == world.head.advert.peer)
        monkeypatch.setattr(Host, "within", crowded)
        assert await recall(client.network.host, world.head.advert.addrs, head, 0, domain) is None
        assert refused == 2 * [client.network.host.peer]
        waits.append(60.0)
        with pytest.raises(NotShown, match="Come back in 60 s") as failed, trio.fail_after(10):
            await recall(client.network.host, world.head.advert.addrs, head, 0, domain)
        assert failed.value.evidence is Evidence.REFUSAL
        # Of a stranger nothing is told, which costs least.
        waits.append(0.2)
        async with world.client(new_wallet(world.chain), tmp_path / "stranger", rate=0.0) as stranger:
            with pytest.raises(NotShown) as failed:
                await recall(stranger.network.host, world.head.advert.addrs, head, 0, domain)
        assert failed.value.evidence is Evidence.DEATH


# --- whoever speaks to a verifier badly -------------------------------------------------------------------------


@asynccontextmanager
async def speaking(world: World, client: Client) -> AsyncIterator[Connection]:
    advert = world.verifier.advert
    connection = Connection(await client.network.host.open_stream(advert.peer, AUDIT_PROTOCOL, advert.addrs))
    connection.raise_bound(1 << 26)
    try:
        yield connection
    finally:
        with trio.CancelScope(shield=True):
            await connection.close()


BAD_OPENINGS: dict[str, tuple[dict[str, Any], ErrorCode]] = {
    "another model": ({"model_id": "00" * 32}, ErrorCode.WRONG_MODEL),
    "layers beyond the model": ({"layer_start": 2, "layer_stop": 9}, ErrorCode.WRONG_RANGE),
    "a price too low": ({"max_price_wei": AUDIT_PRICE - 1}, ErrorCode.PRICE_TOO_LOW),
}


@pytest.mark.parametrize("case", BAD_OPENINGS)
async def test_a_bad_opening_is_refused(world: World, tmp_path: Path, case: str) -> None:
    changes, code = BAD_OPENINGS[case]
    wallet = new_wallet(world.chain)
    account = wallet.channel(world.verifier.operator.address)
    async with world.client(wallet, tmp_path) as client, speaking(world, client) as c:
        good = opening(world.head.advert, account, max_price_wei=AUDIT_PRICE)
        await c.send(AuditOpen(replace(good, **changes), bytes(32), "profile"))
        answer = await c.receive(10)
        assert isinstance(answer, Error)
        assert answer.code is code


async def test_money_of_others_is_refused(world: World, tmp_path: Path) -> None:
    wallet, other = new_wallet(world.chain), new_wallet(world.chain)
    stolen = other.channel(world.verifier.operator.address)
    unopened = wallet.account(stolen.descriptor)
    async with world.client(wallet, tmp_path) as client:
        for account in (stolen, unopened):
            async with speaking(world, client) as c:
                await c.send(
                    AuditOpen(
                        opening(world.head.advert, account, max_price_wei=AUDIT_PRICE), bytes(32), "profile"
                    )
                )
                answer = await c.receive(10)
                assert isinstance(answer, Error)
                assert answer.code is ErrorCode.FOREIGN_CHANNEL


def step(world: World, seq: int = 0, rows: int = 2, **changes: Any) -> AuditStep:
    width = 4 * world.stored.manifest.width
    values = np.ones((rows, world.stored.manifest.width), "<f4").tobytes()
    good = AuditStep(seq, seq * rows, rows, rows, bytes([1, 0, 0, 0]) * rows, values)
    assert len(values) == rows * width
    return replace(good, **changes)


BAD_STEPS: dict[str, tuple[Callable[[World], Any], ErrorCode]] = {
    "out of order": (lambda w: step(w, seq=1), ErrorCode.OUT_OF_ORDER),
    "too many rows": (lambda w: step(w, rows=64), ErrorCode.TOO_LONG),
    "beyond the context": (lambda w: step(w, position=w.stored.manifest.context), ErrorCode.TOO_LONG),
    "something else": (lambda w: Close(), ErrorCode.BAD_REQUEST),
    "nothing at all": (lambda w: AuditEnd(), ErrorCode.BAD_REQUEST),
    "unpaid": (step, ErrorCode.BAD_SIGNATURE),
    "paid too little": (step, ErrorCode.VOUCHER_TOO_LOW),
    "forged": (
        lambda w: replace(step(w), cumulative_wei=200, voucher=secrets.token_bytes(64)),
        ErrorCode.BAD_SIGNATURE,
    ),
}


@pytest.mark.parametrize("case", BAD_STEPS)
async def test_a_bad_step_is_refused_and_costs_nothing(world: World, tmp_path: Path, case: str) -> None:
    make, code = BAD_STEPS[case]
    pays = {"unpaid": None, "forged": None, "paid too little": lambda message: 1}
    await _refused(world, tmp_path, [make(world)], {code}, pays.get(case, _price))


BAD_DATA: dict[str, dict[str, Any]] = {
    "nan": {"output": np.full(128, np.nan, "<f4").tobytes()},
    "infinity": {"output": np.full(128, np.inf, "<f4").tobytes()},
    "a length that does not fit": {"output": b"123"},
    "a token that does not exist": {"input": b"\xff\xff\0\0" * 2},
    "a negative token": {"input": b"\xff\xff\xff\xff" * 2},
    "fewer outputs": {"outputs": 1},
    "a wrong position": {"position": 7},
}


@pytest.mark.parametrize("case", BAD_DATA)
async def test_data_built_to_crash_are_refused_and_cost_nothing(
    world: World, tmp_path: Path, case: str
) -> None:
    bad = step(world, **BAD_DATA[case])
    codes = {ErrorCode.BAD_SHAPE, ErrorCode.NOT_FINITE, ErrorCode.BAD_REQUEST}
    await _refused(world, tmp_path, [bad, AuditEnd()], codes)


def _price(message: AuditStep) -> int:
    return message.rows * AUDIT_PRICE


async def _refused(
    world: World,
    home: Path,
    messages: list[Any],
    codes: set[ErrorCode],
    pay: Callable[[AuditStep], int] | None = _price,
) -> None:
    """The verifier refuses, bills nothing, and does the next audit."""
    wallet = new_wallet(world.chain)
    async with world.client(wallet, home, "verifier") as client:
        account = next(iter((await client.payer.fund({_payee(world): HCT // 100})).values()))
        async with speaking(world, client) as c:
            await c.send(
                AuditOpen(
                    opening(world.head.advert, account, max_price_wei=AUDIT_PRICE, capacity=40),
                    bytes(32),
                    "profile",
                )
            )
            await c.receive(10)
            for message in messages:
                if isinstance(message, AuditStep) and pay is not None:
                    cumulative, signature = account.authorise(pay(message), FREE)
                    message = replace(message, cumulative_wei=cumulative, voucher=signature)
                await c.send(message)
            answer = await c.receive(30)
            assert isinstance(answer, Error)
            assert answer.code in codes
            assert answer.billed_wei == 0
        done = await complete(client, 3)
        assert {report.finding for report in done.reports} == {"pass"}


def _payee(world: World) -> Any:
    from hypercluster.node.client.account import Recipient
    from hypercluster.node.identity import address_of_peer

    return Recipient(world.verifier.operator.address, address_of_peer(world.verifier.advert.peer))


async def test_garbage_and_giants_end_the_connection_alone(world: World, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        for junk in (b"\x05junk!", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x80\x80"):
            async with speaking(world, client) as c:
                await c._stream.write(junk)
                # It says why, or just hangs up.
                with contextlib.suppress(NodeError):
                    assert isinstance(await c.receive(10), Error)
        assert {report.finding for report in (await complete(client)).reports} == {"pass"}


# --- verifiers that lie -----------------------------------------------------------------------------------------


def _copied(answer: AuditVerdict, world: World, transcript: Transcript) -> AuditVerdict:
    """The fingerprint of another verifier: right numbers under a seed that is not this one's."""
    rows = claimed_numbers(transcript, world.stored.manifest.width, transcript.record.layer_stop == 4)
    copied = fingerprint(rows, seed_of(address_bytes("0x" + "77" * 20), bytes(32)))
    return replace(answer, fingerprint=copied)


LIES: dict[str, Callable[[AuditVerdict], AuditVerdict | Error]] = {
    "signs nothing": lambda a: replace(a, signature=bytes(64)),
    "signs as somebody else": lambda a: replace(a, signature=secrets.token_bytes(64)),
    "says something else than it signs": lambda a: replace(a, finding=Finding.FAIL),
    "dates it back": lambda a: replace(a, issued=5),
    "has no fingerprint": lambda a: replace(a, fingerprint=b""),
    "has a broken fingerprint": lambda a: replace(a, fingerprint=b"HCF1" + bytes(12)),
    "bills more": lambda a: replace(a, billed_wei=HCT),
    "has no time": lambda a: Error(ErrorCode.FULL, "No."),
}


@pytest.mark.parametrize("case", LIES)
async def test_a_verifier_that_lies_accuses_nobody(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    send = Connection.send

    async def lying(self: Connection, message: Any, timeout: float | None = None) -> None:
        await send(self, LIES[case](message) if isinstance(message, AuditVerdict) else message, timeout)

    monkeypatch.setattr(Connection, "send", lying)
    async with world.client(new_wallet(world.chain), tmp_path, disputes=True) as client:
        done = await complete(client)
    assert {report.finding for report in done.reports} == {"error"}
    # Who signs what does not hold is distrusted at once: there may be nobody for the second stage.
    assert {report.fault for report in done.reports} - {""} == {world.verifier.advert.peer}
    assert not done.doubtful
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        assert {event.kind for event in ledger.trust.events(world.head.advert.peer)} == {"served"}
        seen = "refusal" if case in ("bills more", "has no time") else "wrong"
        assert {event.kind for event in ledger.trust.events(world.verifier.advert.peer)} == {seen}
    assert stake(world, world.head.operator) == world.chain.staking.minimum


async def test_a_verifier_that_copies_is_not_believed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It signs a pass, properly, over the fingerprint that it got from somebody else."""
    monkeypatch.setattr(
        audit_session, "fingerprint", lambda rows, seed: fingerprint(rows, seed_of(b"of somebody else"))
    )
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        done = await complete(client)
    assert {report.finding for report in done.reports} == {"error"}
    # It is distrusted at once, so that there may be nobody for the second stage.
    told = [report.note for report in done.reports if report.fault == world.verifier.advert.peer]
    assert told
    assert all("fingerprinted itself" in note for note in told)


async def test_a_silent_verifier_is_left(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Connection.send

    async def silent(self: Connection, message: Any, timeout: float | None = None) -> None:
        if not isinstance(message, AuditVerdict):
            await send(self, message, timeout)

    monkeypatch.setattr(Connection, "send", silent)
    monkeypatch.setattr(verifier_auditor, "VERDICT_SECONDS", 1.0)
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        started = time.monotonic()
        done = await complete(client)
        assert time.monotonic() > started
    assert {report.finding for report in done.reports} == {"error"}
    # What was signed for it may still be claimed: it is a risk, and no cost.
    assert done.audit_wei == 0
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        found = ledger.requests.one(done.request_id)
        channels = ledger.payer.channels()
    assert found is not None
    assert found.row.risked >= (len(PROMPT) + TOKENS - 1) * AUDIT_PRICE
    spent, signed = sum(row.spent for row in channels), sum(row.signed for row in channels)
    assert found.row.cost <= spent <= signed <= found.row.cost + found.row.risked


async def test_an_uncalibrated_client_is_careful(world: World, tmp_path: Path) -> None:
    wide = Bounds.conservative(world.stored.manifest.model_id)
    replayer = Replayer(world.stored, wide, threads=1)
    honest = replayer.judge(served(world.stored, 0, 2, list(range(20)), dtype=WireDtype.F16))
    coarse = replayer.judge(served(world.stored, 0, 2, list(range(20)), tamper=Tampering("truncate")))
    replayer.close()
    assert (honest.finding, coarse.finding) == (Finding.PASS, Finding.FAIL)


async def test_what_a_client_loads_for_its_own_audits_ends_with_it(world: World, tmp_path: Path) -> None:
    def engines() -> set[int]:
        children = psutil.Process().children()
        return {each.pid for each in children if "hypercluster.node.engine.child" in each.cmdline()}

    before = engines()
    async with world.client(new_wallet(world.chain), tmp_path, "own") as client:
        done = await complete(client)
        assert [report.finding for report in done.reports] == ["pass", "pass"]
        assert engines() - before
    assert not engines() - before
