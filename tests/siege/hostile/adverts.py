"""Adverts by gossip: genuine ones of keys without stake, old ones, and forged ones."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import coincurve
import trio

from hypercluster.market.advert import Advert
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.adverts import sign_advert
from hypercluster.node.network.gossip import Gossip
from hypercluster.node.network.host import Host
from hypercluster.node.wire.codec import encode
from hypercluster.node.wire.messages import SignedAdvert
from tests.siege.hostile.connections import CONNECT_SECONDS
from tests.siege.hostile.identities import STARTED, identities, strangers
from tests.siege.paying import Purse
from tests.siege.tally import Tally
from tests.siege.target import Target, advert_of

if TYPE_CHECKING:
    from trio_typing import TaskStatus

MOUTHS = 10
"""hosts that gossip, at most: an advert is the same whoever passes it on"""
ROUND_SECONDS = 1.0


def fake_advert(like: Advert, key: bytes, **changes: Any) -> SignedAdvert:
    """An advert as `like`, cheaper, signed by `key`, with changes."""
    now = int(time.time())
    fields: dict[str, Any] = {
        "peer": peer_of_key(key),
        "price_wei": 1,
        "prompt_price_wei": 1,
        "cached_price_wei": 0,
        "reserve_wei": 0,
        "sequence": time.time_ns() // 1_000_000,
        "issued": now,
        "expires": now + 60,
        "addrs": ("/ip4/127.0.0.1/tcp/9",),
        "direct": "/ip4/127.0.0.1/tcp/9",
    }
    return sign_advert(replace(like, **(fields | changes)), key)


@asynccontextmanager
async def mouths(target: Target, count: int) -> AsyncIterator[list[tuple[Host, Gossip]]]:
    """Hosts that are connected to the target and gossip about its model."""
    async with AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(strangers(count))
        model_id = (await advert_of(hosts[0], target)).model_id
        found = []
        for host in hosts:
            gossip = Gossip(host)
            await stack.enter_async_context(gossip.running())
            await host.connect(target.peer, target.addrs, CONNECT_SECONDS)
            await gossip.follow(model_id, _anything)
            found.append((host, gossip))
        yield found


async def _anything(data: bytes) -> None:
    """Take in whatever is gossiped."""


async def gossip_unstaked(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Genuine adverts of fresh keys that have no stake, `strength` a second."""
    await _gossip(
        target, strength, tally, task_status, lambda like: fake_advert(like, secrets.token_bytes(32))
    )


async def gossip_expired(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Genuine adverts that have run out, `strength` a second."""

    def old(like: Advert) -> SignedAdvert:
        now = int(time.time())
        return fake_advert(like, secrets.token_bytes(32), issued=now - 100, expires=now - 10)

    await _gossip(target, strength, tally, task_status, old)


async def gossip_forged(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Adverts in the target's own name with a signature that is none, `strength` a second."""

    def forged(like: Advert) -> SignedAdvert:
        return SignedAdvert(fake_advert(like, secrets.token_bytes(32)).body, secrets.token_bytes(64))

    await _gossip(target, strength, tally, task_status, forged)


async def _gossip(
    target: Target,
    strength: int,
    tally: Tally,
    started: TaskStatus[None],
    make: Callable[[Advert], SignedAdvert],
) -> None:
    async with mouths(target, min(MOUTHS, identities(strength))) as found:
        like = await advert_of(found[0][0], target)
        started.started()
        while True:
            begun = trio.current_time()
            for index in range(strength):
                _, gossip = found[index % len(found)]
                await gossip.publish(like.model_id, encode(make(like)))
                tally.answered("published")
            await trio.sleep_until(begun + ROUND_SECONDS)


async def gossip_one_stake(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Adverts of `strength` node keys over which one operator spread the minimum stake, told again and again."""
    purse = await trio.to_thread.run_sync(Purse.filled, target, tally)
    keys = await trio.to_thread.run_sync(authorised, purse, strength, target.chain.staking.minimum)
    async with mouths(target, min(MOUTHS, identities(strength))) as found:
        like = await advert_of(found[0][0], target)
        task_status.started()
        while True:
            for index, key in enumerate(keys):
                _, gossip = found[index % len(found)]
                advert = fake_advert(like, key, operator=purse.sender.address)
                await gossip.publish(like.model_id, encode(advert))
                tally.answered("published")
                await trio.sleep(0.001)
            await trio.sleep(ROUND_SECONDS)


def authorised(purse: Purse, count: int, stake: int) -> list[bytes]:
    """`count` node keys that answer to the purse's wallet, which ties an equal part of `stake` wei to each."""
    staking, sender, tally = purse.target.chain.staking, purse.sender, purse.tally
    tally.mined(staking.stake(sender, stake), locked=stake)
    keys = [secrets.token_bytes(32) for _ in range(count)]
    for key in keys:
        tally.mined(staking.authorize(sender, coincurve.PrivateKey(key), stake // count))
    return keys
