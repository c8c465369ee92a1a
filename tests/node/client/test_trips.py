"""Completions whose windows are in flight: the tokens of the model alone, in fewer trips, whoever fails meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.node.client import patience
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.draft_model import Drafting
from hypercluster.node.client.events import Finished, Token
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.request import Allowance, BadRequest, Request, Sampling, Wishes
from hypercluster.node.evidence.checking import check_bundle
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import open_model
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import StepResult
from tests.node.client.test_mending import PROMPT, World, hang_up_at, honest, world
from tests.node.helpers.providers import Wallet, new_wallet
from tests.node.helpers.random_models import Shape, write_random_model

__all__ = ["honest", "world"]
LONG = 48
PRICE_ONLY = MarketParameters(alpha=1.0, p_ref=1, risk_weight=0.0)
"""where four rows of a window cost no more than one"""
SEEDED = Sampling(temperature=0.8, seed=11)


async def completed(
    world: World,
    wallet: Wallet,
    home: Path,
    *,
    in_flight: int = 8,
    sampling: Sampling | None = None,
    model: bool = True,
    drafting: Drafting | None = None,
    stays: bool = False,
) -> Completion:
    if model and drafting is None:
        drafting = Drafting(stored=world.stored, threads=1)
    asked = Request(prompt=PROMPT, allowance=Allowance(tokens=LONG), sampling=sampling or Sampling())
    async with world.client(
        wallet,
        home,
        drafting=drafting,
        chain=True,
        drafts=8,
        in_flight=in_flight,
        market=PRICE_ONLY,
        stays=stays,
    ) as client:
        with trio.fail_after(300):
            return await client.complete(asked).finished()


def billed(world: World, wallet: Wallet) -> int:
    rows = [row for each in world.served.values() for row in each.ledger.payee.channels()]
    return sum(row.billed for row in rows if row.payer == wallet.sender.address)


@pytest.mark.parametrize("sampling", [Sampling(), SEEDED], ids=["greedy", "seeded"])
async def test_who_is_always_right_has_several_windows_out(
    world: World, tmp_path: Path, sampling: Sampling
) -> None:
    wallet = new_wallet(world.chain)
    done = await completed(world, wallet, tmp_path / "flying", sampling=sampling)
    if sampling.temperature:
        plain = await completed(
            world, new_wallet(world.chain), tmp_path / "plain", sampling=sampling, model=False, in_flight=0
        )
        assert done.tokens == plain.tokens
    else:
        assert done.tokens == world.greedy[:LONG]
        assert done.draft_held == done.drafted > LONG // 2
    assert billed(world, wallet) == done.spent_wei
    assert world.best_vouchers(wallet) <= done.spent_wei + done.risked_wei
    for bill in done.bills:
        assert len(bill.timing.total) < LONG


async def test_whose_guesses_seldom_hold_pays_for_what_had_begun_and_can_show_it(
    world: World, tmp_path: Path
) -> None:
    """Two stages need not have begun the same steps; the receipts fit all the same."""
    shape = Shape(layers=2, n_embd=32, seed=5)
    other = open_model(write_random_model(tmp_path / "other.gguf", shape), tmp_path / "models")
    wallet = new_wallet(world.chain)
    done = await completed(world, wallet, tmp_path, drafting=Drafting(stored=other, threads=1), stays=True)
    assert done.tokens == world.greedy[:LONG]
    assert done.drafted > done.draft_held
    assert billed(world, wallet) == done.spent_wei
    assert world.best_vouchers(wallet) <= done.spent_wei + done.risked_wei
    checked = check_bundle(ReceiptFiles(tmp_path).load(done.request_id))
    assert checked.faults == ()
    assert checked.bundle.cost_wei == done.spent_wei


async def test_the_next_turn_goes_on_over_sessions_that_flew(world: World, tmp_path: Path) -> None:
    wallet = new_wallet(world.chain)
    drafting = Drafting(stored=world.stored, threads=1)
    async with world.client(
        wallet,
        tmp_path,
        drafting=drafting,
        chain=True,
        drafts=8,
        in_flight=8,
        stays=True,
        market=PRICE_ONLY,
    ) as client:
        first = await client.complete(Request(prompt=PROMPT, allowance=Allowance(tokens=LONG - 8))).finished()
        prompt = (*PROMPT, *world.greedy[: LONG - 8])
        second = await client.complete(Request(prompt=prompt, allowance=Allowance(tokens=8))).finished()
    assert (*first.tokens, *second.tokens) == tuple(world.greedy[:LONG])
    assert second.cached == len(PROMPT) + LONG - 9
    assert billed(world, wallet) == first.spent_wei + second.spent_wei


@pytest.mark.parametrize("in_flight", [0, 1, 2, 8])
async def test_n_grams_fly_as_well_and_nothing_changes(world: World, tmp_path: Path, in_flight: int) -> None:
    wallet = new_wallet(world.chain)
    done = await completed(world, wallet, tmp_path, model=False, in_flight=in_flight)
    assert done.tokens == world.greedy[:LONG]
    assert billed(world, wallet) == done.spent_wei


@pytest.mark.parametrize(("name", "at"), [("head", 5), ("middle", 4), ("tail", 6)])
async def test_who_hangs_up_in_flight_is_replaced_and_the_bill_is_exact(
    world: World, tmp_path: Path, name: str, at: int
) -> None:
    world.lies[name].tell = hang_up_at(at)
    wallet = new_wallet(world.chain)
    if name == "head":
        # Nobody else has its layers: the answer ends, and is paid for as far as it came.
        done = await completed_or_not(world, wallet, tmp_path)
        assert done.tokens == world.greedy[: len(done.tokens)]
    else:
        done = await completed(world, wallet, tmp_path)
        assert done.tokens == world.greedy[:LONG]
    assert done.failures == [world.served[name].advert.peer]
    assert done.spent_wei <= billed(world, wallet) <= done.spent_wei + done.risked_wei
    assert world.best_vouchers(wallet) <= done.spent_wei + done.risked_wei


async def completed_or_not(world: World, wallet: Wallet, home: Path) -> Completion:
    async with world.client(
        wallet,
        home,
        drafting=Drafting(stored=world.stored, threads=1),
        chain=True,
        drafts=8,
        in_flight=8,
    ) as client:
        request = Request(prompt=PROMPT, allowance=Allowance(tokens=LONG, patience=1.0))
        async with client.complete(request) as completing:
            with trio.fail_after(300):
                async for event in completing:
                    assert not isinstance(event, Finished) or event.error is not None
        return completing.completion


async def test_who_falls_silent_in_flight_is_replaced(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stays, and no answer comes of it any more."""
    monkeypatch.setattr(patience, "SILENT_SECONDS", 1.0)

    def tell(message: Message, count: int) -> Message | None:
        return None if isinstance(message, StepResult) and count >= 5 else message

    world.lies["middle"].tell = tell
    wallet = new_wallet(world.chain)
    done = await completed(world, wallet, tmp_path)
    assert done.tokens == world.greedy[:LONG]
    assert done.failures == [world.served["middle"].advert.peer]
    assert done.spent_wei <= billed(world, wallet) <= done.spent_wei + done.risked_wei


