"""Windows of guessed tokens in flight: the same tokens and exact bills, whatever the guesses and whoever fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from hypercluster.market.errors import Overbilled
from hypercluster.market.money.budget import Budget
from hypercluster.market.money.channel import PayerChannel
from hypercluster.market.money.voucher import charge
from hypercluster.market.trust.receipt import Finding
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client import flying, stepping
from hypercluster.node.client.blame import Then, judge, seen_in
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.flight import Flight
from hypercluster.node.client.limits import Spending
from hypercluster.node.client.pipeline import Pipeline
from hypercluster.node.provider import awaiting
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.replayer import Replayer
from tests.node.client.test_chaining import (
    CUT,
    FROZEN,
    PROMPT,
    World,
    go_on,
    honest,
    linked,
    world,
)
from tests.node.helpers.providers import FREE, PRICE, PROMPT_PRICE, new_wallet

__all__ = ["honest", "world"]
WINDOW = 2
Guess = Callable[[int], int]


class Pilot:
    """Flies over a path with the guesses of a test: `guess` makes that for the token of each number."""

    def __init__(
        self,
        world: World,
        pipeline: Pipeline,
        taken: list[int],
        guess: Guess,
        spending: Spending = FREE,
        most_wei: int | None = None,
    ) -> None:
        self.flight = Flight(pipeline, spending, 8, most_wei)
        self.pipeline, self.taken, self.guess = pipeline, taken, guess
        self.most = 0
        """windows that were in flight at the same time"""

    async def fill(self, flight: Flight) -> None:
        while flight.takes(WINDOW):
            at = len(self.taken) - 1 + flight.rows
            await flight.follow([self.guess(each) for each in range(at, at + WINDOW)])
            self.most = max(self.most, len(flight.windows))

    async def fly(self, tokens: int) -> None:
        flight, taken = self.flight, self.taken
        while len(taken) < tokens:
            if not flight.windows:
                position = len(PROMPT) + len(taken) - 1
                await flight.begin(position, [taken[-1], self.guess(len(taken))])
            window = flight.windows[0]
            best = await flight.land(self.fill)
            if best is None:
                taken.append(int((await self.pipeline.run(taken[-1:])).ids[0, 0]))
                return
            following = [*window.tokens[1:], *(flight.windows[0].tokens[:1] if flight.windows else ())]
            for row, token in enumerate(int(each) for each in best.ids[:, 0]):
                taken.append(token)
                if row == len(following):
                    break
                if token != following[row]:
                    await flight.discard()
                    break


def exact(world: World, pipeline: Pipeline) -> None:
    """What the client knows to have paid is what each provider billed, and what it signed for beyond that is known."""
    for served, hop in zip(world.path, pipeline.hops, strict=True):
        row = served.row(hop.account)
        assert row.billed == hop.paid_wei == hop.account.channel.spent
        assert row.best <= hop.account.channel.signed == hop.paid_wei + hop.at_risk_wei
        assert not hop.account.channel.in_flight


def right(world: World) -> Guess:
    return lambda at: world.greedy[at % len(world.greedy)]


def wrong_at(world: World, every: int) -> Guess:
    """Wrong in the last of so many."""
    return lambda at: (right(world)(at) + 1) % 300 if at % every == every - 1 else right(world)(at)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 100])
async def test_the_tokens_are_the_same_however_many_guesses_hold(
    world: World, tmp_path: Path, every: int
) -> None:
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        pilot = Pilot(world, pipeline, taken, wrong_at(world, every))
        await pilot.fly(40)
        await pilot.flight.end()
        exact(world, pipeline)
        # Alone it goes on from there.
        pipeline.rewind(len(PROMPT) + len(taken) - 1)
        await go_on(pipeline, taken, len(taken) + 3)
        assert all(hop.forwards for hop in pipeline.hops[:-1])
        assert pilot.most > 2
        if every == 100:
            assert len(pipeline.hops[-1].timing.total) < len(taken)
    assert taken == world.greedy[: len(taken)]
    for served, hop in zip(world.path, pipeline.hops, strict=True):
        assert served.row(hop.account).billed == hop.paid_wei


async def test_what_was_dropped_costs_nothing_and_what_was_signed_for_it_pays_for_others(
    world: World, tmp_path: Path
) -> None:
    """A bound to the wei: the flight, what is in the air included, never sets more aside than there is."""
    budget = Budget("limit of this test", 400 * PRICE)
    spending = Spending("", [budget])
    async with world.opened(new_wallet(world.chain), tmp_path, spending=spending) as (_, pipeline):
        taken = await linked(pipeline)
        pilot = Pilot(world, pipeline, taken, wrong_at(world, 3), spending)
        await pilot.fly(30)
        await pilot.flight.end()
        paid = sum(hop.paid_wei for hop in pipeline.hops)
        risked = sum(hop.at_risk_wei for hop in pipeline.hops)
        assert (budget.spent_wei, budget.reserved_wei) == (paid, risked)
        # As many windows as may be in flight, of which some of each hop's have begun.
        assert risked <= 8 * len(pipeline.hops) * charge(PRICE, PROMPT_PRICE, WINDOW)
    assert (budget.spent_wei, budget.reserved_wei) == (paid + risked, 0)
    exact(world, pipeline)
    for hop in pipeline.hops:
        assert hop.tokens < len(PROMPT) + 8 * WINDOW * len(taken)


async def test_nothing_flies_that_a_budget_does_not_hold(world: World, tmp_path: Path) -> None:
    budget = Budget("limit of this test", 60 * PRICE)
    spending = Spending("", [budget])
    async with world.opened(new_wallet(world.chain), tmp_path, spending=spending) as (_, pipeline):
        taken = await linked(pipeline)
        budget.limit_wei = budget.spent_wei + 9 * PRICE
        pilot = Pilot(world, pipeline, taken, right(world), spending)
        await pilot.fly(len(taken) + 1)
        assert pilot.most == 3
        await pilot.flight.end()
    assert budget.spent_wei <= (budget.limit_wei or 0)
    exact(world, pipeline)


@pytest.mark.parametrize(("steps", "most"), [(0, 1), (2, 2), (4, 4)])
async def test_no_more_is_signed_ahead_than_the_wallet_lets(
    world: World, tmp_path: Path, steps: int, most: int
) -> None:
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        limit = steps * len(pipeline.hops) * PRICE
        pilot = Pilot(world, pipeline, taken, wrong_at(world, 5), most_wei=limit)
        await pilot.fly(len(taken) + 10)
        assert max(1, pilot.most) == most
        await pilot.flight.end()
    assert taken == world.greedy[: len(taken)]
    exact(world, pipeline)


async def test_what_flew_is_judged_as_it_was_computed(world: World, tmp_path: Path) -> None:
    """What was forgotten too: each provider's transcript is one chain of receipts, and right."""
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        pilot = Pilot(world, pipeline, taken, wrong_at(world, 4))
        await pilot.fly(30)
        await pilot.flight.end()
        records = [hop.record for hop in pipeline.hops]
    replayer = Replayer(world.stored, calibrate(world.stored, texts=1, tokens=40), threads=1)
    for served, hop, record in zip(world.path, pipeline.hops, records, strict=True):
        transcript = served.provider.transcripts.load(record.stage.struct_hash())
        receipts = transcript.receipts(world.chain.disputes.domain)
        assert receipts[-1][0] == hop.receipts.last
        assert transcript.tokens == hop.tokens
        assert replayer.judge(transcript).finding is Finding.PASS
    replayer.close()


