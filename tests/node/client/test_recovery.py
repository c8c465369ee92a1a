"""After kill -9 the ledger says what was spent, to the wei, and the next run goes on over the same channels."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import IncomingChannel, Ledger, Outcome, RequestRow, Role, SessionRecord
from hypercluster.node.client.bookkeeping import RequestBook
from hypercluster.node.client.journal import Journal
from hypercluster.node.client.limits import AUDITS
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.recovery import WHY_INTERRUPTED, Recovery, opened_wallet, recover
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.home.settings import VOUCHERS, Settings
from tests.node.client.test_client import PROMPT, World, honest, world
from tests.node.helpers.providers import Wallet, new_wallet

__all__ = ["honest", "world"]
STEP = 200
"""wei for a token over both hops, and for the prompt"""

CHILD = """
import json, sys
from pathlib import Path
import trio
from eth_account import Account
from hypercluster.market.chain import Chain, Deployment, Sender
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.node.client import Purse, Token, Wishes, joined
from hypercluster.node.client.request import Allowance, Asker, Request
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import open_model

told = json.loads(sys.argv[1])
chain = Chain(told["rpc"], Deployment.load(Path(told["deployment"])))
sender = Sender(chain, Account.from_key(told["wallet"]))
purse = Purse(session_key=bytes.fromhex(told["session"]), wallet=sender.address, unlock=lambda: sender)
settings = Settings(home=Path(told["home"]), bootstrap=(told["bootstrap"],))
stored = open_model(Path(told["model"]), Path(told["home"]) / "models")
# One path, so that all requests draw on the same channels.
wishes = Wishes(market=MarketParameters(alpha=1.0, risk_weight=0.0), only=frozenset(told["path"]))

async def main():
    async with joined(settings, chain, stored, purse, wishes=wishes) as client:
        while len(client.adverts()) < 3:
            await trio.sleep(0.05)

        async def run(number):
            asker = Asker(key_id="k", app="test", endpoint="chat")
            request = Request(prompt=tuple(told["prompt"]), allowance=Allowance(tokens=told["tokens"]), asker=asker)
            async with client.complete(request) as completing:
                async for event in completing:
                    if isinstance(event, Token):
                        print(number, completing.completion.request_id, event.id, flush=True)

        async with trio.open_nursery() as nursery:
            for number in range(told["requests"]):
                nursery.start_soon(run, number)

