"""What a node has earned: what this chain knows of, what another one knew, and what a claim costs."""

from __future__ import annotations

import pytest
import trio
from eth_account import Account as Accounts

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.claiming import ClaimRule
from hypercluster.market.money.units import HCT
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain, channel_salt
from hypercluster.node.network.budgets import LOCAL, Source
from hypercluster.node.serving.books import LosingClaim, books_of, claim_all, outlook_of
from hypercluster.node.serving.collector import Collector
from hypercluster.node.testnet.faucet import give
from tests.node.helpers.providers import FREE, Wallet


@pytest.fixture(scope="module")
def sender(chain: Chain) -> Sender:
    node = Accounts.create()
    give(chain, node.address, 0)
    return Sender(chain, node)


def collector_of(chain: Chain, ledger: Ledger, sender: Sender, operator: str) -> Collector:
    rule = ClaimRule(multiple=0)
    return Collector(operator=operator, node=operator, chain=chain, sender=sender, ledger=ledger, rule=rule)


async def paid(collector: Collector, wallet: Wallet, operator: str, amount: int) -> None:
    """A channel of this chain, with a voucher that was stored."""
    paying = wallet.channel(operator)
    account = await collector.admit_channel(paying.descriptor, Source("somebody", LOCAL))
    account.channel.admit(amount, *paying.authorise(amount, FREE))
    await collector.store(account)


def earlier(ledger: Ledger, wallet: Wallet, operator: str, domain: VoucherDomain, amount: int) -> bytes:
    """A channel of a chain that is no more: in the ledger with its voucher, and nowhere else."""
    salt = channel_salt(operator, amount % 2**40)
    descriptor = ChannelDescriptor(wallet.sender.address, operator, wallet.sender.address, salt)
    row = ledger.payee.adopt(domain, descriptor, deposit=HCT)
    ledger.payee.store_voucher(row.channel_id, amount, bytes(64), amount)
    return row.channel_id


async def test_x3_channels_of_a_chain_that_was_replaced_are_listed_apart(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str, sender: Sender
) -> None:
    """X3: by contract and chain id; and a reset chain may have both, but not the channels."""
    collector = collector_of(chain, ledger, sender, operator)
    await paid(collector, wallet, operator, 500)
    here = chain.channels.domain
    reset = earlier(ledger, wallet, operator, here, 70)
    other_chain = earlier(ledger, wallet, operator, VoucherDomain(here.contract, here.chain_id + 1), 80)
    other_contract = earlier(ledger, wallet, operator, VoucherDomain(operator, here.chain_id), 90)
    books = books_of(ledger, chain)
    assert [row.best for row in books.here] == [500]
    assert books.unclaimed_wei == 500
    assert {row.channel_id for row in books.elsewhere} == {reset, other_chain, other_contract}
    assert outlook_of(books, chain, ClaimRule()).owed_wei == 500


async def test_x3_a_node_neither_claims_nor_watches_what_its_chain_does_not_know(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str, sender: Sender
) -> None:
    """X3: after a reset no gas is spent on channels of the old chain, which would bring nothing."""
    earlier(ledger, wallet, operator, chain.channels.domain, 10**18)
    collector = collector_of(chain, ledger, sender, operator)
    await collector.load()
    with trio.fail_after(300):
        await collector.watch()
        coin = chain.balance(sender.address)
        assert await collector.claim() == 0
    assert chain.balance(sender.address) == coin


async def test_o1_a_claim_that_loses_money_says_so_and_can_be_forced(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str, sender: Sender
) -> None:
    """O1: by hand too, gas is weighed; what it took is told to the wei."""
    collector = collector_of(chain, ledger, sender, operator)
    await paid(collector, wallet, operator, 500)
    await paid(collector, wallet, operator, 300)
    books = books_of(ledger, chain)
    outlook = outlook_of(books, chain, ClaimRule(hct_per_coin=1000))
    assert outlook.owed_wei == 800 < outlook.gas_wei
    assert not outlook.due
    coin = chain.balance(sender.address)
    with pytest.raises(LosingClaim, match="--force"):
        claim_all(ledger, chain, sender, books.unclaimed, outlook, force=False)
    assert chain.balance(sender.address) == coin
    done = claim_all(ledger, chain, sender, books.unclaimed, outlook, force=True)
    assert (done.received_wei, done.channels) == (800, 2)
    assert coin - chain.balance(sender.address) == done.gas_coin_wei > 0
    assert chain.token.balance(operator) == 800
    assert books_of(ledger, chain).unclaimed == []


async def test_o1_a_claim_that_is_worth_it_needs_no_force(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str, sender: Sender
) -> None:
    """O1: at a rate at which the gas is worth little."""
    collector = collector_of(chain, ledger, sender, operator)
    await paid(collector, wallet, operator, 500)
    books = books_of(ledger, chain)
    outlook = outlook_of(books, chain, ClaimRule(hct_per_coin=0))
    assert (outlook.due, outlook.net_wei) == (True, 500)
    assert claim_all(ledger, chain, sender, books.unclaimed, outlook, force=False).received_wei == 500
