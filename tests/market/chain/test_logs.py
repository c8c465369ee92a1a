"""C9: what happened over many blocks, read from nodes that show few of them at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.chain.events import Opened
from hypercluster.market.chain.logs import MOST_BLOCKS, SURE
from hypercluster.market.errors import ChainError
from hypercluster.market.money.units import HCT
from tests.market.chain.blocks import ask
from tests.market.proxy import Answer, proxy
from tests.node.helpers.providers import new_wallet

ERRORS = {
    "a limited range": (200, -32600, "You can make eth_getLogs requests with up to a 500 block range."),
    "too many results": (200, -32005, "query returned more than 10000 results"),
    "a request that is too large": (413, -32000, "the range is too wide"),
    "a bad request": (400, -32602, "block range too large"),
}


@pytest.mark.parametrize("refusal", ERRORS)
def test_c9_half_as_many_blocks_are_asked_for_where_a_node_refuses(chain: Chain, refusal: str) -> None:
    """C9: a range that is refused is halved until it is not, nothing is left out, and later looks begin with it."""
    status, code, message = ERRORS[refusal]
    most, asked, seen = 50, list[int](), threading.local()
    wallet, payee = new_wallet(chain), new_wallet(chain, 0).sender.address
    first = chain.block_number()
    ids = []
    for _ in range(3):
        ids.append(wallet.channel(payee).channel_id)
        ask(chain, "anvil_mine", hex(60))

    def look_at(body: bytes) -> None:
        seen.request = json.loads(body)

    def behave(method: str, pass_on: Callable[[], bytes]) -> Answer:
        if method != "eth_getLogs":
            return 200, pass_on()
        query = seen.request["params"][0]
        asked.append(int(query["toBlock"], 16) - int(query["fromBlock"], 16) + 1)
        if asked[-1] <= most:
            return 200, pass_on()
        error = {"jsonrpc": "2.0", "id": seen.request["id"], "error": {"code": code, "message": message}}
        return status, json.dumps(error).encode()

    with proxy(chain.url, behave, look_at) as url:
        channels = Chain(url, chain.deployment).channels
        events, after = channels.events_for(payee, first, ())
        assert [event.channel_id for event in events if isinstance(event, Opened)] == ids
        assert after == chain.block_number() + 1
        assert max(asked) <= MOST_BLOCKS
        known = len(asked)
        again, _ = channels.events_for(payee, first, ())
        assert again == events
        assert max(asked[known:]) <= most, "what was refused once is not asked for again"


def test_a_node_that_shows_no_block_at_all_is_told_of(chain: Chain) -> None:
    def behave(method: str, pass_on: Callable[[], bytes]) -> Answer:
        if method != "eth_getLogs":
            return 200, pass_on()
        error = {"code": -32000, "message": "logs are not kept here"}
        return 200, json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()

    with proxy(chain.url, behave) as url, pytest.raises(ChainError, match="logs are not kept here"):
        Chain(url, chain.deployment).channels.events_for(new_wallet(chain, HCT).sender.address, 0)


def test_where_no_block_came_nothing_is_read_again_and_what_comes_is_seen(chain: Chain) -> None:
    wallet, payee = new_wallet(chain), new_wallet(chain, 0).sender.address
    first, asked = chain.block_number(), list[str]()
    opened = wallet.channel(payee).channel_id

    def behave(method: str, pass_on: Callable[[], bytes]) -> Answer:
        asked.append(method)
        return 200, pass_on()

    with proxy(chain.url, behave) as url:
        channels = Chain(url, chain.deployment).channels
        looks = [channels.events_for(payee, first, ()) for _ in range(SURE + 3)]
        assert all(look == looks[0] for look in looks)
        assert [event.channel_id for event in looks[0][0]] == [opened]
        assert asked.count("eth_getLogs") == SURE
        second = wallet.channel(payee).channel_id
        events, _ = channels.events_for(payee, first, ())
        assert [event.channel_id for event in events] == [opened, second]
        # A block that takes the place of another is another block.
        ask(chain, "anvil_mine", hex(1))
        channels.events_for(payee, first, ())
        assert asked.count("eth_getLogs") == SURE + 2


def test_who_looks_at_the_same_time_shares_a_question_and_nobody_else_does(chain: Chain) -> None:
    asked, both = list[str](), threading.Barrier(2)

    def behave(method: str, pass_on: Callable[[], bytes]) -> Answer:
        asked.append(method)
        return 200, pass_on()

    def look(_: int) -> tuple[int, bytes]:
        both.wait()
        return there.tip(within=60)

    with proxy(chain.url, behave) as url:
        there = Chain(url, chain.deployment)
        asked.clear()
        with ThreadPoolExecutor(2) as pool:
            looks = list(pool.map(look, range(2)))
        assert looks == [chain.tip()] * 2
        assert asked == ["eth_getBlockByNumber"]
        ask(chain, "anvil_mine", hex(1))
        assert there.tip(within=60) == looks[0]
        assert there.tip() == chain.tip() != looks[0]