trio.run(main)
"""


def child_of(
    world: World, wallet: Wallet, home: Path, *, requests: int = 1, tokens: int = 60
) -> subprocess.Popen[str]:
    home.mkdir(exist_ok=True)
    deployment = home / "deployment.json"
    world.chain.deployment.save(deployment)
    told: dict[str, Any] = {
        "rpc": world.chain.url,
        "deployment": str(deployment),
        "wallet": wallet.sender.account.key.hex(),
        "session": wallet.session_key.hex(),
        "home": str(home),
        "bootstrap": world.whole.address,
        "path": [world.head.advert.peer, world.tail.advert.peer],
        "model": str(world.stored.source),
        "prompt": PROMPT,
        "tokens": tokens,
        "requests": requests,
    }
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(told)], stdout=subprocess.PIPE, text=True
    )


def books_of(world: World, wallet: Wallet) -> dict[bytes, IncomingChannel]:
    """What the providers hold from a wallet, by channel."""
    rows = [row for each in (world.head, world.tail, world.whole) for row in each.ledger.payee.channels()]
    return {row.channel_id: row for row in rows if row.payer == wallet.sender.address}


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 7, 30])
async def test_kill_9_in_mid_stream_costs_what_the_ledger_says_and_nothing_twice(
    world: World, tmp_path: Path, after: int
) -> None:
    """Two requests at once on the same channels, killed after so many tokens."""
    wallet, home = new_wallet(world.chain), tmp_path / "home"
    told: dict[str, int] = {}
    with child_of(world, wallet, home, requests=2) as child:
        assert child.stdout is not None
        if not after:  # as soon as a voucher is out
            while not (home / VOUCHERS).exists() or not (home / VOUCHERS).stat().st_size:
                await trio.sleep(0.005)
        else:
            for line in child.stdout:
                _, request_id, _ = line.split()
                told[request_id] = told.get(request_id, 0) + 1
                if sum(told.values()) >= after:
                    break
        child.send_signal(signal.SIGKILL)
        for line in child.stdout:
            if line.count(" ") == 2 and line.endswith("\n"):
                told[line.split()[1]] = told.get(line.split()[1], 0) + 1
    assert child.returncode == -signal.SIGKILL
    await trio.sleep(0.3)  # steps that were under way at the providers
    left = (home / VOUCHERS).read_bytes()
    with taken_up(world, wallet, home) as (ledger, rows):
        before = [(row.request_id, row.cost, row.risked) for row in rows]
        spent = {row.channel_id: (row.signed, row.spent) for row in ledger.payer.channels()}
    # Killed once more, in the middle of that: it is done again.
    (home / VOUCHERS).write_bytes(left)
    with taken_up(world, wallet, home) as (ledger, rows):
        assert [(row.request_id, row.cost, row.risked) for row in rows] == before
        assert {row.channel_id: (row.signed, row.spent) for row in ledger.payer.channels()} == spent
        for row in rows:
            assert (row.outcome, row.error) == (Outcome.INTERRUPTED, WHY_INTERRUPTED)
            assert row.ended is not None
            assert row.cost >= STEP * told.get(row.request_id, 0)
        cost, risked = sum(row.cost for row in rows), sum(row.risked for row in rows)
        held = books_of(world, wallet)
        assert cost <= sum(each.billed for each in held.values()) <= cost + risked
        for channel in ledger.payer.channels():
            theirs = held.get(channel.channel_id)
            best = theirs.best if theirs else 0
            # What is signed is written down before it leaves.
            assert best <= channel.signed <= best + 2 * STEP
        assert sum(channel.spent for channel in ledger.payer.channels()) == cost
        assert ledger.requests.spent_in("k", None) == cost + risked
        for row in rows:
            assert sum(int(hop["cost_wei"]) for hop in row.path) == row.cost
            detail = ledger.requests.one(row.request_id)
            assert detail is not None
            assert sum(hop.billed for hop in detail.hops) == row.cost
            assert all(hop.outcome == "interrupted" and hop.ended for hop in detail.hops)
    assert (home / VOUCHERS).stat().st_size == 0
    async with world.client(wallet, home) as client:
        with trio.fail_after(300):
            wishes = Wishes(only=frozenset({world.head.advert.peer, world.tail.advert.peer}))
            request = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=6), wishes=wishes)
            done = await client.complete(request).finished()
        assert done.tokens == world.greedy[:6]
        if after:
            assert done.bill.deposited_wei == 0, "the channels of before are used again"
        held = books_of(world, wallet)
        with Ledger(home / "ledger.sqlite") as ledger:
            ours = {each.channel_id: each for each in ledger.payer.channels()}
        for channel_id, theirs in held.items():
            assert ours[channel_id].spent == theirs.billed
            assert ours[channel_id].signed == theirs.best
        billed = sum(each.billed for each in held.values())
        assert cost + done.spent_wei <= billed <= cost + risked + done.spent_wei


@pytest.mark.parametrize("paid", [True, False])
def test_audits_that_a_kill_cut_off_are_left_for_a_watch(tmp_path: Path, paid: bool) -> None:
    journal = Journal(tmp_path / VOUCHERS)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.requests.add(RequestRow(request_id="aa", endpoint="cli", model_id="m"))
        ledger.requests.finish("aa", Outcome.STOP, cost=100, audits_open=2, audit_cost=7)
        journal.begun("aa" + AUDITS)
        if paid:  # the first of them, that the row knows of, and one under way
            journal.signed(bytes(32), "aa" + AUDITS, 7, 7)
            journal.answered(bytes(32), "aa" + AUDITS, 7, 7)
            journal.signed(bytes(32), "aa" + AUDITS, 5, 12)
        for _ in range(2):
            assert recover(ledger, journal) == Recovery()
            found = ledger.requests.one("aa")
            assert found is not None
            assert (found.row.outcome, found.row.cost, found.row.audits_open) == ("stop", 100, 2)
            # What was signed for and never answered is no cost: the next audit signs for the same wei.
            assert (found.row.audit_cost, found.row.risked) == (7, 5 if paid else 0)
        assert [row.request_id for row in ledger.requests.unaudited()] == ["aa"]
        assert ledger.requests.give_up_audits(datetime.now(UTC) - timedelta(hours=1)) == 0
        assert ledger.requests.give_up_audits(datetime.now(UTC)) == 1
        assert ledger.requests.unaudited() == []
    journal.close()


async def test_audits_that_are_cut_off_again_and_again_cost_all_that_was_paid_for_them(
    chain: Chain, tmp_path: Path
) -> None:
    """A watch goes on where a client was killed, and is killed as well: what both paid for counts, and once."""
    wallet, settings = new_wallet(chain), Settings(home=tmp_path)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.requests.add(RequestRow(request_id="aa", endpoint="cli", model_id="m"))
        path = [{"risked_wei": "3"}]
        ledger.requests.finish("aa", Outcome.STOP, cost=100, risked=3, covered=2, path=path, audits_open=4)
    costs = []
    for run in range(3):
        with opened_wallet(settings, chain, wallet.purse) as opened:
            found = opened.ledger.requests.one("aa")
            assert found is not None
            costs.append((found.row.audit_cost, found.row.risked, found.row.covered))
            records = RequestBook(opened.ledger, opened.payer, ReceiptFiles(tmp_path))
            for _ in range(2):  # a look that came to nothing, and one more in the same run
                row = found.row
                records.auditing("aa", row.audit_cost, row.risked - 3, row.covered)
        journal = Journal(tmp_path / VOUCHERS)
        left = bytes([run + 1]) * 32
        journal.signed(left, "aa" + AUDITS, 7, 7)
        journal.covered(left, "aa" + AUDITS, 4)
        journal.answered(left, "aa" + AUDITS, 7, 7)
        journal.signed(left, "aa" + AUDITS, 5, 12)  # and killed
        journal.close()
    assert costs == [(0, 3, 2), (7, 8, 6), (14, 13, 10)]


def test_a_kill_between_the_start_of_audits_and_the_end_of_their_request_interrupts_one_request(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / VOUCHERS)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.requests.add(RequestRow(request_id="aa", endpoint="cli", model_id="m"))
        journal.begun("aa")
        journal.signed(bytes([1]) * 32, "aa", 7, 7)
        journal.answered(bytes([1]) * 32, "aa", 7, 7)
        journal.begun("aa" + AUDITS)
        assert recover(ledger, journal) == Recovery(1, 7, 0)
        assert recover(ledger, journal) == Recovery()
        found = ledger.requests.one("aa")
        assert found is not None
        assert (found.row.outcome, found.row.cost, found.row.audit_cost) == ("interrupted", 7, 0)
    journal.close()


def test_two_sessions_of_a_request_over_one_channel_share_what_was_paid_on_it(tmp_path: Path) -> None:
    """A hop stays on the path when another one is replaced: it has a second session then, on the same channel."""
    journal = Journal(tmp_path / VOUCHERS)
    channel_id, elsewhere = bytes(32), bytes([1]) * 32

    def session(number: int, channel_id: bytes, billed: int) -> SessionRecord:
        return SessionRecord(
            session_id=bytes([number]) * 16,
            peer="peer",
            layer_start=0,
            layer_stop=4,
            role=Role.CLIENT,
            model_id="m",
            channel_id=channel_id,
            price_wei=1,
            prompt_price_wei=1,
            billed=billed,
            started=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
            request_id="aa",
        )

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.requests.add(RequestRow(request_id="aa", endpoint="cli", model_id="m"))
        ledger.history.save_sessions(
            [session(1, channel_id, 15), session(2, channel_id, 0), session(3, elsewhere, 0)]
        )
        journal.begun("aa")
        for channel, amount in ((channel_id, 15), (channel_id, 40), (elsewhere, 8)):
            journal.signed(channel, "aa", amount, amount)
            journal.answered(channel, "aa", amount, amount)
        journal.signed(channel_id, "aa", 3, 58)
        assert recover(ledger, journal) == Recovery(1, 63, 3)
        found = ledger.requests.one("aa")
        assert found is not None
        assert [hop.billed for hop in found.hops] == [15, 40, 8]
        assert [hop["cost_wei"] for hop in found.row.path] == ["15", "40", "8"]
        assert [hop["risked_wei"] for hop in found.row.path] == ["0", "3", "0"]
    journal.close()


@contextmanager
def taken_up(world: World, wallet: Wallet, home: Path) -> Iterator[tuple[Ledger, list[RequestRow]]]:
    """A start that takes up what was left: the ledger and its requests afterwards."""
    settings = Settings(home=home, bootstrap=(world.whole.address,))
    with opened_wallet(settings, world.chain, wallet.purse) as opened:
        yield opened.ledger, opened.ledger.requests.latest()
