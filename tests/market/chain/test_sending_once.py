"""A call is executed once, or said not to be, whatever the way to the chain does with requests and answers."""

from __future__ import annotations

import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import ChainError, NodeUnreachable
from tests.market.chain.blocks import ask, mining, transfer
from tests.market.chain.reorganising import replaced
from tests.market.chain.troubles import TROUBLES, Way, fuzz, over
from tests.market.proxy import proxy

SCHEDULES = 12
HIGH_FEE = 50 * 10**9
"""base fee in wei a gas, far above what was offered"""


@pytest.mark.parametrize("trouble", TROUBLES)
def test_c6_one_trouble_on_the_way(chain: Chain, accounts: list[LocalAccount], trouble: str) -> None:
    to, way = accounts[6].address, Way(trouble)
    before, count = chain.token.balance(to), chain.web3.eth.get_transaction_count
    nonce = count(accounts[0].address)
    with over(chain, way, accounts[0]) as (there, sender):
        there.token.transfer(sender, to, 100)
    assert chain.token.balance(to) == before + 100
    assert count(accounts[0].address) == nonce + 1


def test_c6_many_troubles_on_the_way(chain: Chain, accounts: list[LocalAccount]) -> None:
    """C6: the short form of `make fuzz-sending`."""
    told, wrong = fuzz(chain, accounts[0], SCHEDULES, seed=1)
    assert told.total() == SCHEDULES
    assert not wrong


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
