"""How often a node asks again what has not changed, and that it asks soon when something has."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.bootstrap import SETTLED_JOINS, Bootstrap
from hypercluster.node.network.discovery import SETTLED_ANNOUNCEMENTS, SETTLED_LOOKUPS, Discovery
from hypercluster.node.network.eligibility import anyone
from hypercluster.node.network.membership import Pace
from hypercluster.node.network.orderbook import OrderBook
from tests.node.helpers.offers import MODEL, new_key, offer_of

HOUR = 3600.0
STEADY = Pace().steady


class World:
    """What a Discovery needs of a membership, with the moments (trio's seconds) at which the DHT was used."""

    def __init__(self) -> None:
        self.host: Any = SimpleNamespace(peer="me", peers=["a neighbour"], addrs=())
        self.gossip: Any = SimpleNamespace(publish=self._publish)
        self.dht: Any = SimpleNamespace(providers=self._providers, provide=self._provide)
        self.pace, self.memory, self.own = Pace(), None, None
        self.looked: list[float] = []
        self.announced: list[float] = []

    async def _publish(self, *_: object) -> None:
        """Tell nobody."""

    async def _providers(self, model_id: str) -> dict[str, tuple[str, ...]]:
        self.looked.append(trio.current_time())
        return {}

    async def _provide(self, model_id: str) -> bool:
        self.announced.append(trio.current_time())
        return True


@asynccontextmanager
async def following() -> AsyncIterator[tuple[World, Discovery]]:
    """A node that has followed a model for some time, and whose advert is in its own book."""
    world = World()
    membership: Any = world
    discovery = Discovery(membership, OrderBook(MODEL, anyone))
    await discovery.publish(offer_of(new_key(), expires=int(time.time()) + 3000))
    async with discovery.following():
        await trio.sleep(HOUR + 1)
        yield world, discovery


def last_gap(moments: list[float]) -> float:
    return round(max(later - earlier for earlier, later in list(pairwise(moments))[-2:]), 6)


async def test_what_stays_as_it_is_is_asked_and_told_seldom(autojump_clock: trio.testing.MockClock) -> None:
    async with following() as (world, _):
        assert last_gap(world.looked) == SETTLED_LOOKUPS * STEADY
        assert last_gap(world.announced) == SETTLED_ANNOUNCEMENTS * STEADY


async def test_a_new_neighbour_is_asked_and_told_soon(autojump_clock: trio.testing.MockClock) -> None:
    async with following() as (world, _):
        came = trio.current_time()
        world.host.peers.append("another")
        await trio.sleep(HOUR)
        assert next(each for each in world.looked if each > came) <= came + STEADY
        assert next(each for each in world.announced if each > came) <= came + 2 * STEADY


async def test_with_nobody_in_the_book_lookups_go_on(autojump_clock: trio.testing.MockClock) -> None:
    async with following() as (world, discovery):
        for advert in discovery.book.everybody():
            discovery.book.remove(advert.peer)
        await trio.sleep(HOUR)
        assert last_gap(world.looked) == STEADY


@pytest.mark.parametrize("lost", [False, True])
async def test_who_is_joined_through_is_greeted_seldom_while_the_connection_holds(
    lost: bool, autojump_clock: trio.testing.MockClock
) -> None:
    peer, joined = peer_of_key(new_key()), list[float]()
    host: Any = SimpleNamespace(peer="me", peers=[])

    async def connect(who: str, addrs: object, timeout: float) -> None:
        host.peers = [who]

    async def join(who: str, addrs: object) -> None:
        joined.append(trio.current_time())

    host.connect = connect
    through = [f"/ip4/127.0.0.1/tcp/4001/p2p/{peer}"]
    bootstrap = Bootstrap(host, through, join, first=0.25, steady=STEADY, dial=3.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bootstrap.keep_joined)
        await trio.sleep(STEADY / 2)
        for _ in range(100):
            await trio.sleep(STEADY)
            if lost:
                host.peers = []
        nursery.cancel_scope.cancel()
    assert last_gap(joined) == (STEADY if lost else SETTLED_JOINS * STEADY)
