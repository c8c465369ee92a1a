"""A call is executed once, or said not to be, whatever the way to the chain does with requests and answers."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import ChainError, NodeUnreachable, TransactionTimeout
from tests.market.chain.blocks import ask, mining, transfer
from tests.market.chain.reorganising import replaced
from tests.market.proxy import Answer, proxy

SENDING = "eth_sendRawTransaction"
SCHEDULES = 40
HIGH_FEE = 50 * 10**9
"""base fee in wei a gas, far above what was offered"""


class Way:
    """What a way to the chain does with each transaction that is sent over it, in turn; then it is a good one."""

    def __init__(self, *does: str) -> None:
        self.does = list(does)
        self.later: list[threading.Thread] = []

    def __call__(self, method: str, ask: Callable[[], bytes]) -> Answer:
        if method != SENDING or not self.does:
            return 200, ask()
        match self.does.pop(0):
            case "lose the request":
                return None
            case "lose the answer":
                ask()
                return None
            case "fail afterwards":
                ask()
                return 503, b"busy"
            case "repeat":
                ask()
                return 200, ask()
            case "deliver late":
                self.later.append(threading.Timer(0.3, ask))
                self.later[-1].start()
                return None
            case "limit":
                return 200, json.dumps(
                    {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "request limit"}}
                ).encode()
        return 200, ask()

    def over(self) -> None:
        for each in self.later:
            each.join()


TROUBLES = (
    "lose the request",
    "lose the answer",
    "fail afterwards",
    "repeat",
    "deliver late",
    "limit",
    "pass",
)


@contextmanager
def over(chain: Chain, way: Way, account: LocalAccount) -> Iterator[tuple[Chain, Sender]]:
    with proxy(chain.url, way) as url:
        there = Chain(url, chain.deployment)
        yield there, Sender(there, account, patience=20)
    way.over()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_c6_one_trouble_on_the_way(chain: Chain, accounts: list[LocalAccount], trouble: str) -> None:
    to, way = accounts[6].address, Way(trouble)
    before, count = chain.token.balance(to), chain.web3.eth.get_transaction_count
    nonce = count(accounts[0].address)
    with over(chain, way, accounts[0]) as (there, sender):
        there.token.transfer(sender, to, 100)
    assert chain.token.balance(to) == before + 100
    assert count(accounts[0].address) == nonce + 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_c6_many_troubles_on_the_way(chain: Chain, accounts: list[LocalAccount], seed: int) -> None:
    """C6: what was said to be sent happened once, and what was said not to be did not; the rest may be either."""
    rng, to = random.Random(seed), accounts[6].address
    before, sent, maybe = chain.token.balance(to), 0, 0
    for number in range(SCHEDULES // 4):
        way = Way(*rng.choices(TROUBLES, k=rng.randint(1, 6)))
        amount = 1 << number
        with over(chain, way, accounts[0]) as (there, sender):
            try:
                there.token.transfer(sender, to, amount)
                sent += amount
            except TransactionTimeout:
                maybe += amount
            except NodeUnreachable:
                pass
    got = chain.token.balance(to) - before
    assert got & ~(sent | maybe) == 0
    assert got & sent == sent


@pytest.fixture
def quick_bumps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypercluster.market.chain.sender.BUMP_SECONDS", 0.5)
    monkeypatch.setattr("hypercluster.market.chain.sender.CHECK_SECONDS", 0.2)


@pytest.mark.usefixtures("by_hand", "quick_bumps")
def test_c10_a_fee_that_no_longer_reaches_is_raised(chain: Chain, accounts: list[LocalAccount]) -> None:
    """C10: the base fee rises far above what was offered; neither this transaction nor the next is stuck behind it."""
    sender, to = Sender(chain, accounts[0]), accounts[6].address
    before = chain.token.balance(to)
    first = sender.submit("to transfer HCT", chain.token.address, transfer(chain, to, 1))
    assert int(first.call["maxFeePerGas"]) < HIGH_FEE
    with mining(chain, HIGH_FEE):
        sender.wait(first, 30)
        sender.transact("to transfer HCT", chain.token.address, transfer(chain, to, 2))
    assert len(first.versions) > 1
    assert chain.token.balance(to) == before + 3


@pytest.mark.usefixtures("by_hand", "quick_bumps")
def test_c18_one_that_nobody_waits_for_blocks_nobody(chain: Chain, accounts: list[LocalAccount]) -> None:
    """C18: the node forgets a transaction that was sent and left alone; the next one brings it back."""
    sender, to = Sender(chain, accounts[0]), accounts[6].address
    before = chain.balance(to)
    left = sender.submit("to send coin", to, "0x", 1)
    ask(chain, "anvil_dropTransaction", "0x" + left.transaction.hex())
    after = sender.submit("to send coin", to, "0x", 2)
    with mining(chain):
        sender.wait(after, 30)
    assert chain.balance(to) == before + 3


def test_c9_what_a_reorganisation_lost_goes_out_again(chain: Chain, accounts: list[LocalAccount]) -> None:
    """C9: two calls are taken back with their blocks; the next one of the same sender brings them along."""
    sender, to = Sender(chain, accounts[8], patience=30), accounts[6].address
    before = chain.balance(to)
    with replaced(chain):
        sender.transact("to send coin", to, "0x", 1)
        sender.transact("to send coin", to, "0x", 2)
    assert chain.balance(to) == before
    sender.transact("to send coin", to, "0x", 4)
    assert chain.balance(to) == before + 7


def test_a_chain_that_is_not_there_was_sent_nothing(chain: Chain, accounts: list[LocalAccount]) -> None:
    way = Way()
    with proxy(chain.url, way) as url:
        there = Chain(url, chain.deployment)
    with pytest.raises(ChainError) as refused:
        Sender(there, accounts[0]).transact("to send coin", accounts[6].address, "0x", 1)
    assert isinstance(refused.value, NodeUnreachable)
