"""The features of the data plane beside each other: the same tokens, exact bills, receipts that hold, and audits that
pass, or find who cheats.

`make test` runs some cases that have every pair of values, `make matrix` every combination of some axes, which CROSSED
names, or every triple, or all.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import accumulate
from itertools import chain as all_of
from pathlib import Path

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import Ledger, Outcome
from hypercluster.market.money.voucher import charge
from hypercluster.node.client import chaining, flight, patience, standing_by, stays
from hypercluster.node.client.completion import Completion, HopBill
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.recovery import opened_wallet
from hypercluster.node.evidence.bundle import Bundle
from hypercluster.node.evidence.checking import check_bundle
from hypercluster.node.home.settings import Settings
from hypercluster.node.provider import links
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from tests.matrix.asking import (
    FAILS_AT,
    TOKENS_AHEAD,
    answered,
    client_of,
    command,
    requests_of,
    seeds_of,
    silent,
)
from tests.matrix.cases import (
    AHEAD,
    ALONE,
    CHAIN,
    CHEATS,
    CLIENT_KILLED,
    CUT,
    DRAFT_MODEL,
    EACH,
    F32,
    FAILS,
    FORKED,
    FRESH,
    FROZEN,
    GREEDY,
    IN_FLIGHT,
    KILLED,
    MIXED,
    NO_DRAFTS,
    NOBODY,
    NOTHING,
    RESUMED,
    STANDS_BY,
    Case,
    chosen,
)
from tests.matrix.world import CHEAP, DEAR, PATH, PROMPT, World, running_world
from tests.node.helpers.providers import Wallet, new_wallet

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CASES = chosen(os.environ.get("HC_MATRIX", "pairs"), os.environ.get("HC_MATRIX_PART", "1/1"))
FIRST_TOKENS, TOKENS = 8, 24
NEXT = (7, 8, 9)
"""what is said after the first answer"""
BOTH = ("middle", "spare")
"""who fails where the spare does as well"""


@pytest.fixture(scope="module")
def world(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with running_world(chain, stored_tiny, tmp_path_factory.mktemp("matrix")) as world:
        yield world


@pytest.fixture(autouse=True)
def calm(world: World) -> Iterator[None]:
    world.calm()
    yield
    world.calm()
    trio.run(world.at_rest)


Turn = tuple[list[int], int]
Done = list[list[Completion]]
"""the answers of each turn; of several to one prompt the one that ran it comes first"""


def turns_of(world: World, case: Case) -> list[Turn]:
    """Prompts and how many tokens are asked for: a passage that comes again, and in a second turn the answer."""
    passage = [*PROMPT, *world.text[:12]]
    prompt = [*passage, *passage, *passage[:8]]
    if case.session == FRESH:
        return [(prompt, TOKENS)]
    first = world.answer(case, prompt, FIRST_TOKENS, seeds_of(case)[0])
    return [(prompt, FIRST_TOKENS), ([*prompt, *first, *NEXT], TOKENS)]


async def run(world: World, case: Case, wallet: Wallet, home: Path, turns: list[Turn]) -> Done:
    """All turns; in the last one something fails when some tokens have come."""

    async def told(came: int) -> None:
        if came == 1:
            world.tempers["spare"].rows = 0
            await world.linked(case)
        elif came == FAILS_AT:
            await world.stands_by(case, len(turns[-1][0]))
            world.fail(case)

    if case.failure == CHEATS:
        world.tempers["middle"].mood = CHEATS
    done: Done = []
    async with client_of(case, world.place, world.chain, world.stored, wallet.purse, home) as client:
        with trio.fail_after(300):
            for number, (prompt, tokens) in enumerate(turns, 1):
                # What is before the last turn goes well.
                is_last = number == len(turns)
                requests = requests_of(case, prompt, tokens, is_last=is_last)
                done.append(await answered(client, requests, told if is_last else silent))
            for each in all_of.from_iterable(done):
                await client.reports(each.request_id)
    return done


def killed(world: World, case: Case, wallet: Wallet, home: Path, turns: list[Turn]) -> None:
    """The same in a process that is killed when some tokens have come."""
    line = command(case, world.place, wallet.sender.account.key.hex(), wallet.session_key, home, turns)
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for said in child.stdout:
            if int(said) == FAILS_AT:
                trio.run(world.stands_by, case, len(turns[-1][0]))
                break
            if int(said) == 1:
                world.tempers["spare"].rows = 0
                trio.run(world.linked, case)
                child.stdin.write("\n")
                child.stdin.flush()
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_meets_in_the_data_plane_holds(
    world: World, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.failure == FROZEN:
        # As for who answered in milliseconds before: otherwise each of these cases would take ten seconds.
        monkeypatch.setattr(patience, "SLACK_SECONDS", patience.SILENT_SECONDS)
    for module in (chaining, flight):
        # Who is left says what became of its steps, however late on a busy machine.
        monkeypatch.setattr(module, "REST_SECONDS", 60.0)
    # What a busy machine is late with is no failure: a link is made, a session that can be kept is kept.
    monkeypatch.setattr(links, "DIAL_SECONDS", 60.0)
    monkeypatch.setattr(stays, "PARK_SECONDS", 60.0)
    if case.spare == STANDS_BY:
        # A step that is under way with it is answered, however late.
        for each in ("TAKE_SECONDS", "END_SECONDS"):
            monkeypatch.setattr(standing_by, each, 60.0)
    wallet, turns = new_wallet(world.chain), turns_of(world, case)
    cost = risked = 0
    if case.failure == CLIENT_KILLED:
        killed(world, case, wallet, tmp_path, turns)
        trio.run(world.at_rest)
        with opened_wallet(Settings(home=tmp_path), world.chain, wallet.purse) as opened:
            rows = opened.ledger.requests.latest()
        assert [row.outcome for row in rows][: case.siblings] == [Outcome.INTERRUPTED] * case.siblings
        cost, risked = sum(row.cost for row in rows), sum(row.risked for row in rows)
        billed = sum(row.billed for rows in world.books(wallet).values() for row in rows)
        assert cost <= billed <= cost + risked
        turns = turns[-1:]
    done = trio.run(run, world, case, wallet, tmp_path, turns)
    right(world, case, turns, done)
    trio.run(exact, world, case, wallet, tmp_path, done, cost, risked)
    looked_over(world, case, tmp_path, done)


def test_who_froze_while_it_stood_by_is_not_asked_when_it_is_needed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was sent is given up, and of those who could take over it is the last, whatever its price."""
    monkeypatch.setattr(standing_by, "TAKE_SECONDS", 0.2)
    case = Case(CHAIN, NO_DRAFTS, FRESH, ALONE, KILLED, F32, GREEDY, EACH, FAILS)
    wallet, prompt, tokens = new_wallet(world.chain), turns_of(world, case)[0][0], 40

    async def told(came: int) -> None:
        if came == 1:
            await world.linked(case)
        elif came == FAILS_AT:
            await world.stands_by(case, len(prompt))
            world.tempers["spare"].mood = FROZEN
        elif came == tokens - 1:
            # By then it was sent something that it never answers.
            world.tempers["middle"].mood = KILLED

    async def complete() -> Completion:
        async with client_of(case, world.place, world.chain, world.stored, wallet.purse, tmp_path) as client:
            with trio.fail_after(300):
                (done,) = await answered(client, requests_of(case, prompt, tokens, is_last=True), told)
            return done

    done = trio.run(complete)
    assert tuple(done.tokens) == world.answer(case, prompt, tokens, None)
    assert world.names(done.failures) == ["middle"]
    assert world.names([bill.peer for bill in done.bills]) == ["spare", "middle", "head", "other", "tail"]
    assert done.bills[0].stood_by
    assert done.bills[0].risked_wei > 0
    assert check_bundle(ReceiptFiles(tmp_path).load(done.request_id)).faults == ()


