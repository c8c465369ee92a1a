"""Many transactions of one account at once, refused, forgotten and replaced ones among them."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import ChainError, Reverted, TransactionReplaced, TransactionTimeout
from hypercluster.market.money.signing import NOBODY
from hypercluster.market.money.voucher import ChannelDescriptor
from tests.market.chain.blocks import ask, mining, transfer


def test_eight_threads_send_from_one_account(chain: Chain, accounts: list[LocalAccount]) -> None:
    sender, to = Sender(chain, accounts[0]), accounts[6].address
    before = chain.token.balance(to)

    def send(number: int) -> bool:
        if number % 5:
            chain.token.transfer(sender, to, 1)
            return True
        with pytest.raises(Reverted, match="ERC20InvalidReceiver"):  # it must leave no hole among the nonces
            chain.token.transfer(sender, NOBODY, 1)
        return False

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(send, range(60)))
    assert sent.count(True) == 48
    assert chain.token.balance(to) == before + 48


def test_threads_that_open_channels_take_turns_with_permits(
    chain: Chain, accounts: list[LocalAccount]
) -> None:
    sender, other = Sender(chain, accounts[0]), accounts[6].address
    opened = [ChannelDescriptor(sender.address, other, other, secrets.token_bytes(32)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda channel: chain.channels.open(sender, channel, 5), opened))
    for channel in opened:
        assert chain.channels.state(chain.channels.domain.channel_id(channel)).deposit == 5


def test_two_senders_of_one_account_do_not_collide_for_long(
    chain: Chain, accounts: list[LocalAccount]
) -> None:
    senders, to = [Sender(chain, accounts[7]) for _ in range(2)], accounts[6].address
    before = chain.balance(to)

    def send(number: int) -> str | None:
        try:
            return senders[number % 2].transact("to send coin", to, "0x", 1 + number).transaction
        except TransactionReplaced:
            return None

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(send, range(40)))
    assert len(set(sent) - {None}) == len(sent) - sent.count(None) > 20
    assert chain.balance(to) == before + sum(1 + n for n, transaction in enumerate(sent) if transaction)


@pytest.mark.usefixtures("by_hand")
def test_many_wait_for_one_block(chain: Chain, accounts: list[LocalAccount]) -> None:
    sender, to = Sender(chain, accounts[0]), accounts[6].address
    pending = [
        sender.submit("to transfer HCT", chain.token.address, transfer(chain, to, n)) for n in range(10)
    ]
    nonces = [each.nonce for each in pending]
    assert nonces == [*range(nonces[0], nonces[0] + 10)]
    assert chain.receipt(pending[0].transaction) is None
    ask(chain, "evm_mine")
    assert len({sender.wait(each).block for each in pending}) == 1


@pytest.mark.usefixtures("by_hand")
def test_a_forgotten_transaction_is_sent_again(chain: Chain, accounts: list[LocalAccount]) -> None:
    sender, to = Sender(chain, accounts[0]), accounts[6].address
    first, second = (
        sender.submit("to transfer HCT", chain.token.address, transfer(chain, to, n)) for n in range(2)
    )
    ask(chain, "anvil_dropTransaction", "0x" + first.transaction.hex())
    ask(chain, "evm_mine")
    assert chain.receipt(second.transaction) is None  # it waits behind the gap
    with mining(chain):
        assert sender.wait(first, 30).block <= sender.wait(second, 30).block


@pytest.mark.usefixtures("by_hand")
def test_a_replaced_transaction_is_noticed(chain: Chain, accounts: list[LocalAccount]) -> None:
    sender, to = Sender(chain, accounts[0]), accounts[6].address
    pending = sender.submit("to transfer HCT", chain.token.address, transfer(chain, to, 1))
    rival: dict[str, Any] = {
        "nonce": pending.nonce,
        "to": to,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": 10**12,
        "maxPriorityFeePerGas": 10**11,
        "chainId": chain.chain_id,
    }
    chain.web3.eth.send_raw_transaction(accounts[0].sign_transaction(rival).raw_transaction)
    ask(chain, "evm_mine")
    with pytest.raises(TransactionReplaced, match="took the place"):
        sender.wait(pending)
    ask(chain, "evm_setAutomine", True)
    sender.transact("to transfer HCT", chain.token.address, transfer(chain, to, 1))


@pytest.mark.usefixtures("by_hand")
def test_patience_ends_and_the_account_goes_on(chain: Chain, accounts: list[LocalAccount]) -> None:
    sender, to = Sender(chain, accounts[0]), accounts[6].address
    pending = sender.submit("to transfer HCT", chain.token.address, transfer(chain, to, 1))
    with pytest.raises(TransactionTimeout, match="not mined within 0 s"):
        sender.wait(pending, 0.1)
    following = sender.submit("to transfer HCT", chain.token.address, transfer(chain, to, 2))
    assert following.nonce == pending.nonce + 1
    ask(chain, "evm_mine")
    assert sender.wait(pending).block == sender.wait(following).block


@pytest.mark.usefixtures("by_hand")
def test_what_fails_only_when_mined_is_explained(chain: Chain, accounts: list[LocalAccount]) -> None:
    """A payer that withdraws twice: the second one looks fine until the first is mined."""
    sender, rival, to = Sender(chain, accounts[0]), Sender(chain, accounts[8]), accounts[6].address
    ask(chain, "evm_setAutomine", True)
    chain.token.approve(sender, rival.address, 5)
    ask(chain, "evm_setAutomine", False)
    take = chain.token._contract.encode_abi("transferFrom", args=[sender.address, to, 5])
    refuse = chain.token._contract.encode_abi("approve", args=[rival.address, 0])
    # The tip decides the order within a block: the rival's comes last.
    pending = rival.submit("to take HCT", chain.token.address, take)
    nonce = chain.web3.eth.get_transaction_count(accounts[0].address)
    first = {
        "nonce": nonce,
        "to": chain.web3.to_checksum_address(chain.token.address),
        "data": refuse,
        "gas": 60_000,
        "maxFeePerGas": 10**12,
        "maxPriorityFeePerGas": 10**11,
        "chainId": chain.chain_id,
    }
    chain.web3.eth.send_raw_transaction(accounts[0].sign_transaction(first).raw_transaction)
    ask(chain, "evm_mine")
    with pytest.raises(ChainError, match=r"refused to take HCT: ERC20InsufficientAllowance"):
        rival.wait(pending)
