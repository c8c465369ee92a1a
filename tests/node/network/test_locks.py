"""Locks that cost no turn of the event loop where nobody holds them."""

from __future__ import annotations

import trio
import trio.testing

from hypercluster.node.network.locks import Lock


async def test_a_free_lock_is_taken_without_a_turn_and_a_held_one_goes_round_in_order() -> None:
    lock, events = Lock(), list[str]()

    async def take(name: str) -> None:
        async with lock:
            events.append(name)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "other")
        async with lock:
            events.append("first")  # the other one had no turn
            await trio.testing.wait_all_tasks_blocked()
            for name in ("second", "third"):
                nursery.start_soon(take, name)
                await trio.testing.wait_all_tasks_blocked()
    assert events == ["first", "other", "second", "third"]


async def test_who_is_cancelled_while_waiting_keeps_nobody_out() -> None:
    lock = Lock()
    async with lock:
        with trio.move_on_after(0.01) as scope:
            async with lock:
                raise AssertionError("two at once")
    assert scope.cancelled_caught
    async with lock:
        pass


async def test_who_fails_inside_leaves_it() -> None:
    lock = Lock()
    for _ in range(2):
        try:
            async with lock:
                raise ValueError
        except ValueError:
            pass
