"""What gets into the order book, what does not, and when it leaves."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from hypercluster.node.errors import AdvertError
from hypercluster.node.identity import address_of_peer, peer_of_key
from hypercluster.node.network.eligibility import Backing, anyone
from hypercluster.node.network.orderbook import OrderBook
from tests.node.helpers.offers import MODEL, OPERATOR, new_key, offer_of


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


async def test_a_newer_advert_replaces_an_older_one_never_the_other_way() -> None:
    book, key = OrderBook(MODEL, anyone), new_key()
    first, second = offer_of(key, price_wei=1, sequence=1), offer_of(key, price_wei=2, sequence=2)
    assert await book.offer(first)
    assert await book.offer(second)
    assert await book.offer(second) is None
    with pytest.raises(AdvertError, match="older"):
        await book.offer(first)
    with pytest.raises(AdvertError, match="older"):
        await book.offer(offer_of(key, price_wei=3, sequence=2))
    assert [advert.price_wei for advert in book.snapshot()] == [2]


async def test_an_expired_advert_vanishes_and_cannot_be_replayed() -> None:
    clock, key = Clock(), new_key()
    book = OrderBook(MODEL, anyone, clock=clock)
    signed = offer_of(key)
    await book.offer(signed)
    peer = peer_of_key(key)
    assert book.is_fresh(peer)
    clock.now += 40
    assert not book.is_fresh(peer)
    assert book.get(peer)
    clock.now += 21
    assert book.snapshot() == []
    assert book.get(peer) is None
    with pytest.raises(AdvertError, match="expired"):
        await book.offer(signed)


async def test_eligibility_is_asked_for_the_node_address_and_operator() -> None:
    asked, key = [], new_key()

    async def nobody(node: str, operator: str) -> None:
        asked.append((node, operator))

    book = OrderBook(MODEL, nobody)
    with pytest.raises(AdvertError, match="may not serve"):
        await book.offer(offer_of(key))
    assert asked == [(address_of_peer(peer_of_key(key)), OPERATOR)]
    assert book.snapshot() == []


async def test_a_slow_chain_does_not_bring_back_an_older_advert() -> None:
    key = new_key()
    first, second = offer_of(key, sequence=1), offer_of(key, sequence=2)
    waiting = trio.Event()
    calls = 0

    async def slow_once(node: str, operator: str) -> Backing:
        nonlocal calls
        calls += 1
        if calls == 1:
            await waiting.wait()
        return await anyone(node, operator)

    book = OrderBook(MODEL, slow_once)

    async def offer_first() -> None:
        with pytest.raises(AdvertError, match="older"):
            await book.offer(first)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(offer_first)
        await trio.testing.wait_all_tasks_blocked()
        await book.offer(second)
        waiting.set()
    assert [advert.sequence for advert in book.snapshot()] == [2]


async def test_another_model() -> None:
    with pytest.raises(AdvertError, match="another model"):
        await OrderBook("cd" * 32, anyone).offer(offer_of(new_key()))


async def test_bounded() -> None:
    clock = Clock()
    book = OrderBook(MODEL, anyone, limit=3, clock=clock)
    keys = [new_key() for _ in range(4)]
    operators = [f"0x{number:040x}" for number in range(4)]
    for key, operator in zip(keys[:3], operators, strict=False):
        await book.offer(offer_of(key, operator=operator))
    with pytest.raises(AdvertError, match="no place: all 3 are taken"):
        await book.offer(offer_of(keys[3], operator=operators[3]))
    assert await book.offer(offer_of(keys[0], operator=operators[0]))
    book.remove(peer_of_key(keys[1]))
    await book.offer(offer_of(keys[3], operator=operators[3]))
    assert {advert.peer for advert in book.snapshot()} == {peer_of_key(keys[i]) for i in (0, 2, 3)}


async def test_in_order_of_layers() -> None:
    book = OrderBook(MODEL, anyone)
    for start in (8, 0, 4):
        await book.offer(offer_of(new_key(), layer_start=start, layer_stop=start + 4))
    assert [advert.layer_start for advert in book.snapshot()] == [0, 4, 8]