async def test_who_stops_or_leaves_in_flight_pays_for_what_was_computed(world: World, tmp_path: Path) -> None:
    wallet = new_wallet(world.chain)
    async with world.client(
        wallet,
        tmp_path,
        drafting=Drafting(stored=world.stored, threads=1),
        chain=True,
        drafts=8,
        in_flight=8,
    ) as client:
        request = Request(prompt=PROMPT, allowance=Allowance(tokens=LONG))
        async with client.complete(request) as completing:
            seen = 0
            async for event in completing:
                seen += isinstance(event, Token)
                if seen == 20:
                    break
        done = completing.completion
        assert done.tokens == world.greedy[:20]
        assert billed(world, wallet) == done.spent_wei
        assert world.best_vouchers(wallet) <= done.spent_wei + done.risked_wei
        # What was signed for windows that nobody began pays for the next request, and counts once.
        again = Request(prompt=PROMPT, allowance=Allowance(tokens=8))
        next_one = await client.complete(again).finished()
        day = client.payer.limits.day
    assert billed(world, wallet) == done.spent_wei + next_one.spent_wei
    with open_ledger(Settings(home=tmp_path)) as ledger:
        signed = sum(channel.signed for channel in ledger.payer.channels())
        assert (day.spent_wei, day.reserved_wei, ledger.requests.spent_in(None, None)) == (signed, 0, signed)


@pytest.mark.parametrize("steps", [-1, 9])
def test_no_other_number_of_steps_can_be_in_flight(steps: int) -> None:
    with pytest.raises(BadRequest, match="cannot be in flight"):
        Wishes(in_flight=steps)
