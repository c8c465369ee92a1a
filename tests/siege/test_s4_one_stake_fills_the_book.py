"""S4: one operator cut one stake into 1,030 node keys, whose adverts filled the order books of everybody.

Each key cost 52,000 gas, and 1,024 adverts later an honest newcomer with a stake of its own found every book full. Now
a stake is cut up with its keys: each needs the minimum behind it, of which no HCT counts for two. And a stake that is
large enough for many keys gives way to the first key of any other.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING

import coincurve
import pytest
import trio
from eth_account import Account

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import Reverted
from hypercluster.market.money.signing import address_of
from hypercluster.node.errors import AdvertError, Unfit
from hypercluster.node.network import eligibility
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.testnet.faucet import give
from tests.node.helpers.offers import MODEL, offer_of

if TYPE_CHECKING:
    from hypercluster.node.testnet.localnet import LocalNetwork

PLACES = 12
KEYS = 16


class Stranger:
    """An operator with a stake, and node keys that it authorises."""

    def __init__(self, chain: Chain, minimums: int) -> None:
        self.chain, account = chain, Account.create()
        self.stake = minimums * chain.staking.minimum
        give(chain, account.address, self.stake)
        self.sender = Sender(chain, account)
        chain.staking.stake(self.sender, self.stake)
        self.keys: list[bytes] = []

    def authorise(self, count: int, share: int) -> None:
        for _ in range(count):
            key = secrets.token_bytes(32)
            self.chain.staking.authorize(self.sender, coincurve.PrivateKey(key), share)
            self.keys.append(key)

    async def offer(self, book: OrderBook) -> Counter[Unfit | None]:
        """Offer an advert of each key; returns how many were not taken, by why."""
        told: Counter[Unfit | None] = Counter()

        async def offer(key: bytes) -> None:
            try:
                await book.offer(offer_of(key, operator=self.sender.address, capacity=16))
                told[None] += 1
            except AdvertError as error:
                told[error.unfit] += 1

        async with trio.open_nursery() as nursery:
            for key in self.keys:
                nursery.start_soon(offer, key)
        return told


@pytest.fixture
def chain(field: LocalNetwork) -> Chain:
    return field.chain


@pytest.fixture
def book(chain: Chain) -> OrderBook:
    return OrderBook(MODEL, Eligibility(chain), layers=4, limit=PLACES)


def held(book: OrderBook) -> Counter[str]:
    return Counter(advert.operator for advert in book.everybody())


async def test_one_stake_over_many_keys_is_one_place(chain: Chain, book: OrderBook) -> None:
    stranger = Stranger(chain, minimums=1)
    stranger.authorise(KEYS, stranger.stake // KEYS)
    assert await stranger.offer(book) == {Unfit.NOT_STAKED: KEYS}

    whole = Stranger(chain, minimums=1)
    whole.authorise(1, whole.stake)
    with pytest.raises(Reverted, match="StakeCommitted"):
        whole.authorise(1, 1)
    assert await whole.offer(book) == {None: 1}
    assert held(book) == {whole.sender.address: 1}


async def test_a_stake_for_a_whole_book_gives_way_to_each_newcomer(chain: Chain, book: OrderBook) -> None:
    rich = Stranger(chain, minimums=KEYS)
    rich.authorise(KEYS, chain.staking.minimum)
    await rich.offer(book)
    assert held(book) == {rich.sender.address: PLACES}
    newcomers = [Stranger(chain, minimums=1) for _ in range(3)]
    for newcomer in newcomers:
        newcomer.authorise(1, newcomer.stake)
        assert await newcomer.offer(book) == {None: 1}
    await rich.offer(book)
    assert held(book) == {rich.sender.address: PLACES - 3} | {each.sender.address: 1 for each in newcomers}


async def test_a_stake_that_moves_from_key_to_key_is_at_one_place_at_a_time(
    chain: Chain, book: OrderBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a book keeps of the chain's answers runs out; here at once, otherwise after a minute."""
    monkeypatch.setattr(eligibility, "KEEP_SECONDS", 0.0)
    stranger = Stranger(chain, minimums=1)
    for _ in range(3):
        stranger.authorise(1, stranger.stake)
        await stranger.offer(book)
        chain.staking.revoke(stranger.sender, address_of(coincurve.PrivateKey(stranger.keys[-1])))
    await book.recheck()
    assert not held(book)
    stranger.authorise(1, stranger.stake)
    assert (await stranger.offer(book))[None] == 1
    assert held(book) == {stranger.sender.address: 1}
