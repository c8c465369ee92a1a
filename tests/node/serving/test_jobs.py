"""Periodic work: again and again, never twice at a time, and alive after failures."""

from __future__ import annotations

import pytest
import trio

from hypercluster.node.serving.jobs import running_jobs


async def reached(event: trio.Event) -> None:
    with trio.fail_after(300):
        await event.wait()


async def test_a_job_runs_again_and_again_and_ends_with_the_block() -> None:
    runs = 0
    third = trio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()

    async with running_jobs() as jobs:
        jobs.every(0.05, "work", work)
        await reached(third)
    after = runs
    await trio.sleep(0.3)
    assert runs == after


async def test_the_first_run_may_come_at_another_time() -> None:
    ran = trio.Event()

    async def work() -> None:
        ran.set()

    async with running_jobs() as jobs:
        jobs.every(3600, "work", work, first_after=0)
        await reached(ran)


async def test_a_job_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0
    recovered = trio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("not now")
        recovered.set()

    async with running_jobs() as jobs:
        jobs.every(0.05, "work", work)
        await reached(recovered)
    assert "work failed and will be tried again: not now" in caplog.text


async def test_a_job_under_way_is_not_started_again_and_others_go_on() -> None:
    running = most = 0
    others = 0
    enough = trio.Event()

    async def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await trio.sleep_forever()
        finally:
            running -= 1

    async def other() -> None:
        nonlocal others
        others += 1
        if others == 5:
            enough.set()

    async with running_jobs() as jobs:
        jobs.every(0.05, "slow", slow, first_after=0)
        jobs.every(0.05, "other", other)
        await reached(enough)
    assert (most, running) == (1, 0)
