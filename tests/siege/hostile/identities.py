"""Names cost nothing: hosts with keys that nobody has heard of."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Error
from tests.siege.tally import Tally

if TYPE_CHECKING:
    from trio_typing import TaskStatus

MOST_IDENTITIES = 100
STARTED = trio.TASK_STATUS_IGNORED
"""for attacks that nobody waits for"""
PAUSE_SECONDS = 0.05
"""after a refusal, so that a refused attacker asks some times a second on each connection and not in a loop"""


def identities(strength: int) -> int:
    """How many names an attack of `strength` connections goes under: ten of them each, at most a hundred names."""
    return max(1, min(MOST_IDENTITIES, strength // 10))


@asynccontextmanager
async def strangers(count: int) -> AsyncIterator[list[Host]]:
    """Hosts that only dial, each with a fresh key."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running_host(secrets.token_bytes(32))) for _ in range(count)]


async def on_and_on(
    strength: int, act: Callable[[int], Awaitable[str]], tally: Tally, started: TaskStatus[None]
) -> None:
    """Run `act` (the number of the connection -> what came of it) `strength` times at once, for ever.

    Whatever a node or a network makes of it is noted in `tally`. The attack counts as started when each has begun.
    """

    async def loop(index: int) -> None:
        while True:
            try:
                with trio.fail_after(300):
                    tally.answered(await act(index))
            except (NodeError, MarketError, OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
                tally.answered(type(error).__name__)
            await trio.sleep(PAUSE_SECONDS)

    async with trio.open_nursery() as nursery:
        for index in range(strength):
            nursery.start_soon(loop, index)
            if index % 20 == 19:
                await trio.sleep(0.01)
        started.started()


def said(answer: Message) -> str:
    """An answer in a word: the code of an error, else its type."""
    return answer.code.name if isinstance(answer, Error) else type(answer).__name__
