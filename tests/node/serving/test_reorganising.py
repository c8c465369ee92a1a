"""C9: a provider's money on a chain that replaces blocks, and on nodes that know less than others."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from eth_account import Account as Accounts

from hypercluster.market.chain import Chain
from hypercluster.market.errors import Refusal, VoucherRefused
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.units import HCT
from tests.market.chain.blocks import ask
from tests.market.chain.reorganising import replaced
from tests.market.proxy import Answer, proxy
from tests.node.helpers.providers import FREE, Wallet
from tests.node.serving.test_collector import SOMEBODY, WORTH, collector_of, pay


def mine(chain: Chain, blocks: int) -> None:
    ask(chain, "anvil_mine", hex(blocks))


async def test_c9_an_opening_that_vanished_ends_its_sessions(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    """C9: nothing more is taken over a channel whose opening the chain took back."""
    collector = collector_of(chain, ledger, operator)
    await collector.watch()
    with replaced(chain):
        paying = wallet.channel(operator)
        await pay(collector, paying, 10)
        account = await collector.admit_channel(paying.descriptor, SOMEBODY)
        await collector.watch()
    await collector.watch()
    with pytest.raises(VoucherRefused) as refused:
        account.channel.admit(1, *paying.authorise(1, FREE))
    assert refused.value.reason is Refusal.CLOSING
    before = chain.web3.eth.get_transaction_count(collector._claims._sender.account.address)
    for _ in range(4):
        await collector.watch()
        assert await collector.claim() == 0
    assert chain.web3.eth.get_transaction_count(collector._claims._sender.account.address) == before
    assert account.channel_id not in collector.known
    row = ledger.payee.channel(account.channel_id)
    assert row is not None
    assert not row.ended, "it may come back, and what it owes with it"


async def test_c9_an_opening_that_comes_back_is_paid_from_again(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    collector = collector_of(chain, ledger, operator)
    await collector.watch()
    with replaced(chain):
        paying = wallet.channel(operator)
        await pay(collector, paying, 10)
        await collector.watch()
    await collector.watch()
    account = collector.accounts.get(paying.channel_id)
    assert account is not None
    assert account.channel.close_at
    wallet.channel(operator)  # what was lost goes out again before the next call of its sender
    await collector.watch()
    assert account.channel.close_at == 0
    await pay(collector, paying, 10)
    assert await collector.claim() == 20


async def test_c9_a_request_to_close_in_a_block_that_was_read(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    """C9: the block that was the latest is replaced by one with the request in it; it is claimed in time."""
    collector = collector_of(chain, ledger, operator, multiple=10**9)
    paying = wallet.channel(operator)
    await collector.watch()
    await pay(collector, paying, WORTH)
    await collector.watch()
    taken = ask(chain, "evm_snapshot")
    mine(chain, 1)
    await collector.watch()
    ask(chain, "evm_revert", taken)
    chain.channels.request_close(wallet.sender, paying.descriptor)
    mine(chain, 1)
    await collector.watch()
    assert chain.token.balance(operator) == WORTH


async def test_c9_a_top_up_that_vanished_blocks_no_other_channel(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    """C9: the contract stops at the one voucher that is beyond its deposit now; the others are claimed."""
    collector = collector_of(chain, ledger, operator)
    bad, *good = (wallet.channel(operator) for _ in range(4))
    await collector.watch()
    for each in good:
        await pay(collector, each, WORTH)
    with replaced(chain):
        chain.channels.top_up(wallet.sender, bad.descriptor, HCT)
        bad.channel.topped_up(2 * HCT)
        await collector.watch()
        await pay(collector, bad, HCT + WORTH)
    await collector.watch()
    account = collector.accounts.get(bad.channel_id)
    assert account is not None
    assert account.channel.deposit == HCT
    assert await collector.claim() == 3 * WORTH
    assert chain.token.balance(operator) == 3 * WORTH
    assert await collector.claim() == 0
    for each in good:
        assert chain.channels.state(each.channel_id).settled == WORTH


async def test_c9_a_claim_that_vanished_is_claimed_again(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    collector = collector_of(chain, ledger, operator)
    paying = wallet.channel(operator)
    await pay(collector, paying, WORTH)
    await collector.watch()
    with replaced(chain):
        assert await collector.claim() == WORTH
        await collector.watch()
    await collector.watch()
    assert await collector.claim() == WORTH
    assert chain.token.balance(operator) == WORTH


async def test_c9_deposits_count_after_their_confirmations(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    """C9: neither an opening nor a top-up counts before three blocks followed; a request to close does at once."""
    careful = Chain(chain.url, chain.deployment, confirmations=3)
    collector = collector_of(careful, ledger, operator, multiple=10**9)
    paying = wallet.channel(operator)
    await collector.watch()
    with pytest.raises(VoucherRefused, match="too new") as refused:
        await collector.admit_channel(paying.descriptor, SOMEBODY)
    assert refused.value.reason is Refusal.UNKNOWN_CHANNEL
    mine(chain, 3)
    await pay(collector, paying, WORTH)
    chain.channels.top_up(wallet.sender, paying.descriptor, HCT)
    await collector.watch()
    account = await collector.admit_channel(paying.descriptor, SOMEBODY)
    assert account.channel.deposit == HCT
    mine(chain, 3)
    await collector.watch()
    for _ in range(20):
        if account.channel.deposit == 2 * HCT:
            break
        await collector.watch()
    assert account.channel.deposit == 2 * HCT
    chain.channels.request_close(wallet.sender, paying.descriptor)
    await collector.watch()
    assert chain.token.balance(operator) == WORTH
    assert account.channel.close_at


async def test_c9_an_end_counts_after_its_confirmations(chain: Chain, ledger: Ledger, wallet: Wallet) -> None:
    """C9: a channel that was withdrawn from is forgotten for good only when that is final."""
    operator = str(Accounts.create().address)
    careful = Chain(chain.url, chain.deployment, confirmations=3)
    collector = collector_of(careful, ledger, operator)
    paying = wallet.channel(operator)
    mine(chain, 3)
    await collector.watch()
    await pay(collector, paying, WORTH)
    with replaced(chain, blocks=5):
        chain.channels.request_close(wallet.sender, paying.descriptor)
        ask(chain, "evm_increaseTime", chain.channels.grace_seconds + 1)
        chain.channels.withdraw(wallet.sender, paying.descriptor)
        await collector.watch()
        row = ledger.payee.channel(paying.channel_id)
        assert row is not None
        assert not row.ended
        assert await collector.claim() == 0
    await collector.watch()
    assert await collector.claim() == WORTH


async def test_c9_a_node_of_a_pool_that_has_not_the_latest_events(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    """C9: the height comes from one node of a pool and the events from another that is behind it."""
    behind: list[int] = []

    def lag(method: str, asked: Callable[[], bytes]) -> Answer:
        answer = asked()
        if method == "eth_getLogs" and behind:
            document = json.loads(answer)
            document["result"] = [
                each for each in document["result"] if int(each["blockNumber"], 16) < behind[0]
            ]
            answer = json.dumps(document).encode()
        return 200, answer

    with proxy(chain.url, lag) as url:
        collector = collector_of(Chain(url, chain.deployment), ledger, operator, multiple=10**9)
        paying = wallet.channel(operator)
        await collector.watch()
        await pay(collector, paying, WORTH)
        await collector.watch()
        chain.channels.request_close(wallet.sender, paying.descriptor)
        behind.append(chain.block_number())
        account = collector.accounts.get(paying.channel_id)
        assert account is not None
        account.asked = 10**9 - 1  # so that it is not this one's turn to be looked at whatever the events say
        await collector.watch()
        behind.clear()
        mine(chain, 1)
        account.asked = 0
        await collector.watch()
    assert chain.token.balance(operator) == WORTH


async def test_c9_a_node_of_a_pool_that_does_not_know_a_channel_yet(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    """C9: an answer or two of a node that is behind end no channel."""
    ignorant = json.dumps({"jsonrpc": "2.0", "id": 0, "result": "0x" + "00" * 128}).encode()
    wrong: list[int] = []

    def lag(method: str, asked: Callable[[], bytes]) -> Answer:
        if method == "eth_call" and wrong:
            wrong.pop()
            return 200, ignorant
        return 200, asked()

    with proxy(chain.url, lag) as url:
        collector = collector_of(Chain(url, chain.deployment), ledger, operator)
        paying = wallet.channel(operator)
        await pay(collector, paying, WORTH)
        wrong += [1, 1]
        account = collector.accounts.get(paying.channel_id)
        await collector.watch()
        assert account is not None
        assert account.channel.close_at
        await collector.watch()
        await collector.watch()
        assert account.channel.close_at == 0
        assert await collector.claim() == WORTH
