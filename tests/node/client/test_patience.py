"""How long is waited for a provider: never longer than for long where others serve, and never cut off where none do."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hypercluster.node.client.pace import MOST_GROWTH, MOST_SECONDS, OPEN_SECONDS, SLACK_SECONDS, Pace
from hypercluster.node.client.patience import KNOWN_STEPS, SILENT_SECONDS, Leash, Patience, TooSlow
from tests.node.helpers.offers import advert_of

KEY = b"\x01" * 32
FAST = advert_of(KEY, cost_ms=1.0, prompt_ms=0.5)


async def waited(patience: Patience, leash: Leash, rows: int, seconds: float) -> float:
    """Wait for a step that is answered after so many seconds; returns after how many it ended."""
    began = trio.current_time()
    with leash.step(rows):
        await trio.sleep(seconds)
    return trio.current_time() - began


async def test_who_never_answers_is_left_after_its_time_where_somebody_else_serves(
    autojump_clock: MockClock,
) -> None:
    patience, pace = Patience(), Pace()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patience.watch)
        leash = Leash(pace, patience, FAST, lambda: True)
        began = trio.current_time()
        with pytest.raises(TooSlow) as slow:
            await waited(patience, leash, 4, 10_000.0)
        assert SLACK_SECONDS <= trio.current_time() - began < SLACK_SECONDS + 1
        assert slow.value.seconds == pytest.approx(trio.current_time() - began)
        with pytest.raises(TooSlow), leash.opening():
            await trio.sleep(10_000.0)
        nursery.cancel_scope.cancel()


async def test_an_honest_machine_that_is_slow_is_waited_for_where_nobody_else_serves(
    autojump_clock: MockClock,
) -> None:
    patience, others = Patience(), False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patience.watch)
        leash = Leash(Pace(), patience, FAST, lambda: others)
        assert await waited(patience, leash, 1, 100.0) == pytest.approx(100.0)
        # As soon as there is somebody, it is not waited for any more.
        others = True
        with pytest.raises(TooSlow):
            await waited(patience, leash, 1, 100.0)
        nursery.cancel_scope.cancel()


async def test_what_is_advertised_and_what_was_measured_set_the_time() -> None:
    pace = Pace()
    slow = advert_of(KEY, cost_ms=2_000.0, prompt_ms=500.0)
    assert pace.seconds_for(slow, 64) > 64 * 0.5 * 5
    assert pace.seconds_for(slow, 1) > 2 * 5
    pace.served(slow.peer, token_ms=100.0, row_ms=None)
    assert pace.seconds_for(slow, 1) < SLACK_SECONDS + 1
    assert pace.seconds_for(slow, 64) > 64 * 0.5 * 5
    # Whatever somebody advertises, it has an end.
    assert pace.seconds_for(advert_of(b"\x02" * 32, cost_ms=1e9), 1) == MOST_SECONDS


async def test_a_limit_that_was_too_short_grows_until_the_machine_serves() -> None:
    pace = Pace()
    limits = []
    for _ in range(4):
        limits.append(pace.seconds_for(FAST, 1))
        pace.cut_off(FAST.peer)
    assert limits[1] == 2 * limits[0]
    assert limits[2] == limits[3] == MOST_GROWTH * limits[0]
    assert pace.seconds_to_open(FAST.peer) == MOST_GROWTH * OPEN_SECONDS
    pace.served(FAST.peer, 1.0, None)
    assert pace.seconds_for(FAST, 1) == pytest.approx(limits[0])


async def test_one_token_a_minute_is_no_pace_and_a_moment_of_load_is_nothing(
    autojump_clock: MockClock,
) -> None:
    """Who is late each time has used up its slack soon; who is late by less than a second never does."""
    patience = Patience()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patience.watch)
        steady = Leash(Pace(), patience, FAST, lambda: True)
        for _ in range(200):
            await waited(patience, steady, 1, 0.9)
        assert steady.seconds_for(1) >= SLACK_SECONDS
        loaded = Leash(Pace(), patience, FAST, lambda: True)
        await waited(patience, loaded, 1, 8.0)
        await waited(patience, loaded, 1, 0.01)
        dripping = Leash(Pace(), patience, FAST, lambda: True)
        await waited(patience, dripping, 1, 9.0)
        with pytest.raises(TooSlow):
            await waited(patience, dripping, 1, 9.0)
        nursery.cancel_scope.cancel()


async def test_a_silence_in_the_middle_is_as_long_as_the_session_was_fast(autojump_clock: MockClock) -> None:
    """Who answered in milliseconds is left after seconds; who took a second is waited for as before."""
    patience = Patience()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patience.watch)
        for took, most in ((0.02, SILENT_SECONDS + 1), (0.12, 7.0), (0.8, SLACK_SECONDS + 1)):
            leash = Leash(Pace(), patience, FAST, lambda: True)
            for _ in range(KNOWN_STEPS):
                await waited(patience, leash, 1, took)
            began = trio.current_time()
            with pytest.raises(TooSlow):
                await waited(patience, leash, 1, 10_000.0)
            assert most - 2 < trio.current_time() - began < most
            # The next prompt may take its time all the same.
            assert leash.seconds_for(64) > SLACK_SECONDS
        nursery.cancel_scope.cancel()


async def test_who_says_that_it_is_slow_and_is_not_is_left_by_what_it_took(
    autojump_clock: MockClock,
) -> None:
    """As a machine that measured itself, or was measured, while others had it: 6 s a token, and then ten a second."""
    patience, pace = Patience(), Pace()
    loaded = advert_of(KEY, cost_ms=6_000.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(patience.watch)
        for measured in (False, True):
            if measured:
                pace.served(loaded.peer, 6_000.0, None)
            leash = Leash(pace, patience, loaded, lambda: True)
            assert leash.seconds_for(1) > 40
            for _ in range(KNOWN_STEPS):
                await waited(patience, leash, 1, 0.1)
            began = trio.current_time()
            with pytest.raises(TooSlow):
                await waited(patience, leash, 1, 10_000.0)
            assert trio.current_time() - began < 7
            # It may be as slow as it says all the same, next time.
            pace.served(loaded.peer, None, None)
            assert Leash(pace, patience, loaded).seconds_for(1) > 40
        nursery.cancel_scope.cancel()


async def test_a_session_cannot_make_its_own_limits_longer(autojump_clock: MockClock) -> None:
    patience, pace = Patience(), Pace()
    leash = Leash(pace, patience, FAST)
    before = leash.seconds_for(1)
    await waited(patience, leash, 1, 9.0)
    assert leash.seconds_for(1) < before
    leash.served()
    assert Leash(pace, patience, FAST).seconds_for(1) > before
