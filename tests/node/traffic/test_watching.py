"""Telling what happens, while those who look on come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from hypercluster.node.traffic.happenings import Happening, RequestBegun
from hypercluster.node.traffic.watching import Watch

if TYPE_CHECKING:
    from trio_typing import TaskStatus


async def test_who_leaves_while_something_is_told_troubles_nobody() -> None:
    watch, heard = Watch(), list[Happening]()

    async def follow(
        into: list[Happening], task_status: TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.CancelScope() as scope, watch.followed() as happenings:
            task_status.started(scope)
            async for happening in happenings:
                into.append(happening)

    async with trio.open_nursery() as nursery:
        await nursery.start(follow, heard)
        leaving = await nursery.start(follow, [])
        await trio.testing.wait_all_tasks_blocked()
        leaving.cancel()
        told = [RequestBegun(str(turn), "model") for turn in range(5)]
        for each in told:  # at every turn of the loop until the other has left
            await trio.lowlevel.checkpoint()
            watch.tell(each)
        await trio.testing.wait_all_tasks_blocked()
        assert heard == told
        nursery.cancel_scope.cancel()