def right(world: World, case: Case, turns: list[Turn], done: Done) -> None:
    """The tokens came that had to, in the way that the case says."""
    if case.failure != CHEATS:
        for (prompt, tokens), answers in zip(turns, done, strict=True):
            for each in answers:
                assert tuple(each.tokens) == world.answer(case, prompt, tokens, each.seed)
    last = done[-1]
    assert {each.seed for each in last} == {*seeds_of(case)}
    broke = case.failure in (KILLED, FROZEN)
    for place, each in enumerate(last):
        assert len(each.tokens) == TOKENS
        lost, path = world.names(each.failures), world.names([bill.peer for bill in each.bills])
        assert lost == (["middle"] if broke else []) or (broke and case.spare == FAILS and lost == [*BOTH])
        if broke and case.spare == FAILS:
            # Who stood by is missed before it is needed, or when it is.
            assert {*path[:2]} == {*BOTH}
            assert path[2:] == ["head", "other", "tail"]
        elif broke:
            # Of two answers only one waits for somebody who is new, where there are others.
            either = case.spare == NOBODY and case.answers == FORKED
            assert path[2] == "spare" or (either and path[2] == "other")
            assert path == ["middle", "head", path[2], "tail"]
        else:
            assert path == [*(["spare"] if case.spare != NOBODY else []), *PATH]
        # Who takes over stands by no longer.
        idle = case.spare != NOBODY and not (broke and (case.spare == STANDS_BY or lost == [*BOTH]))
        assert [bill.stood_by for bill in each.bills] == [idle and name == "spare" for name in path]
        # Who forks begins behind the whole prompt.
        comes_back = case.session == RESUMED and case.failure != CLIENT_KILLED
        assert bool(each.cached) == (comes_back or place > 0)
        assert (each.cached == len(each.prompt)) == (place > 0)
        # Who looks at the time guesses only where that is worth it on the machine as it is.
        assert (each.drafted > 0) >= (case.guesses == DRAFT_MODEL)
        assert (each.drafted == 0) >= (case.guesses == NO_DRAFTS)
    sent = world.sent()
    assert (sent["head"], sent["middle"]) == (case.rows in (CHAIN, MIXED), case.rows == CHAIN)


