"""Which path a request takes where sessions differ in length, in candidates and in price, and some are taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.choosing import Chooser
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.lengths import covered, longest
from hypercluster.node.client.needs import AllBusy, Needs, NoRoute, RequestTooLong, TooManyCandidates
from hypercluster.node.client.request import Wishes
from hypercluster.node.client.timing import Timing
from hypercluster.node.client.vacancies import Vacancies
from hypercluster.node.client.wishing import TooDear
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import anyone
from hypercluster.node.network.host import running_host
from hypercluster.node.network.latency import Latencies
from hypercluster.node.network.orderbook import OrderBook
from tests.node.helpers.offers import MODEL, advert_of, new_key, offer_of

SHORT, LONG = b"\x01" * 32, b"\x02" * 32
SHORT_PEER, LONG_PEER = peer_of_key(SHORT), peer_of_key(LONG)
CHEAPEST = Wishes(market=MarketParameters(alpha=1.0, risk_weight=0.0))


@asynccontextmanager
async def choosing(**offers: dict[str, Any]) -> AsyncIterator[Chooser]:
    """Between a cheap provider of 8,192 tokens a session and a dear one of 131,072, changed as told."""
    async with running_host(new_key()) as host:
        book = OrderBook(MODEL, anyone)
        defaults: dict[str, tuple[bytes, dict[str, Any]]] = {
            "short": (SHORT, {"session_tokens": 8192, "price_wei": 100}),
            "long": (LONG, {"session_tokens": 131_072, "price_wei": 1000}),
        }
        for name, (key, terms) in defaults.items():
            if name in offers:
                await book.offer(offer_of(key, **(terms | offers[name])))
        yield Chooser(Discovery.alone(host, book), Latencies(host), Vacancies(), 4, None)


async def taken(chooser: Chooser, wishes: Wishes = CHEAPEST, **needs: int) -> str:
    (peer,) = (await chooser.route(wishes, Needs(**needs))).ids
    return peer


async def test_the_path_holds_the_whole_request_where_one_does() -> None:
    async with choosing(short={}, long={}) as chooser:
        assert await taken(chooser, prompt=100, tokens=500) == SHORT_PEER
        assert await taken(chooser, prompt=100, tokens=128_000) == LONG_PEER


async def test_ranges_that_a_model_cannot_be_cut_into_are_on_no_path() -> None:
    async with running_host(new_key()) as host:
        book = OrderBook(MODEL, anyone)

        def chooser(starts: tuple[int, ...] | None) -> Chooser:
            there = Discovery.alone(host, book), Latencies(host), Vacancies()
            return Chooser(*there, 4, None, starts=starts)

        for number, (start, stop) in enumerate([(0, 2), (2, 4)], 1):
            await book.offer(offer_of(bytes([number]) * 32, layer_start=start, layer_stop=stop))
        assert len((await chooser(None).route(CHEAPEST, Needs(prompt=1, tokens=1))).ids) == 2
        assert len((await chooser((0, 2)).route(CHEAPEST, Needs(prompt=1, tokens=1))).ids) == 2
        with pytest.raises(NoRoute):
            await chooser((0, 1, 3)).route(CHEAPEST, Needs(prompt=1, tokens=1))


async def test_what_nobody_holds_whole_goes_where_most_of_it_fits() -> None:
    async with choosing(short={}, long={}) as chooser:
        assert await taken(chooser, prompt=100, tokens=500_000) == LONG_PEER
    async with choosing(short={}) as chooser:
        assert await taken(chooser, prompt=100, tokens=500_000) == SHORT_PEER
        assert await taken(chooser, prompt=8191, tokens=500_000) == SHORT_PEER


async def test_a_longer_session_is_waited_for_only_where_the_other_leaves_little_room() -> None:
    async with choosing(short={}, long={"free": 0}) as chooser:
        assert await taken(chooser, prompt=100, tokens=128_000) == SHORT_PEER
        assert await taken(chooser, prompt=8192 - 1024, tokens=128_000) == SHORT_PEER
        with pytest.raises(AllBusy):
            await taken(chooser, prompt=8192 - 1023, tokens=128_000)
        assert await taken(chooser, prompt=8192 - 10, tokens=10) == SHORT_PEER
        with pytest.raises(AllBusy):
            await taken(chooser, prompt=8192, tokens=10)


async def test_a_prompt_that_fits_nowhere_is_refused_at_once_though_all_are_busy() -> None:
    async with choosing(short={"free": 0}, long={"free": 0}) as chooser:
        with pytest.raises(AllBusy):
            await taken(chooser, prompt=131_071, tokens=1)
        with pytest.raises(RequestTooLong, match="131071 tokens at most"):
            await taken(chooser, prompt=131_072, tokens=1)


async def test_candidates_are_part_of_what_is_needed() -> None:
    async with choosing(short={"max_top_k": 64}, long={"max_top_k": 1024}) as chooser:
        assert await taken(chooser, prompt=1, tokens=1, top_k=65) == LONG_PEER
        with pytest.raises(TooManyCandidates, match="1024"):
            await taken(chooser, prompt=1, tokens=1, top_k=1025)


async def test_who_is_cheap_enough_and_busy_is_waited_for() -> None:
    wishes = Wishes(market=CHEAPEST.market, max_price_wei=500)
    async with choosing(short={"free": 0}, long={}) as chooser:
        with pytest.raises(AllBusy):
            await taken(chooser, wishes, prompt=1, tokens=1)
    async with choosing(long={}) as chooser:
        with pytest.raises(TooDear):
            await taken(chooser, wishes, prompt=1, tokens=1)


async def test_sessions_that_this_client_holds_itself_are_not_free() -> None:
    async with choosing(short={"free": 1}) as chooser:
        path = await chooser.route(CHEAPEST, Needs(prompt=1, tokens=1))
        chooser._vacancies.take(path)
        with pytest.raises(AllBusy):
            await taken(chooser, prompt=1, tokens=1)
        chooser._vacancies.give_back(path, 1.0)
        assert await taken(chooser, prompt=1, tokens=1) == SHORT_PEER


async def test_nobody_at_all_is_no_route() -> None:
    async with choosing() as chooser:
        with pytest.raises(NoRoute):
            await taken(chooser, prompt=1, tokens=1)


@pytest.mark.parametrize(
    ("sharing", "late", "says"),
    [(1, 0.0, Evidence.LATENCY_LIE), (50, 0.0, Evidence.SERVED), (1, 0.3, Evidence.SERVED)],
)
async def test_a_slow_step_is_held_against_a_provider_unless_it_is_our_own_doing(
    sharing: int, late: float, says: Evidence
) -> None:
    """A second where 10 ms are advertised: a lie, or fifty sessions at once, or a process that was late itself."""
    async with choosing(short={"cost_ms": 10.0}) as chooser:
        await chooser.route(CHEAPEST, Needs(prompt=1, tokens=1))
        chooser._expected[SHORT_PEER] = 10.0
        hop = SimpleNamespace(advert=SimpleNamespace(peer=SHORT_PEER), timing=Timing([1000.0] * 5))
        said = chooser.learn(cast("Hop", hop), sharing, late)
        assert said is not None
        assert said[0] is says


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 6)), max_size=12))
def test_the_longest_session_is_that_of_the_best_path(offers: list[tuple[int, int, int]]) -> None:
    adverts = [
        advert_of(SHORT, layer_start=start, layer_stop=min(4, start + size), session_tokens=length)
        for start, size, length in offers
    ]
    whole = [n for n in range(1, 7) if covered(adverts, 4, n)]
    assert longest(adverts, 4) == max(whole, default=0)
