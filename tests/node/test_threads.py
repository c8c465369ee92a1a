"""Blocking work, futures and groups of exceptions, as the trio loop meets them."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import trio

from hypercluster.node.errors import NodeError, WireError
from hypercluster.node.threads import Threads, completed, first_cause


async def test_a_future_that_another_thread_completes_is_awaited() -> None:
    with ThreadPoolExecutor(1) as pool, trio.fail_after(300):
        assert await completed(pool.submit(lambda: 7)) == 7
        with pytest.raises(WireError, match=r"seq is wrong\."):
            await completed(pool.submit(fail))


def fail() -> None:
    raise WireError("seq", "is wrong")


async def test_a_future_that_is_done_already_is_no_wait() -> None:
    future: Future[int] = Future()
    future.set_result(3)
    with trio.fail_after(300):
        assert await completed(future) == 3


async def test_waiting_for_a_future_can_be_given_up_and_the_future_completes_later() -> None:
    future: Future[int] = Future()
    with trio.move_on_after(0.01) as scope:
        await completed(future)
    assert scope.cancelled_caught
    future.set_result(1)


def test_a_future_may_complete_when_the_loop_has_ended() -> None:
    future: Future[int] = Future()

    async def wait() -> None:
        with trio.move_on_after(0.01):
            await completed(future)

    trio.run(wait)
    future.set_result(1)


async def test_there_are_never_more_threads_than_allowed() -> None:
    threads, lock, busy, most = Threads(2), threading.Lock(), 0, 0

    def work(number: int, *, twice: int) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        pause.wait(0.02)
        with lock:
            busy -= 1
        done.append(number * twice)

    pause, done = threading.Event(), list[int]()
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(lambda number=number: threads(work, number, twice=2))
    assert most == 2
    assert sorted(done) == [2 * number for number in range(8)]


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_thread_that_hangs_is_waited_for_unless_it_may_be_left_alone(abandon: bool) -> None:
    release, ended = threading.Event(), threading.Event()
    threads = Threads(1, abandon=abandon)

    def hang() -> None:
        release.wait(10)
        ended.set()

    with trio.move_on_after(0.05) as scope:
        if not abandon:
            threading.Timer(0.2, release.set).start()
        await threads(hang)
    assert ended.is_set() is not abandon
    assert scope.cancelled_caught is abandon
    release.set()
    assert await trio.to_thread.run_sync(ended.wait, 10)


def test_the_cause_of_a_group_is_what_it_came_of_not_what_that_brought_down() -> None:
    cause = NodeError("The provider hung up.")
    group = BaseExceptionGroup(
        "", [trio.BrokenResourceError(), BaseExceptionGroup("", [KeyError("x"), cause])]
    )
    assert first_cause(group, NodeError) is cause
    assert isinstance(first_cause(group), trio.BrokenResourceError)
    assert isinstance(first_cause(group, ZeroDivisionError), trio.BrokenResourceError)
    assert first_cause(cause, NodeError) is cause
