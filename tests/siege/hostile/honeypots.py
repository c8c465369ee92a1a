"""Providers that nobody should meet: one stake behind many keys, the best price, and no answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import coincurve
import trio

from hypercluster.market.advert import Advert
from hypercluster.node.errors import ErrorCode
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.gossip import Gossip
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import serve_steps
from hypercluster.node.network.stream import Stream
from hypercluster.node.wire.codec import encode
from hypercluster.node.wire.framing import Frames
from hypercluster.node.wire.messages import ADVERT_PROTOCOL, Accept, Error, Open, Step, StepResult
from tests.node.helpers.providers import LOCAL
from tests.siege.hostile.adverts import authorised, fake_advert
from tests.siege.hostile.connections import CONNECT_SECONDS
from tests.siege.hostile.identities import STARTED
from tests.siege.paying import Purse
from tests.siege.tally import Tally
from tests.siege.target import Target, advert_of

if TYPE_CHECKING:
    from trio_typing import TaskStatus

TELL_SECONDS = 5.0
"""between two rounds of adverts"""
LATE_SECONDS = 30.0
MOST_STEP_TOKENS = 64
After = Callable[[Connection, Step, Tally], Awaitable[None]]


async def silent(connection: Connection, step: Step, tally: Tally) -> None:
    """Take the voucher and say nothing."""
    tally.answered("silent")
    await trio.sleep_forever()


async def full(connection: Connection, step: Step, tally: Tally) -> None:
    """Take the voucher and refuse."""
    tally.answered("refused")
    await connection.send(Error.of(ErrorCode.FULL, "Not today."))


async def wrong(connection: Connection, step: Step, tally: Tally) -> None:
    """Take the voucher and answer with nonsense, under a signature that is none."""
    tally.answered("nonsense")
    await connection.send(
        StepResult(
            seq=step.seq,
            rows=1,
            billed_wei=step.cumulative_wei,
            compute_ms=1.0,
            issued=int(time.time()),
            receipt=bytes(64),
            output=bytes(72),
        )
    )


async def gone(connection: Connection, step: Step, tally: Tally) -> None:
    """Take the voucher and hang up."""
    tally.answered("gone")
    await connection.close()


async def late(connection: Connection, step: Step, tally: Tally) -> None:
    """Take the voucher, and answer far too late."""
    tally.answered("late")
    await trio.sleep(LATE_SECONDS)
    await full(connection, step, tally)


KINDS: dict[str, After | None] = {
    "silent": silent,
    "full": full,
    "wrong": wrong,
    "gone": gone,
    "late": late,
    "closed": None,
}
"""what a honeypot does with a first step; None for one that nobody reaches at the address it tells"""


async def accept(connection: Connection, target: Target, key: bytes, width: int) -> bool:
    """Take the session that is asked for, at the highest price that the client named; whether one was asked for."""
    opening = await connection.receive(10)
    if not isinstance(opening, Open):
        return False
    domain = target.chain.channels.domain
    expires = int(time.time()) + 3600
    price, prompt = opening.max_price_wei, opening.max_prompt_price_wei
    quote = opening.quote(
        domain.channel_id(opening.channel),
        price_wei=price,
        prompt_price_wei=prompt,
        capacity=opening.capacity,
        expires=expires,
    )
    await connection.send(
        Accept(
            price_wei=price,
            prompt_price_wei=prompt,
            capacity=opening.capacity,
            expires=expires,
            quote_signature=domain.sign_quote(coincurve.PrivateKey(key), quote),
            paid_wei=0,
            paid_signature=b"",
            billed_wei=0,
            max_step_tokens=MOST_STEP_TOKENS,
            width=width,
            nonce=secrets.token_bytes(16),
            profile="{}",
        )
    )
    return True


async def pot(
    host: Host, target: Target, like: Advert, kind: After | None, operator: str, tally: Tally
) -> Callable[[], bytes]:
    """Serve sessions on `host` as `kind` says; returns what makes its current advert, encoded."""

    async def serve(connection: Connection) -> None:
        if await accept(connection, target, host.key, like.width):
            step = await connection.receive(60)
            if isinstance(step, Step) and kind is not None:
                tally.spent_wei -= step.cumulative_wei
                await kind(connection, step, tally)

    direct = await serve_steps(host, serve, direct_listen=LOCAL)
    dead = {"addrs": ("/ip4/127.0.0.1/tcp/9",), "direct": "/ip4/127.0.0.1/tcp/9"}
    where = dead if kind is None else {"addrs": host.addrs, "direct": direct}
    advert = partial(fake_advert, like, host.key, operator=operator, cost_ms=0.01, prompt_ms=0.01, **where)

    async def tell(stream: Stream) -> None:
        await Frames(stream).send(encode(advert()))

    host.serve(ADVERT_PROTOCOL, tell)
    return lambda: encode(advert())


async def honeypots(
    target: Target,
    strength: int,
    tally: Tally,
    *,
    task_status: TaskStatus[None] = STARTED,
    kinds: tuple[str, ...] = tuple(KINDS),
) -> None:
    """`strength` providers of one operator, of all kinds in turn, that join the network of the target.

    The operator has the minimum at stake for each, since nobody would look at them otherwise.
    `tally.spent_wei` is below zero by the vouchers that they were given.
    """
    stake = strength * target.chain.staking.minimum
    purse = await trio.to_thread.run_sync(partial(Purse.filled, target, tally, 2 * stake))
    keys = await trio.to_thread.run_sync(authorised, purse, strength, stake)
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(running_host(key, (LOCAL,))) for key in keys]
        like = await advert_of(hosts[0], target)
        adverts = [
            await pot(host, target, like, KINDS[kinds[index % len(kinds)]], purse.sender.address, tally)
            for index, host in enumerate(hosts)
        ]
        mouth = await stack.enter_async_context(running_host(secrets.token_bytes(32)))
        gossip = Gossip(mouth)
        await stack.enter_async_context(gossip.running())
        await mouth.connect(target.peer, target.addrs, CONNECT_SECONDS)

        async def taken(data: bytes) -> None:
            """Whatever is gossiped."""

        await gossip.follow(like.model_id, taken)
        task_status.started()
        while True:
            for encoded in adverts:
                await gossip.publish(like.model_id, encoded())
                tally.answered("published")
            await trio.sleep(TELL_SECONDS)
