"""Who gets a place in a full order book, and who has to leave."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.money.signing import checksum
from hypercluster.node.errors import AdvertError, Unfit
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network import orderbook
from hypercluster.node.network.bookplaces import Place, least
from hypercluster.node.network.eligibility import Backing
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.wire.messages import SignedAdvert
from tests.node.helpers.offers import MODEL, new_key, offer_of

HCT = 10**18
SESSION = 6 * HCT


def operator(number: int) -> str:
    return checksum(f"0x{number:040x}")


class Stakes:
    """An `Eligible` that knows what is behind each operator's keys, in HCT; 100 unless it is said."""

    def __init__(self) -> None:
        self.behind: dict[str, int] = {}

    async def __call__(self, _node: str, operator: str) -> Backing | None:
        wei = self.behind.get(operator, 100) * HCT
        return Backing(wei, wei // SESSION) if wei else None


@pytest.fixture
def stakes() -> Stakes:
    return Stakes()


def offers(of: int, count: int, **changes: Any) -> list[SignedAdvert]:
    """Adverts of so many node keys of one operator."""
    return [offer_of(new_key(), operator=operator(of), **changes) for _ in range(count)]


async def offered(book: OrderBook, *adverts: SignedAdvert) -> int:
    """Offer them; returns how many found no place."""
    refused = [Unfit.NO_PLACE for advert in adverts if await unfit(book, advert) is Unfit.NO_PLACE]
    return len(refused)


async def unfit(book: OrderBook, advert: SignedAdvert) -> Unfit | None:
    """Why an advert is not taken."""
    try:
        await book.offer(advert)
    except AdvertError as error:
        return error.unfit
    return None


def held(book: OrderBook) -> Counter[str]:
    return Counter(advert.operator for advert in book.everybody())


async def test_no_stake_is_so_large_that_a_newcomer_with_its_own_finds_no_place(stakes: Stakes) -> None:
    stakes.behind[operator(1)] = 10**6
    book = OrderBook(MODEL, stakes, limit=20, layers=4)
    await offered(book, *offers(1, 30))
    assert held(book) == {operator(1): 20}
    for newcomer in range(2, 12):
        assert await offered(book, *offers(newcomer, 1)) == 0
    assert held(book) == {operator(1): 10} | {operator(newcomer): 1 for newcomer in range(2, 12)}


async def test_first_places_go_by_stake(stakes: Stakes) -> None:
    stakes.behind |= {operator(3): 99, operator(9): 101}
    book = OrderBook(MODEL, stakes, limit=5)
    assert await offered(book, *(advert for each in range(1, 6) for advert in offers(each, 1))) == 0
    assert await offered(book, *offers(8, 1)) == 0
    assert operator(3) not in held(book)
    assert await offered(book, *offers(7, 1)) == 1, "of two that are worth the same the later one leaves"
    assert await offered(book, *offers(9, 1)) == 0
    assert operator(8) not in held(book)


async def test_further_places_of_an_operator_go_to_its_largest_shares_and_to_other_ranges() -> None:
    behind = {"large": 300, "small": 100}
    names: dict[str, str] = {}

    async def eligible(node: str, _operator: str) -> Backing:
        wei = behind[names[node]] * HCT
        return Backing(wei, wei // SESSION)

    from hypercluster.node.identity import address_of_peer

    book = OrderBook(MODEL, eligible, limit=3)
    keys = {name: [new_key() for _ in range(3)] for name in behind}
    for name, several in keys.items():
        names |= {address_of_peer(peer_of_key(key)): name for key in several}
    small = [offer_of(key, layer_start=0, layer_stop=2) for key in keys["small"][:2]]
    other = offer_of(keys["small"][2], layer_start=2, layer_stop=4)
    assert await offered(book, *small, other) == 0
    assert await offered(book, offer_of(keys["large"][0])) == 0
    assert peer_of_key(keys["small"][2]) in {advert.peer for advert in book.everybody()}
    assert await offered(book, *(offer_of(key) for key in keys["large"][1:])) == 0
    assert {advert.peer for advert in book.everybody()} >= {peer_of_key(key) for key in keys["large"][:2]}


async def test_a_crowd_on_some_layers_takes_no_place_from_the_others(stakes: Stakes) -> None:
    """A hundred rich operators serve layers 0 to 2; the only two that serve the rest have less than each of them."""
    stakes.behind |= {operator(number): 500 for number in range(1, 101)}
    book = OrderBook(MODEL, stakes, limit=32, layers=4)
    for number in range(1, 101):
        await offered(book, *offers(number, 1, layer_start=0, layer_stop=2))
    assert len(book) == 32
    for number in (201, 202):
        assert await offered(book, *offers(number, 1, layer_start=2, layer_stop=4)) == 0
    await offered(
        book, *(advert for n in range(1, 101) for advert in offers(n, 1, layer_start=0, layer_stop=2))
    )
    assert {operator(201), operator(202)} <= set(held(book))
    assert await offered(book, *offers(203, 3, layer_start=2, layer_stop=4)) == 3, "two are spared, not all"


async def test_layers_that_the_model_lacks_are_no_way_to_a_place(stakes: Stakes) -> None:
    with pytest.raises(AdvertError, match="does not have"):
        await OrderBook(MODEL, stakes, layers=4).offer(offer_of(new_key(), layer_start=4, layer_stop=5))


async def test_a_refresh_keeps_its_place_and_another_range_or_operator_is_a_new_arrival(
    stakes: Stakes,
) -> None:
    book, keys = OrderBook(MODEL, stakes, limit=2), [new_key() for _ in range(3)]
    first, second = (offer_of(key, operator=operator(n)) for n, key in enumerate(keys[:2]))
    assert await offered(book, first, second) == 0
    assert await offered(book, offer_of(keys[0], operator=operator(0), price_wei=7)) == 0
    assert await offered(book, offer_of(keys[2], operator=operator(2))) == 1
    stakes.behind[operator(2)] = 101
    assert await offered(book, offer_of(keys[2], operator=operator(2))) == 0
    assert operator(1) not in held(book), "the one that came later leaves"


async def test_who_found_no_place_is_compared_again_when_its_stake_has_grown_or_a_place_is_free(
    stakes: Stakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def counted(places: Sequence[Place], *, layers: int) -> Place:
        compared.append(places)
        return least(places, layers=layers)

    monkeypatch.setattr(orderbook, "least", counted)
    book, key = OrderBook(MODEL, stakes, limit=1), new_key()
    await offered(book, *offers(1, 1))
    for _ in range(5):
        assert await offered(book, offer_of(key, operator=operator(2))) == 1
    assert len(compared) == 1
    stakes.behind[operator(2)] = 101
    assert await offered(book, offer_of(key, operator=operator(2))) == 0
    late = new_key()
    assert await offered(book, offer_of(late, operator=operator(3))) == 1
    book.remove(peer_of_key(key))
    assert await offered(book, offer_of(late, operator=operator(3))) == 0
    assert len(compared) == 3


async def test_stake_that_went_takes_its_adverts_along(stakes: Stakes) -> None:
    book = OrderBook(MODEL, stakes)
    key = new_key()
    await book.offer(offer_of(key, operator=operator(1), capacity=16))
    await book.offer(offer_of(new_key(), operator=operator(2)))
    backing = book.backing_of(peer_of_key(key))
    assert backing == Backing(100 * HCT, 16)
    stakes.behind[operator(1)] = 90  # slashed: fifteen sessions
    await book.recheck()
    assert set(held(book)) == {operator(2)}
    with pytest.raises(AdvertError, match="carries 15") as over:
        await book.offer(offer_of(key, operator=operator(1), capacity=16))
    assert over.value.unfit is Unfit.OVER_STAKE
    await book.offer(offer_of(key, operator=operator(1), capacity=15))
    stakes.behind[operator(1)] = 0  # revoked: the newer advert takes the older one along
    with pytest.raises(AdvertError, match="may not serve"):
        await book.offer(offer_of(key, operator=operator(1), capacity=15))
    assert set(held(book)) == {operator(2)}


async def test_a_silent_chain_takes_no_place_away(stakes: Stakes) -> None:
    from hypercluster.market.errors import NodeUnreachable

    down = False

    async def eligible(node: str, of: str) -> Backing | None:
        if down:
            raise NodeUnreachable("The node does not answer.")
        return await stakes(node, of)

    book = OrderBook(MODEL, eligible)
    await offered(book, *offers(1, 2))
    down = True
    await book.recheck()
    assert len(book) == 2


keys_of_operators = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from([1, 2, 3, 10, 100, 1000]), st.integers(0, 3), st.integers(1, 4)
    ),
    min_size=1,
    max_size=30,
)


@given(
    keys=keys_of_operators, limit=st.integers(1, 12), layers=st.sampled_from([0, 4]), seed=st.integers(0, 99)
)
def test_who_left_does_not_come_back_at_once_and_all_have_a_first_place_before_any_has_a_second(
    keys: list[tuple[int, int, int, int]], limit: int, layers: int, seed: int
) -> None:
    arrivals = itertools.count()
    asked = [
        Place(
            f"peer {n}",
            operator(of),
            "provider",
            min(start, 4 - length),
            min(start, 4 - length) + length,
            wei,
            0,
        )
        for n, (of, wei, start, length) in enumerate(keys)
    ]
    book: dict[str, Place] = {}

    def ask(place: Place) -> bool:
        """Whether it finds a place."""
        if place.peer in book:
            return True
        place = replace(place, since=next(arrivals))
        book[place.peer] = place
        if len(book) <= limit:
            return True
        leaving = least([*book.values()], layers=layers)
        del book[leaving.peer]
        if leaving.peer == place.peer:
            return False
        there = dict(book)
        again = replace(leaving, since=next(arrivals))
        assert least([*book.values(), again], layers=layers) == again
        assert book == there
        return True

    rounds = random.Random(seed)
    for _ in range(40):
        rounds.shuffle(asked)
        before = set(book)
        for place in asked:
            ask(place)
        if set(book) == before:
            break
    assert len(book) == min(limit, len(asked))
    if layers == 0:
        assert set(book) == before, "places are still changing hands"
        operators = {place.operator for place in asked}
        present = Counter(place.operator for place in book.values())
        if len(operators) <= limit:
            assert set(present) == operators
        else:
            assert set(present.values()) == {1}