async def exact(
    world: World, case: Case, wallet: Wallet, home: Path, done: Done, cost: int, risked: int
) -> None:
    """Everybody was paid what they served for, to the wei, and nobody can claim more than what stands at risk."""
    answers = [*all_of.from_iterable(done)]
    spent = cost + sum(each.spent_wei for each in answers)
    risk = risked + sum(each.risked_wei for each in answers)
    await world.at_rest()
    books = world.books(wallet)
    incoming = [row for rows in books.values() for row in rows]
    best, billed = sum(row.best for row in incoming), sum(row.billed for row in incoming)
    assert spent <= billed <= best <= spent + risk
    with Ledger(f"sqlite:///{home / 'ledger.sqlite'}") as ledger:
        outgoing = {row.channel_id: row for row in ledger.payer.channels()}
    assert {row.channel_id for row in incoming} == outgoing.keys()
    assert all(row.best <= outgoing[row.channel_id].signed for row in incoming)
    if case.failure in (NOTHING, CUT, CHEATS) and case.spare != FAILS:
        assert billed == spent
        for row in incoming:
            assert outgoing[row.channel_id].spent == row.billed
        for name, rows in books.items():
            paid = sum(
                bill.paid_wei
                for each in answers
                for bill in each.bills
                if bill.peer == world.served[name].advert.peer
            )
            assert [row.billed for row in rows] == ([paid] if paid else [])
        if case.guesses != IN_FLIGHT:
            ahead = TOKENS_AHEAD - 1 if case.vouchers == AHEAD else 0
            assert all(bill.risked_wei <= ahead * bill.price_wei for each in answers for bill in each.bills)
            assert [row.best for row in incoming] == [outgoing[row.channel_id].signed for row in incoming]
            # What one session paid ahead is credit for the next ones of its channel, which count it as spent.
            assert best == spent + risk or (len(answers) > 1 and ahead)
    if case.failure == NOTHING and case.guesses == NO_DRAFTS:
        for each in done[-1]:
            new, held = len(each.prompt) - each.cached, (CHEAP // 80) * each.cached
            prompt = charge(CHEAP, CHEAP // 4, new) if new else 0
            asked = {bill.paid_wei for bill in each.bills if not bill.stood_by}
            assert asked == {prompt + held + (TOKENS - 1) * CHEAP}


def looked_over(world: World, case: Case, home: Path, done: Done) -> None:
    """The receipts hold, and every stage was computed again and found right, but for that of who cheats."""
    for each in all_of.from_iterable(done):
        checked = check_bundle(ReceiptFiles(home).load(each.request_id))
        assert checked.faults == ()
        assert checked.bundle.cost_wei == each.spent_wei
        for session in checked.bundle.sessions:
            assert session.record.wire_dtype is WireDtype.named(case.wire)
        for bill in each.bills:
            if world.names([bill.peer]) == ["spare"] and case.spare != NOBODY:
                read_alone(bill, checked.bundle)
        served = [bill for bill in each.bills if bill.tokens]
        assert len(each.reports) == len(served)
        for report in each.reports:
            cheated = case.failure == CHEATS and world.names([report.peer]) == ["middle"]
            assert report.finding == ("fail" if cheated else "pass"), report.note
            assert report.fault == (report.peer if cheated else "")
    vouchers_paid_for(case, home, done[-1])


def read_alone(bill: HopBill, bundle: Bundle) -> None:
    """Who stood by was paid its prompt price for what it read then, and no token was read twice."""
    steps = [
        step
        for session in bundle.sessions
        if session.record.session == bill.session
        for step in session.steps[: session.aside]
    ]
    assert [step.position for step in steps] == [*accumulate([step.tokens for step in steps], initial=0)][:-1]
    paid = sum(charge(DEAR, DEAR // 4, step.tokens) for step in steps)
    assert (bill.paid_wei == paid) if bill.stood_by else (bill.paid_wei >= paid)


def vouchers_paid_for(case: Case, home: Path, last: list[Completion]) -> None:
    """Each step has a voucher of its own, or several steps have one."""
    steps = vouchers = 0
    for each in last:
        for session in check_bundle(ReceiptFiles(home).load(each.request_id)).bundle.sessions:
            steps += len(session.steps)
            vouchers += len({step.cumulative_wei for step in session.steps})
    assert (vouchers < steps) >= (case.vouchers == AHEAD)
    assert (vouchers == steps) >= (
        case.vouchers == EACH and case.failure == NOTHING and case.guesses != IN_FLIGHT
    )
