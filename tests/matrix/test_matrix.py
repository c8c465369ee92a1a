"""The features of the data plane beside each other: the same tokens, exact bills, receipts that hold, and audits that
pass, or find who cheats.

`make test` runs some cases that have every pair of values, `make matrix` all of them.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import Outcome
from hypercluster.market.money.voucher import charge
from hypercluster.node.client import patience
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.recovery import opened_wallet
from hypercluster.node.evidence.checking import check_bundle
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import StoredModel
from tests.matrix.asking import answered, client_of, command, request_of, silent
from tests.matrix.cases import (
    ALL,
    CHAIN,
    CHEATS,
    CLIENT_KILLED,
    CUT,
    DRAFT_MODEL,
    FEW,
    FRESH,
    FROZEN,
    KILLED,
    MIXED,
    NO_DRAFTS,
    NOTHING,
    RESUMED,
    Case,
)
from tests.matrix.world import CHEAP, PATH, PROMPT, World, running_world
from tests.node.helpers.providers import Wallet, new_wallet

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CASES = ALL if os.environ.get("HC_MATRIX") == "whole" else FEW
FIRST_TOKENS, TOKENS = 8, 24
FAILS_AT = 12
"""tokens: some steps have gone over the links by then, and some are to come"""
NEXT = (7, 8, 9)
"""what is said after the first answer"""


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


def turns_of(world: World, case: Case) -> list[Turn]:
    """Prompts and how many tokens are asked for: a passage that comes again, and in a second turn the answer."""
    passage = [*PROMPT, *world.text[:12]]
    prompt = [*passage, *passage, *passage[:8]]
    if case.session == FRESH:
        return [(prompt, TOKENS)]
    first = world.unsplit(case.draws, tuple(prompt), FIRST_TOKENS)
    return [(prompt, FIRST_TOKENS), ([*prompt, *first, *NEXT], TOKENS)]


async def run(world: World, case: Case, wallet: Wallet, home: Path, turns: list[Turn]) -> list[Completion]:
    """All turns; in the last one something fails when some tokens have come."""

    async def told(came: int) -> None:
        if came == 1:
            await world.linked(case)
        elif came == FAILS_AT and case.failure in (KILLED, FROZEN):
            world.tempers["middle"].mood = case.failure
        elif came == FAILS_AT and case.failure == CUT:
            world.tempers["head"].mood = CUT

    if case.failure == CHEATS:
        world.tempers["middle"].mood = CHEATS
    done: list[Completion] = []
    async with client_of(case, world.place, world.chain, world.stored, wallet.purse, home) as client:
        with trio.fail_after(300):
            for number, (prompt, tokens) in enumerate(turns, 1):
                # What is before the last turn goes well.
                request = request_of(case, prompt, tokens)
                done.append(await answered(client, request, told if number == len(turns) else silent))
            for each in done:
                await client.reports(each.request_id)
    return done


def killed(world: World, case: Case, wallet: Wallet, home: Path, turns: list[Turn]) -> None:
    """The same in a process that is killed when some tokens have come."""
    line = command(case, world.place, wallet.sender.account.key.hex(), wallet.session_key, home, turns)
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for said in child.stdout:
            if int(said) == 1:
                trio.run(world.linked, case)
                child.stdin.write("\n")
                child.stdin.flush()
            if int(said) >= FAILS_AT:
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_meets_in_the_data_plane_holds(
    world: World, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.failure == FROZEN:
        # As for who answered in milliseconds before: otherwise each of these cases would take ten seconds.
        monkeypatch.setattr(patience, "SLACK_SECONDS", patience.SILENT_SECONDS)
    wallet, turns = new_wallet(world.chain), turns_of(world, case)
    cost = risked = 0
    if case.failure == CLIENT_KILLED:
        killed(world, case, wallet, tmp_path, turns)
        trio.run(world.at_rest)
        with opened_wallet(Settings(home=tmp_path), world.chain, wallet.purse) as opened:
            rows = opened.ledger.requests.latest()
        assert [row.outcome for row in rows][:1] == [Outcome.INTERRUPTED]
        cost, risked = sum(row.cost for row in rows), sum(row.risked for row in rows)
        billed = sum(row.billed for rows in world.books(wallet).values() for row in rows)
        assert cost <= billed <= cost + risked
        turns = turns[-1:]
    done = trio.run(run, world, case, wallet, tmp_path, turns)
    right(world, case, turns, done)
    trio.run(exact, world, case, wallet, done, cost, risked)
    looked_over(world, case, tmp_path, done)


def right(world: World, case: Case, turns: list[Turn], done: list[Completion]) -> None:
    """The tokens of the unsplit model came, in the way that the case says."""
    last = done[-1]
    if case.failure != CHEATS:
        for (prompt, tokens), each in zip(turns, done, strict=True):
            assert tuple(each.tokens) == world.unsplit(case.draws, tuple(prompt), tokens)
    assert len(last.tokens) == TOKENS
    broke = case.failure in (KILLED, FROZEN)
    assert world.names(last.failures) == (["middle"] if broke else [])
    path = [*PATH] if not broke else ["middle", "head", "spare", "tail"]
    assert world.names([bill.peer for bill in last.bills]) == path
    assert bool(last.cached) == (case.session == RESUMED and case.failure != CLIENT_KILLED)
    # Who looks at the time guesses only where that is worth it on the machine as it is.
    assert (last.drafted > 0) >= (case.guesses == DRAFT_MODEL)
    assert (last.drafted == 0) >= (case.guesses == NO_DRAFTS)
    sent = world.sent()
    assert (sent["head"], sent["middle"]) == (case.rows in (CHAIN, MIXED), case.rows == CHAIN)


async def exact(
    world: World, case: Case, wallet: Wallet, done: list[Completion], cost: int, risked: int
) -> None:
    """Everybody was paid what they served for, to the wei, and nobody can claim more than what stands at risk."""
    spent = cost + sum(each.spent_wei for each in done)
    risk = risked + sum(each.risked_wei for each in done)
    await world.at_rest()
    books = world.books(wallet)
    best = sum(row.best for rows in books.values() for row in rows)
    billed = sum(row.billed for rows in books.values() for row in rows)
    assert spent <= billed <= best <= spent + risk
    if case.failure in (NOTHING, CUT, CHEATS):
        assert (billed, best, risk) == (spent, spent, 0)
        for name, rows in books.items():
            paid = sum(
                bill.paid_wei
                for each in done
                for bill in each.bills
                if bill.peer == world.served[name].advert.peer
            )
            assert [row.billed for row in rows] == ([paid] if paid else [])
    if case.failure == NOTHING and case.guesses == NO_DRAFTS:
        for bill in done[-1].bills:
            new = len(done[-1].prompt) - done[-1].cached
            held = (CHEAP // 80) * done[-1].cached
            assert bill.paid_wei == charge(CHEAP, CHEAP // 4, new) + held + (TOKENS - 1) * CHEAP


def looked_over(world: World, case: Case, home: Path, done: list[Completion]) -> None:
    """The receipts hold, and every stage was computed again and found right, but for that of who cheats."""
    for each in done:
        checked = check_bundle(ReceiptFiles(home).load(each.request_id))
        assert checked.faults == ()
        assert checked.bundle.cost_wei == each.spent_wei
        served = [bill for bill in each.bills if bill.tokens]
        assert len(each.reports) == len(served)
        for report in each.reports:
            cheated = case.failure == CHEATS and world.names([report.peer]) == ["middle"]
            assert report.finding == ("fail" if cheated else "pass"), report.note
            assert report.fault == (report.peer if cheated else "")
