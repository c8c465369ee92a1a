"""The client's money on a real chain: channels opened, topped up, taken up again; vouchers within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from eth_account import Account as Accounts

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import InsufficientFunds, Overbilled, OverDeposit
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.units import HCT
from hypercluster.node.client.account import Recipient
from hypercluster.node.client.limits import WalletLimits
from hypercluster.node.client.payer import Payer
from hypercluster.node.home.policy import WalletPolicy
from tests.market.chain.blocks import mining
from tests.node.helpers.providers import FREE, Wallet, new_wallet


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        yield ledger


@pytest.fixture
def wallet(chain: Chain) -> Wallet:
    return new_wallet(chain, 10 * HCT)


@pytest.fixture
def operators() -> list[Recipient]:
    """Two nodes of two operators."""
    return [Recipient(Accounts.create().address, Accounts.create().address) for _ in range(2)]


def payer_of(wallet: Wallet, ledger: Ledger) -> Payer:
    return Payer(
        chain=wallet.chain,
        payer=wallet.sender.address,
        wallet=lambda: wallet.sender,
        session_key=wallet.signer,
        ledger=ledger,
    )


async def test_channels_are_opened_once_with_what_is_needed(
    wallet: Wallet, ledger: Ledger, chain: Chain, operators: list[Recipient]
) -> None:
    payer = payer_of(wallet, ledger)
    first, second = operators
    before = chain.block_number()
    accounts = await payer.fund({first: 500, second: 5 * HCT}, deposit=HCT)
    assert chain.block_number() == before + 1  # both in one transaction
    deposits = [chain.channels.state(accounts[each].channel_id).deposit for each in operators]
    assert deposits == [HCT, 5 * HCT]
    assert chain.token.balance(wallet.sender.address) == 4 * HCT
    again = await payer.fund({first: 500, second: 5 * HCT}, deposit=HCT)
    assert again == accounts
    assert chain.block_number() == before + 1


async def test_two_nodes_of_one_operator_are_paid_over_channels_of_their_own(
    wallet: Wallet, ledger: Ledger, operators: list[Recipient]
) -> None:
    first, second = (Recipient(operators[0].operator, each.node) for each in operators)
    accounts = await payer_of(wallet, ledger).fund({first: 100, second: 200}, 0)
    assert accounts[first].channel_id != accounts[second].channel_id
    again = await payer_of(wallet, ledger).fund({second: 200, first: 100}, 0)
    assert {payee: account.channel_id for payee, account in again.items()} == {
        payee: account.channel_id for payee, account in accounts.items()
    }


async def test_what_is_short_is_topped_up(
    wallet: Wallet, ledger: Ledger, chain: Chain, operators: list[Recipient]
) -> None:
    payer = payer_of(wallet, ledger)
    account = (await payer.fund({operators[0]: 1000}, 0))[operators[0]]
    account.authorise(800, FREE)
    account.acknowledge(800, 800, FREE)
    with pytest.raises(OverDeposit):
        account.authorise(201, FREE)
    assert (await payer.fund({operators[0]: 1000}, 0))[operators[0]] is account
    assert chain.channels.state(account.channel_id).deposit == account.channel.deposit == 1800
    assert account.authorise(1000, FREE)[0] == 1800


async def test_two_at_once_open_one_channel(
    wallet: Wallet, ledger: Ledger, operators: list[Recipient]
) -> None:
    payer = payer_of(wallet, ledger)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(payer.fund, {operators[0]: 1000}, 0)
    assert len(ledger.payer.channels()) == 1


async def test_the_next_run_takes_the_channels_up(
    wallet: Wallet, ledger: Ledger, chain: Chain, operators: list[Recipient]
) -> None:
    payer = payer_of(wallet, ledger)
    account = (await payer.fund({operators[0]: 1000}, 0))[operators[0]]
    account.authorise(700, FREE)
    account.acknowledge(700, 700, FREE)
    await payer.save()
    before = chain.block_number()
    again = (await payer_of(wallet, ledger).fund({operators[0]: 300}, 0))[operators[0]]
    assert chain.block_number() == before
    assert again.descriptor == account.descriptor
    assert (again.channel.signed, again.channel.spent, again.channel.available) == (700, 700, 300)


async def test_a_voucher_that_was_claimed_without_work_for_it_stays_credit(
    wallet: Wallet, ledger: Ledger, chain: Chain, operators: list[Recipient], tmp_path: Path
) -> None:
    """A step failed and its voucher was claimed all the same: it pays for the next one, also in the next run; an old
    copy of the ledger takes what was claimed as spent.
    """
    payer = payer_of(wallet, ledger)
    account = (await payer.fund({operators[0]: 1000}, 0))[operators[0]]
    first, _ = account.authorise(500, FREE)
    account.acknowledge(500, 500, FREE)
    second, signature = account.authorise(200, FREE)
    account.release(200, FREE)
    await payer.save()
    chain.channels.settle(wallet.sender, account.descriptor, second, signature)
    again = (await payer_of(wallet, ledger).fund({operators[0]: 300}, 0))[operators[0]]
    assert (again.channel.signed, again.channel.spent, again.channel.available) == (700, 500, 500)
    with Ledger(f"sqlite:///{tmp_path / 'old.sqlite'}") as copy:
        copy.payer.add(account.domain, account.descriptor, 1000)
        copy.payer.store(account.channel_id, 500, 500)
        old = (await payer_of(wallet, copy).fund({operators[0]: 300}, 0))[operators[0]]
    assert (first, second, old.channel.spent, old.channel.available) == (500, 700, 700, 300)


@pytest.mark.parametrize("asked", ["another session key", "another wallet", "closing"])
async def test_channels_that_cannot_be_used_are_left_alone(
    wallet: Wallet, ledger: Ledger, chain: Chain, operators: list[Recipient], asked: str
) -> None:
    account = (await payer_of(wallet, ledger).fund({operators[0]: 1000}, 0))[operators[0]]
    if asked == "closing":
        chain.channels.request_close(wallet.sender, account.descriptor)
    elif asked == "another session key":
        wallet.session_key = bytes(Accounts.create().key)
    else:
        wallet = new_wallet(chain, HCT)
    other = (await payer_of(wallet, ledger).fund({operators[0]: 1000}, 0))[operators[0]]
    assert other.channel_id != account.channel_id
    assert chain.channels.state(other.channel_id).open


async def test_an_empty_wallet_can_be_filled_and_tried_again(
    chain: Chain, ledger: Ledger, operators: list[Recipient]
) -> None:
    wallet = new_wallet(chain, 10)
    payer = payer_of(wallet, ledger)
    with pytest.raises(InsufficientFunds):
        await payer.fund({operators[0]: 1000}, 0)
    assert [row.deposit for row in ledger.payer.channels()] == [0]
    chain.token.transfer(new_wallet(chain, HCT).sender, wallet.sender.address, HCT)
    for one in (payer, payer_of(wallet, ledger)):
        account = (await one.fund({operators[0]: 1000}, 0))[operators[0]]
        assert chain.channels.state(account.channel_id).deposit == 1000


async def test_the_wallet_stays_locked_while_no_money_moves(
    wallet: Wallet, ledger: Ledger, operators: list[Recipient]
) -> None:
    unlocked = 0

    def unlock() -> Sender:
        nonlocal unlocked
        unlocked += 1
        return wallet.sender

    payer = Payer(
        chain=wallet.chain,
        payer=wallet.sender.address,
        wallet=unlock,
        session_key=wallet.signer,
        ledger=ledger,
    )
    assert unlocked == 0
    account = (await payer.fund({operators[0]: 1000}, 0))[operators[0]]
    account.authorise(10, FREE)
    await payer.fund({operators[0]: 900}, 0)
    await payer.save()
    assert unlocked == 1


async def test_a_provider_is_believed_what_we_signed_and_no_more(
    wallet: Wallet, ledger: Ledger, operators: list[Recipient]
) -> None:
    account = (await payer_of(wallet, ledger).fund({operators[0]: 1000}, 0))[operators[0]]
    # Signed in another life, of which the ledger knows nothing.
    signature = account.domain.sign(account.session_key, account.channel_id, 600)
    with pytest.raises(Overbilled):
        account.resume(600, 601, signature)
    with pytest.raises(Overbilled):
        account.resume(601, 600, signature)
    assert (account.channel.signed, account.channel.spent) == (0, 0)
    account.resume(500, 600, signature)
    # The credit of 100 wei pays for the next step.
    assert account.authorise(100, FREE)[0] == 600
    assert account.channel.available == 400


async def test_channels_are_filled_as_the_policy_says(
    wallet: Wallet, ledger: Ledger, chain: Chain, operators: list[Recipient]
) -> None:
    payer = payer_of(wallet, ledger)
    payer.limits = WalletLimits(WalletPolicy(float_wei=1000, top_up_below_wei=300))
    account = (await payer.fund({operators[0]: 10}))[operators[0]]
    assert account.channel.deposit == 1000
    account.authorise(700, FREE)
    account.acknowledge(700, 700, FREE)
    assert (await payer.plan({operators[0]: 10})).deposits == ()
    await payer.fund({operators[0]: 10})
    assert account.channel.deposit == 1000, "300 are left"
    account.authorise(1, FREE)
    account.acknowledge(1, 701, FREE)
    assert (await payer.plan({operators[0]: 10})).deposit_wei == 701
    await payer.fund({operators[0]: 10})
    assert (account.channel.deposit, account.channel.available) == (1701, 1000)
    await payer.fund({operators[0]: 5000})
    assert account.channel.available == 5000, "a request that needs more gets it"
    assert chain.channels.state(account.channel_id).deposit == account.channel.deposit
    (row,) = ledger.payer.channels()
    assert row.gas == payer.gas_wei > 0


async def test_a_wallet_with_less_than_the_policy_wants_pays_what_is_needed(
    chain: Chain, ledger: Ledger, operators: list[Recipient]
) -> None:
    payer = payer_of(new_wallet(chain, 900), ledger)
    payer.limits = WalletLimits(WalletPolicy(float_wei=1000, top_up_below_wei=300))
    assert (await payer.plan({operators[0]: 100})).deposit_wei == 100
    account = (await payer.fund({operators[0]: 100}))[operators[0]]
    assert account.channel.deposit == 100


async def test_c9_what_was_deposited_is_relied_on_after_its_confirmations(
    wallet: Wallet, ledger: Ledger, chain: Chain, operators: list[Recipient]
) -> None:
    """C9: a client waits for as many blocks behind its opening, or its top-up, as HC_CONFIRMATIONS says."""
    careful = Chain(chain.url, chain.deployment, 4)
    payer = payer_of(replace(wallet, chain=careful), ledger)
    first, _ = operators
    blocks = []
    with mining(chain):
        for need in (500, HCT):
            account = (await payer.fund({first: need}))[first]
            now = chain.block_number()
            events, _ = chain.channels.events_for(first.operator, now - 60, [account.channel_id])
            blocks.append(now - max(event.block for event in events))
            # What was paid for is there also of the view that providers have.
            assert careful.channels.confirmed(account.channel_id).deposit >= need
    assert min(blocks) >= 4
