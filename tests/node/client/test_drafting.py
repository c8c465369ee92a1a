"""Drafts change how many trips an answer takes and what is paid, never what comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.money.voucher import charge
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.drafting import LEAST_WIRE_MS, Drafts
from hypercluster.node.client.request import Allowance, BadRequest, Request, Sampling, Wishes
from tests.node.client.test_client import CHEAP, PROMPT, World, hang_up, honest, world
from tests.node.helpers.providers import new_wallet

__all__ = ["honest", "world"]
PRICE_ONLY = MarketParameters(alpha=1.0, p_ref=1)
TIME_ONLY = MarketParameters(alpha=0.0)
LONG = 40


def drafts(most: int, history: Sequence[int], market: MarketParameters = TIME_ONLY) -> Drafts:
    made = Drafts(most, market)
    made.over(rewinds=True, history=history)
    made.ran(64, 64.0)
    made.ran(1, 10.0)
    return made


def guess(by: Drafts, cost: Callable[[int], int], most: int) -> list[int]:
    return trio.run(by.guess, cost, most)


def free(rows: int) -> int:
    return 1


@given(
    st.lists(st.integers(0, 3), max_size=30),
    st.integers(0, 8),
    st.integers(-1, 8),
)
def test_a_draft_is_what_followed_the_same_tokens_before(history: list[int], most: int, room: int) -> None:
    guessed = guess(drafts(most, history), free, room)
    assert len(guessed) <= max(0, min(most, room))
    if guessed:
        whole = history + guessed
        assert any(
            whole[at : at + len(guessed)] == guessed and whole[at - 2 : at] == history[-2:]
            for at in range(2, len(history))
        )


def trusted(history: Sequence[int], market: MarketParameters = TIME_ONLY) -> Drafts:
    """One whose drafts held so far."""
    known = drafts(8, history, market)
    for _ in range(50):
        assert guess(known, free, 1)
        known.ran(2, 11.0, 1, 1)
    return known


def test_a_loop_is_followed_past_the_end_of_what_is_there() -> None:
    assert guess(trusted([1, 2, 3, 1, 2, 3]), free, 7) == [1, 2, 3, 1, 2, 3, 1]


def test_the_surer_they_are_the_more_are_guessed() -> None:
    assert 0 < len(guess(drafts(8, [1, 2] * 9), free, 8)) < len(guess(trusted([1, 2] * 9), free, 8))


def ahead(by: Drafts, cost: Callable[[int], int], most: int | None = None) -> list[int]:
    window = by.window(cost, 4)
    return trio.run(by.ahead, cost, window, window if most is None else most)


def flown(by: Drafts, cost: Callable[[int], int] = free) -> list[int]:
    """All that is worth having in flight."""
    guessed: list[int] = []
    while len(guessed) < 40 and (more := ahead(by, cost)):
        guessed += more
    return guessed


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=12))
def test_what_is_in_flight_goes_on_where_what_came_before_it_ends(landings: list[tuple[int, bool]]) -> None:
    loop = [1, 2, 3, 4]
    by = trusted(loop * 5)
    assert by.measured
    at = 0
    air = flown(by)
    for held, missed in landings:
        assert air == [loop[(at + each) % 4] for each in range(len(air))]
        held = min(held, len(air) - 1)
        by.landed(held, missed=missed)
        by.came([loop[(at + each) % 4] for each in range(held)])
        at += held
        if missed:
            # Another token came, and the loop begins again with it.
            by.came([9, *loop, *loop])
            at = 0
            air = []
        air = air[held:] + flown(by)
        assert air


def test_the_surer_they_are_the_more_are_in_flight() -> None:
    doubted = drafts(8, [1, 2] * 9)
    sure = trusted([1, 2] * 9)
    assert len(flown(doubted)) < len(flown(sure))


def test_nothing_flies_where_machines_are_what_is_waited_for() -> None:
    far = Drafts(8, TIME_ONLY)
    far.over(rewinds=True, history=[1, 2] * 9)
    assert not far.measured
    far.ran(1, 50.0)
    assert [far.waits(busy) for busy in (0.0, 24.0, 26.0)] == [True, True, False]
    near, unwanted = Drafts(8, TIME_ONLY), Drafts(0, TIME_ONLY)
    for each in (near, unwanted):
        each.over(rewinds=True, history=[1, 2] * 9)
    near.ran(1, LEAST_WIRE_MS)
    unwanted.ran(1, 50.0)
    assert not near.waits(0.0)
    assert not unwanted.waits(0.0)


def test_where_rows_are_paid_in_fours_windows_are_of_four_unless_only_time_counts() -> None:
    def cost(rows: int) -> int:
        return max(4, rows)

    assert trusted([1, 2] * 9, PRICE_ONLY).window(cost, 4) == 4
    assert trusted([1, 2] * 9, TIME_ONLY).window(cost, 4) == 1


def test_nothing_is_guessed_where_nothing_comes_again_or_the_step_before_is_not_known() -> None:
    assert guess(drafts(8, list(range(50))), free, 8) == []
    assert guess(drafts(0, [1, 2] * 9), free, 8) == []
    unmeasured = Drafts(8, TIME_ONLY)
    unmeasured.over(rewinds=True, history=[1, 2] * 9)
    assert guess(unmeasured, free, 8) == []


def test_on_a_path_that_cannot_go_back_nothing_is_guessed_and_on_the_next_that_can_all_is_known() -> None:
    made = Drafts(8, TIME_ONLY)
    made.over(rewinds=False, history=[1, 2] * 8)
    made.ran(1, 10.0)
    assert guess(made, free, 8) == []
    made.came([1, 2])
    made.over(rewinds=True, history=[1, 2] * 9)
    made.ran(1, 10.0)
    assert guess(made, free, 8)[:2] == [1, 2]


def test_who_looks_at_the_price_guesses_as_far_as_rows_cost_nothing_more() -> None:
    def cost(rows: int) -> int:
        return charge(100, 25, rows)

    assert len(guess(drafts(8, [1, 2] * 9, PRICE_ONLY), cost, 8)) == 3
    assert len(guess(trusted([1, 2] * 9, PRICE_ONLY), cost, 8)) == 3
    assert guess(drafts(8, [1, 2] * 9, PRICE_ONLY), lambda rows: rows, 8) == []


def test_drafts_that_never_hold_are_given_up_and_tried_again_later() -> None:
    seen = drafts(8, [1, 2] * 9)
    tries = 0
    while guess(seen, free, 8):
        seen.ran(2, 18.0, 1, 0)
        tries += 1
        assert tries < 50
    later = 0
    while not guess(seen, free, 8):
        later += 1
        assert later < 1000
    assert seen.held == 0


class Stubborn:
    """A drafter that takes its time and always says the same."""

    priors = MappingProxyType({0: 0.5})
    usual = 0.6
    ready = True

    def __init__(self, token: int) -> None:
        self.token, self.asked = token, 0

    def came(self, tokens: Sequence[int]) -> None:
        """Nothing changes its mind."""

    def seen(self) -> None:
        return

    async def next(self, guessed: Sequence[int]) -> tuple[int, int]:
        self.asked += 1
        return self.token, 0

    def close(self) -> None:
        """It holds nothing."""


def followed(by: Drafts, coming: Sequence[int]) -> None:
    """Have these tokens come, as steps with drafts would bring them."""
    at = 0
    while at < len(coming):
        guessed = guess(by, free, min(8, len(coming) - at - 1))
        held = next((n for n, one in enumerate(guessed) if one != coming[at + n]), len(guessed))
        by.ran(1 + len(guessed), 10.0 + len(guessed), len(guessed), held)
        by.came(coming[at : at + held + 1])
        at += held + 1


def with_one(drafter: Stubborn) -> Drafts:
    made = Drafts(8, TIME_ONLY, [drafter])
    made.over(rewinds=True, history=[5, 6])
    made.ran(64, 64.0)
    made.ran(1, 10.0)
    return made


def test_text_that_repeats_is_guessed_from_itself_and_who_is_right_elsewhere_is_asked() -> None:
    looping, steady = Stubborn(9), Stubborn(7)
    loop, same = with_one(looping), with_one(steady)
    followed(loop, [1, 2, 3, 4] * 30)
    wrong = looping.asked
    followed(loop, [1, 2, 3, 4] * 30)
    assert looping.asked == wrong < 40
    assert loop.held > 150
    followed(same, [7] * 60)
    assert steady.asked > 10
    assert same.held > 40


def test_who_is_always_wrong_is_asked_seldom_and_sent_on_no_more() -> None:
    slow = Stubborn(9)
    made = with_one(slow)
    followed(made, list(range(10, 60)))
    asked, tried = slow.asked, made.tried
    followed(made, list(range(60, 100)))
    assert slow.asked - asked < 25
    assert made.tried == tried


async def completed(
    world: World, home: Path, drafts: int, sampling: Sampling, prompt: tuple[int, ...] = tuple(PROMPT)
) -> Completion:
    wallet = new_wallet(world.chain)
    async with world.client(wallet, home) as client:
        done = await client.complete(
            Request(
                prompt=prompt,
                allowance=Allowance(tokens=LONG),
                sampling=sampling,
                wishes=replace(
                    client.wishes,
                    drafts=drafts,
                    in_flight=0,
                    market=TIME_ONLY if not drafts else PRICE_ONLY,
                ),
            )
        ).finished()
    assert world.best_vouchers(wallet) == done.spent_wei + done.risked_wei
    return done


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.2, seed=7), Sampling(presence_penalty=0.5)]
)
async def test_with_drafts_the_same_tokens_come(world: World, tmp_path: Path, sampling: Sampling) -> None:
    without = await completed(world, tmp_path / "without", 0, sampling)
    done = await completed(world, tmp_path / "with", 8, sampling)
    assert done.tokens == without.tokens
    assert (without.drafted, len(done.tokens)) == (0, LONG)


async def test_drafts_that_hold_save_trips_and_are_billed_row_by_row(world: World, tmp_path: Path) -> None:
    told = tuple(PROMPT) + tuple(world.greedy[:LONG])
    done = await completed(world, tmp_path, 8, Sampling(), told + tuple(PROMPT))
    assert done.draft_held
    for bill in done.bills:
        steps = len(bill.timing.total)
        assert steps <= -(-len(done.prompt) // 16) + LONG - done.draft_held
        assert bill.tokens == len(done.prompt) + LONG - 1 + done.drafted - done.draft_held
        assert bill.paid_wei < charge(CHEAP, CHEAP // 4, len(done.prompt)) + (LONG - 1) * CHEAP


async def test_a_provider_lost_amid_drafts_changes_nothing(world: World, tmp_path: Path) -> None:
    world.tail_lies.tell = hang_up
    done = await completed(world, tmp_path, 8, Sampling())
    assert done.tokens == world.greedy[:LONG]
    assert done.failures == [world.tail.advert.peer]


@pytest.mark.parametrize("drafts", [-1, 17])
def test_how_many_may_be_guessed_is_bounded(drafts: int) -> None:
    with pytest.raises(BadRequest, match="to 16 can be"):
        Wishes(drafts=drafts)