@pytest.mark.parametrize("mood", ["forward-wrong", "replay-old-rows", "stall", CUT])
async def test_a_link_that_gets_bad_in_flight_is_relayed(
    world: World, tmp_path: Path, mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "LEAST_SECONDS", 0.5)
    async with world.opened(new_wallet(world.chain), tmp_path) as (opener, pipeline):
        taken = await linked(pipeline)
        pilot = Pilot(world, pipeline, taken, right(world))
        await pilot.fly(len(taken) + 6)
        world.moods.append(mood)
        await pilot.fly(200)
        assert not pilot.flight.may
        assert [hop.forwards for hop in pipeline.hops[:-1]] == [False, True]
        pipeline.rewind(len(PROMPT) + len(taken) - 1)
        await go_on(pipeline, taken, len(taken) + 3)
        await pilot.flight.end()
        adverts = [served.advert for served in world.path]
        assert [joint.before for joint in opener.links.joints(adverts)] == [adverts[1]]
    assert taken == world.greedy[: len(taken)]
    exact(world, pipeline)


async def test_who_withholds_rows_in_flight_and_shows_none_is_left(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paid for the windows that it computed, and asked for the last of them; nobody else risks anything."""
    monkeypatch.setattr(awaiting, "LEAST_SECONDS", 0.5)
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        pilot = Pilot(world, pipeline, taken, right(world))
        await pilot.fly(len(taken) + 6)
        world.moods.append("withhold-rows")
        with pytest.raises(HopFailed) as failure:
            await pilot.fly(200)
        assert failure.value.peer == world.path[0].advert.peer
        found = judge(failure.value, absent=False, clock_confirmed=True, tried=0)
        assert (found.then, found.evidence) == (Then.LEAVE, Evidence.REFUSAL)
        sure = len(PROMPT) + len(taken) - 1
        assert all(hop.position <= sure for hop in pipeline.hops)
        assert not any(hop.broken or hop.out for hop in pipeline.hops)
        assert pipeline.held == [*PROMPT, *taken[:-1]]
        await pilot.flight.end()
    assert taken == world.greedy[: len(taken)]
    exact(world, pipeline)


async def test_who_freezes_in_flight_is_left_alone_and_the_others_are_at_rest(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        pilot = Pilot(world, pipeline, taken, right(world))
        await pilot.fly(len(taken) + 6)
        monkeypatch.setattr(stepping, "STEP_SECONDS", 1.0)
        world.moods.append(FROZEN)
        with pytest.raises(HopFailed) as failure:
            await pilot.fly(200)
        assert failure.value.peer == world.path[0].advert.peer
        assert seen_in(failure.value) is Evidence.SILENCE
        assert [hop.broken for hop in pipeline.hops] == [True, False, False]
        sure = len(PROMPT) + len(taken) - 1
        assert all(hop.position <= sure for hop in pipeline.hops)
        assert not any(hop.out for hop in pipeline.hops)
        assert pipeline.hops[0].risked_wei <= 8 * charge(PRICE, PROMPT_PRICE, WINDOW)
        await pilot.flight.end()
    assert taken == world.greedy[: len(taken)]
    for served, hop in zip(world.path[1:], pipeline.hops[1:], strict=True):
        assert served.row(hop.account).billed == hop.paid_wei


async def test_who_leaves_in_flight_risks_what_is_out_and_no_more(world: World, tmp_path: Path) -> None:
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        pilot = Pilot(world, pipeline, taken, right(world))
        await pilot.flight.begin(len(PROMPT) + len(taken) - 1, taken[-1:])
        await pilot.fill(pilot.flight)
        with trio.move_on_after(0):
            await pilot.flight.land(pilot.fill)
        await pilot.flight.end()
        assert not any(hop.broken for hop in pipeline.hops)
        assert pipeline.position == len(pipeline.held)
    exact(world, pipeline)


async def test_a_provider_that_does_not_take_a_step_ends_the_flight(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        pilot = Pilot(world, pipeline, taken, right(world))
        await pilot.fly(len(taken) + 4)
        await pipeline.hops[1]._connection.close()
        monkeypatch.setattr(flying, "SEND_SECONDS", 1.0)
        with pytest.raises(HopFailed) as failure:
            await pilot.fly(200)
        assert failure.value.peer == world.path[1].advert.peer
        assert [hop.broken for hop in pipeline.hops] == [False, True, False]
        await pilot.flight.end()
    assert taken == world.greedy[: len(taken)]


def test_who_bills_what_it_says_that_it_dropped_is_found_out() -> None:
    """As soon as nothing is on its way that it may have told before."""
    channel = PayerChannel(1000)
    for _ in range(3):
        channel.authorise(10)
    channel.acknowledge(10, 10)
    channel.drop(10, 10)
    channel.drop(10, 20)
    # What was signed for them is credit: the next step needs no more.
    assert channel.signed == 30
    assert channel.authorise(20) == 30
    with pytest.raises(Overbilled):
        channel.acknowledge(20, 40)
