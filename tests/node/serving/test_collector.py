"""The provider's money on a real chain: what is admitted, kept, watched and claimed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
import trio.testing
from eth_account import Account as Accounts

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import NodeUnreachable, Refusal, VoucherRefused
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.claiming import CLAIM_BATCH, ClaimRule
from hypercluster.market.money.units import HCT
from hypercluster.market.money.voucher import channel_salt
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.network.budgets import BOUNDS, LOCAL, Source
from hypercluster.node.serving.collector import Collector
from hypercluster.node.testnet.faucet import give
from tests.market.proxy import hanging
from tests.node.helpers.providers import FREE, Wallet

SOMEBODY = Source("somebody", LOCAL)
WORTH = HCT // 2
"""of a channel of 1 HCT, far more than the gas of claiming it"""


@pytest.fixture
def collector(chain: Chain, ledger: Ledger, operator: str) -> Collector:
    return collector_of(chain, ledger, operator)


def collector_of(chain: Chain, ledger: Ledger, operator: str, multiple: int = 0) -> Collector:
    node = Accounts.create()
    give(chain, node.address, 0)
    return Collector(
        operator=operator,
        node=operator,
        chain=chain,
        sender=Sender(chain, node),
        ledger=ledger,
        rule=ClaimRule(hct_per_coin=1000, multiple=multiple),
    )


async def pay(collector: Collector, paying: OutgoingAccount, amount: int) -> None:
    """What a session does for one step."""
    account = await collector.admit_channel(paying.descriptor, SOMEBODY)
    account.channel.admit(amount, *paying.authorise(amount, FREE))
    await collector.store(account)
    paying.acknowledge(amount, account.channel.billed, FREE)


@asynccontextmanager
async def chain_lost(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """For as long as the block lasts the chain does not say what a channel is."""

    def lost(channel_id: bytes) -> None:
        raise NodeUnreachable("The node at http://127.0.0.1:9 does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(chain.channels, "state", lost)
        yield


async def test_vouchers_become_money_on_chain(
    collector: Collector, wallet: Wallet, chain: Chain, operator: str
) -> None:
    paying = wallet.channel(operator)
    await pay(collector, paying, 700)
    await pay(collector, paying, 300)
    assert await collector.claim() == 1000
    assert chain.token.balance(operator) == 1000
    assert await collector.claim() == 0
    await pay(collector, paying, 5)
    assert await collector.claim() == 5
    assert chain.token.balance(operator) == 1005


async def test_what_is_claimed_while_its_step_is_computed_is_in_the_ledger_first(
    collector: Collector, wallet: Wallet, ledger: Ledger, operator: str
) -> None:
    paying = wallet.channel(operator)
    account = await collector.admit_channel(paying.descriptor, SOMEBODY)
    await collector.bill(account, 700, *paying.authorise(700, FREE))
    assert ledger.payee.channels(collector.domain) == []
    assert await collector.claim() == 700
    # A node that is killed now knows of all that it was paid.
    (row,) = ledger.payee.channels(collector.domain)
    assert (row.best, row.billed, row.settled) == (700, 700, 700)


async def test_more_channels_than_a_batch_are_all_claimed(
    collector: Collector, wallet: Wallet, chain: Chain, operator: str
) -> None:
    channels = [wallet.channel(operator, 1000) for _ in range(CLAIM_BATCH + 3)]
    await collector.watch()
    for number, paying in enumerate(channels):
        await pay(collector, paying, number + 1)
    total = sum(range(1, len(channels) + 1))
    assert await collector.claim() == total
    assert chain.token.balance(operator) == total


async def test_small_change_waits_until_it_is_worth_its_gas(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    patient = collector_of(chain, ledger, operator, multiple=10)
    paying = wallet.channel(operator, 100 * HCT)
    await pay(patient, paying, 1)
    assert await patient.claim() == 0
    assert await patient.claim(last=True) == 0
    gas = chain.channels.settle_cost().of(1) * 1000
    await pay(patient, paying, 2 * gas)
    assert await patient.claim() == 0
    assert await patient.claim(last=True) == 2 * gas + 1


async def test_whoever_asks_to_close_is_claimed_from_and_refused(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    patient = collector_of(chain, ledger, operator, multiple=10**9)
    paying = wallet.channel(operator)
    await patient.watch()
    await pay(patient, paying, WORTH)
    await patient.watch()
    assert chain.token.balance(operator) == 0
    account = await patient.admit_channel(paying.descriptor, SOMEBODY)
    chain.channels.request_close(wallet.sender, paying.descriptor)
    await patient.watch()
    assert chain.token.balance(operator) == WORTH
    with pytest.raises(VoucherRefused) as refused:
        account.channel.admit(1, *paying.authorise(1, FREE))
    assert refused.value.reason is Refusal.CLOSING
    with pytest.raises(VoucherRefused) as refused:
        await patient.admit_channel(paying.descriptor, SOMEBODY)
    assert refused.value.reason is Refusal.CLOSING
    # A top-up calls it off, for the session that is open as well.
    chain.channels.top_up(wallet.sender, paying.descriptor, HCT)
    await patient.watch()
    assert (account.channel.close_at, account.channel.deposit) == (0, 2 * HCT)


async def test_a_request_to_close_is_not_missed_when_the_chain_is_lost_in_between(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = collector_of(chain, ledger, operator, multiple=10**9)
    paying = wallet.channel(operator)
    await patient.watch()
    await pay(patient, paying, WORTH)
    chain.channels.request_close(wallet.sender, paying.descriptor)
    async with chain_lost(chain, monkeypatch):
        with pytest.raises(NodeUnreachable):
            await patient.watch()  # has read the event, and cannot read the channel
    await patient.watch()
    assert chain.token.balance(operator) == WORTH


async def test_what_an_earlier_run_was_paid_is_claimed_by_the_next(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    paying = wallet.channel(operator)
    await pay(collector_of(chain, ledger, operator), paying, WORTH)
    chain.channels.request_close(wallet.sender, paying.descriptor)  # while nobody watches
    again = collector_of(chain, ledger, operator, multiple=10**9)
    await again.load()
    await again.watch()
    assert chain.token.balance(operator) == WORTH


async def test_c17_who_closes_for_a_wei_costs_no_gas(
    chain: Chain, ledger: Ledger, wallet: Wallet, operator: str
) -> None:
    """C17: a closing is claimed where that brings more than its gas, together with others where it does then."""
    patient = collector_of(chain, ledger, operator, multiple=10**9)
    paying, other = wallet.channel(operator), wallet.channel(operator)
    await patient.watch()
    await pay(patient, paying, 1)
    await pay(patient, other, WORTH)
    chain.channels.request_close(wallet.sender, paying.descriptor)
    await patient.watch()
    await patient.watch()
    assert chain.token.balance(operator) == 0
    chain.channels.request_close(wallet.sender, other.descriptor)
    await patient.watch()
    assert chain.token.balance(operator) == WORTH


async def test_an_ended_channel_is_forgotten_and_its_sessions_refused(
    chain: Chain, ledger: Ledger, wallet: Wallet
) -> None:
    owner = Accounts.create()
    give(chain, owner.address, 0)
    collector = collector_of(chain, ledger, owner.address)
    paying = wallet.channel(owner.address)
    await collector.watch()
    await pay(collector, paying, 10)
    account = await collector.admit_channel(paying.descriptor, SOMEBODY)
    best = account.channel.best, account.channel.signature
    chain.channels.close(Sender(chain, owner), paying.descriptor, *best)
    await collector.watch()
    with pytest.raises(VoucherRefused):
        account.channel.admit(1, *paying.authorise(1, FREE))
    assert await collector.claim() == 0
    row = ledger.payee.channel(paying.channel_id)
    assert row is not None
    assert (row.ended, row.settled) == (True, 10)


async def test_channels_that_are_not_ours_or_nobodys_are_refused(
    collector: Collector, wallet: Wallet, operator: str
) -> None:
    foreign = wallet.channel(Accounts.create().address)
    for descriptor, reason in (
        (foreign.descriptor, Refusal.FOREIGN_CHANNEL),
        (replace(foreign.descriptor, payee=operator), Refusal.FOREIGN_CHANNEL),
        (
            replace(foreign.descriptor, payee=operator, salt=channel_salt(operator, 1)),
            Refusal.UNKNOWN_CHANNEL,
        ),
    ):
        with pytest.raises(VoucherRefused) as refused:
            await collector.admit_channel(descriptor, SOMEBODY)
        assert refused.value.reason is reason


async def test_a_channel_that_was_opened_a_moment_ago_is_found_by_the_next_watch(
    collector: Collector, wallet: Wallet, chain: Chain, operator: str
) -> None:
    """Who asked too often waits for that: it must not share a block from before."""
    await collector.watch()
    nobodys = wallet.channel(Accounts.create().address).descriptor
    before = chain.tip()
    paying = wallet.channel(operator)
    look_ups = BOUNDS["channel look-up"].per_peer
    assert look_ups is not None
    for number in range(int(look_ups[1])):
        asked = replace(nobodys, payee=operator, salt=channel_salt(operator, number))
        with pytest.raises(VoucherRefused):
            await collector.admit_channel(asked, SOMEBODY)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collector.admit_channel, paying.descriptor, SOMEBODY)
            await trio.testing.wait_all_tasks_blocked()
            assert chain.tip(within=60.0) == before
            await collector.watch(within=60.0)


async def test_two_sessions_that_open_at_once_share_the_account(
    collector: Collector, wallet: Wallet, operator: str
) -> None:
    paying = wallet.channel(operator)
    found = []

    async def open_() -> None:
        found.append(await collector.admit_channel(paying.descriptor, SOMEBODY))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(open_)
    assert len(found) == 5
    assert len(set(map(id, found))) == 1


async def test_vouchers_stored_at_once_never_lower_what_is_kept(
    collector: Collector, wallet: Wallet, operator: str, ledger: Ledger
) -> None:
    paying = wallet.channel(operator)
    await pay(collector, paying, 1)

    async def one() -> None:
        await pay(collector, paying, 10)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    row = ledger.payee.channel(paying.channel_id)
    assert row is not None
    assert row.best == row.billed == 201
    assert collector.domain.recover(row.channel_id, row.best, row.signature) == paying.descriptor.signer


async def test_x4_what_a_hanging_chain_left_unclaimed_is_claimed_at_the_next_start(
    chain: Chain,
    anvil: str,
    ledger: Ledger,
    wallet: Wallet,
    operator: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """X4: the node ends within its bound while the chain says nothing, and nothing is lost by it."""
    monkeypatch.setattr("hypercluster.node.serving.claims.ANSWER_SECONDS", 0.5)
    # What a claim may take altogether is not waited for: no chain is that patient.
    monkeypatch.setattr("hypercluster.node.serving.claims.LAST_CLAIM_SECONDS", 1e6)
    paying = wallet.channel(operator)
    with hanging(anvil) as (url, hangs):
        collector = collector_of(Chain(url, chain.deployment), ledger, operator)
        await collector.load()
        await pay(collector, paying, 700)
        async with collector.claiming_at_the_end():
            hangs.set()
        assert "the chain did not answer in time" in caplog.text
    assert chain.token.balance(operator) == 0
    again = collector_of(chain, ledger, operator)
    await again.load()
    assert await again.claim() == 700
    assert chain.token.balance(operator) == 700
