"""Who waits for sessions: in turn, fairly between keys, never more than there is room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.market.economics.graph import node_of
from hypercluster.market.economics.routing import Path
from hypercluster.node.client.line import OVERTAKEN, Line, Place, QueueFull
from hypercluster.node.client.needs import AllBusy
from hypercluster.node.client.vacancies import Vacancies
from tests.node.helpers.offers import advert_of

KEY = b"\x01" * 32
PATH = Path(nodes=(node_of(advert_of(KEY)),), weight=1.0, price_wei=1, prompt_price_wei=1, ms=1.0)


class Sessions:
    """`free` sessions of one provider; whoever finds one has it, and `served` tells in which order."""

    def __init__(self, free: int = 0, most: int = 256) -> None:
        self.free = free
        self.vacancies = Vacancies()
        self.line = Line(self.vacancies, most)
        self.served: list[str] = []

    def stand(self, key: str, name: str, size: int = 1, first: bool = False) -> Place:
        async def find() -> Path:
            if self.free < size:
                raise AllBusy("All are taken.")
            self.free -= size
            self.served.append(name)
            return PATH

        return self.line.join(key, find, first=first)

    def end(self, count: int = 1) -> None:
        self.free += count
        self.vacancies.wake()


async def all_served(sessions: Sessions, places: Sequence[Place], each: int = 1) -> list[str]:
    """Let one session end after the other until everybody was served."""
    async with trio.open_nursery() as nursery:
        for place in places:
            nursery.start_soon(sessions.line.wait, place, 60)
        while len(sessions.line):
            before = len(sessions.served)
            sessions.end(each)
            while len(sessions.served) == before:
                await trio.sleep(0)
    return sessions.served


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40))
def test_keys_take_turns_and_of_one_key_the_first_comes_first(keys: list[str]) -> None:
    """However many requests a key has in line: at any moment each waiting key was served as often as any other, or
    once less."""

    async def main() -> None:
        sessions = Sessions()
        places = [sessions.stand(key, f"{key}{number}") for number, key in enumerate(keys)]
        served = await all_served(sessions, places)
        assert sorted(served) == sorted(f"{key}{number}" for number, key in enumerate(keys))
        waiting, count = Counter(keys), Counter[str]()
        for name in served:
            count[name[0]] += 1
            waiting[name[0]] -= 1
            most = max(count.values())
            assert all(count[key] >= most - 1 for key, left in waiting.items() if left)
        for key in set(keys):
            mine = [int(name[1:]) for name in served if name[0] == key]
            assert mine == sorted(mine)

    trio.run(main)


async def test_who_lost_a_path_in_mid_answer_goes_first() -> None:
    sessions = Sessions()
    places = [sessions.stand("a", "new"), sessions.stand("b", "broken", first=True)]
    assert sessions.line.position(places[1]) == 1
    assert await all_served(sessions, places) == ["broken", "new"]


async def test_who_needs_more_than_is_free_is_gone_around_but_not_for_ever() -> None:
    sessions = Sessions()
    big = sessions.stand("a", "big", size=2)
    small = [sessions.stand("b", f"small{number}") for number in range(OVERTAKEN + 8)]
    async with trio.open_nursery() as nursery:
        for place in (big, *small):
            nursery.start_soon(sessions.line.wait, place, 60)
        for _ in range(OVERTAKEN):
            before = len(sessions.served)
            sessions.end()
            while len(sessions.served) == before:
                await trio.sleep(0)
        sessions.end()
        await trio.testing.wait_all_tasks_blocked()
        assert "big" not in sessions.served
        sessions.end()
        while "big" not in sessions.served:
            await trio.sleep(0)
        assert sessions.served[OVERTAKEN] == "big"
        sessions.end(100)


async def test_who_leaves_leaves_nothing_behind() -> None:
    sessions = Sessions()
    first, second = sessions.stand("a", "first"), sessions.stand("a", "second")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.line.wait, first, 60)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    sessions.line.leave(first)
    assert sessions.line.position(second) == 1
    assert await all_served(sessions, [second]) == ["second"]
    assert len(sessions.line) == 0
    assert sessions.vacancies.paths == 1


async def test_a_full_line_refuses_who_crowds_it_and_makes_room_for_others() -> None:
    sessions = Sessions(most=4)
    crowd = [sessions.stand("a", f"a{number}") for number in range(4)]
    with pytest.raises(QueueFull) as refused:
        sessions.stand("a", "a4")
    assert refused.value.retry_after >= 1
    other = sessions.stand("b", "b0")
    assert len(sessions.line) == 4
    assert await sessions.line.wait(crowd[3], 60)
    assert isinstance(crowd[3].error, QueueFull)
    assert await all_served(sessions, [*crowd[:3], other]) == ["a0", "b0", "a1", "a2"]


async def test_a_request_with_trouble_of_its_own_holds_nobody_up() -> None:
    sessions = Sessions(free=1)

    async def find() -> Path:
        from hypercluster.node.client.needs import NoRoute

        raise NoRoute("Nobody serves it.")

    stuck = sessions.line.join("a", find)
    assert await sessions.line.wait(sessions.stand("b", "next"), 60)
    assert "Nobody" in str(stuck.error)


async def test_sessions_are_counted_from_the_advert_on() -> None:
    vacancies = Vacancies()
    offer = advert_of(KEY, capacity=4, free=4, sequence=1)
    path = Path(nodes=(node_of(offer),), weight=1.0, price_wei=1, prompt_price_wei=1, ms=1.0)
    assert vacancies.free(offer) == 4
    for _ in range(4):
        vacancies.take(path)
    assert vacancies.free(offer) == 0
    vacancies.give_back(path, 1.0)
    assert vacancies.free(offer) == 1
    # The next advert knows of the three that are left; what ends after it is free again.
    later = advert_of(KEY, capacity=4, free=1, sequence=2)
    assert vacancies.free(later) == 1
    vacancies.give_back(path, 1.0)
    assert vacancies.free(later) == 2


async def test_who_was_full_is_left_alone_for_a_while_and_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    vacancies = Vacancies()
    offer = advert_of(KEY, capacity=4, free=4, sequence=1)
    path = Path(nodes=(node_of(offer),), weight=1.0, price_wei=1, prompt_price_wei=1, ms=1.0)
    for rest in (0.5, 1.0, 2.0):
        assert vacancies.free(offer) > 0
        vacancies.take(path)
        vacancies.full(offer)
        vacancies.give_back(path, 0.0)
        assert vacancies.free(offer) == 0
        await trio.sleep(rest - 0.01)
        assert vacancies.free(offer) == 0
        await trio.sleep(0.02)
        assert vacancies.free(offer) == 1
    vacancies.take(path)
    vacancies.accepted(path.ids)
    assert vacancies.free(offer) == 0


async def test_who_is_full_is_believed_when_to_come_again(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever waits in vain is told the provider's own time, unless a path of our own is given back before."""
    vacancies = Vacancies()
    line, advert = Line(vacancies), advert_of(KEY, free=1)
    assert line.retry_after() == 1.0
    vacancies.full(advert, 20.0)
    assert line.retry_after() == 20.0
    await trio.sleep(5.0)
    assert vacancies.free(advert) == 0
    assert line.retry_after() == 15.0
    # It is asked again before, since it may have changed its mind.
    await trio.sleep(4.0)
    assert vacancies.free(advert) == 1
    vacancies.take(PATH)
    assert line.retry_after() == 1.0
    vacancies.give_back(PATH, 1.0)
    await trio.sleep(20.0)
    assert line.retry_after() == 1.0
