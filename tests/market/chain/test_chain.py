"""Bindings against the real contracts on a real chain: money moves, refusals are sentences."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from pathlib import Path

import coincurve
import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import (
    LOCAL_TERMS,
    Chain,
    Closed,
    CloseRequested,
    Deployment,
    DisputeTerms,
    Opened,
    Rpc,
    Sender,
    Settled,
    ToppedUp,
    deploy,
)
from hypercluster.market.errors import ChainError, InsufficientFunds, InvalidAmount, NodeUnreachable, Reverted
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.units import HCT, UINT96_MAX
from hypercluster.market.money.voucher import ChannelDescriptor
from hypercluster.node.testnet.anvil import running_anvil

KEY = coincurve.PrivateKey(b"\x07" * 32)


@pytest.fixture(scope="module")
def payer(snapshot: None, chain: Chain, accounts: list[LocalAccount]) -> Sender:
    """An account with plenty of HCT."""
    chain.token.transfer(Sender(chain, accounts[0]), accounts[1].address, 10**6 * HCT)
    return Sender(chain, accounts[1])


@pytest.fixture(scope="module")
def payee(snapshot: None, chain: Chain, accounts: list[LocalAccount]) -> Sender:
    return Sender(chain, accounts[2])


def descriptor(payer: Sender, payee: Sender) -> ChannelDescriptor:
    return ChannelDescriptor(payer.address, payee.address, address_of(KEY), secrets.token_bytes(32))


def voucher(chain: Chain, channel: ChannelDescriptor, cumulative: int) -> bytes:
    domain = chain.channels.domain
    return domain.sign(KEY, domain.channel_id(channel), cumulative)


def wait_seconds(chain: Chain, seconds: int) -> None:
    """Move the chain's clock forward."""
    chain.web3.provider.make_request("evm_increaseTime", [seconds])  # type: ignore[arg-type]
    chain.web3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]


def test_our_hashes_are_the_contracts(chain: Chain, payer: Sender, payee: Sender) -> None:
    channel, domain = descriptor(payer, payee), chain.channels.domain
    channel_id = domain.channel_id(channel)
    row = channel.payer, channel.payee, channel.signer, channel.salt
    assert chain.channels._read("channelIdOf", row) == channel_id
    assert chain.channels._read("DOMAIN_SEPARATOR") == domain.separator
    for cumulative in (0, 1, UINT96_MAX):
        assert chain.channels._read("voucherDigest", channel_id, cumulative) == domain.digest(
            channel_id, cumulative
        )


def test_a_channel_from_opening_to_the_payees_close(chain: Chain, payer: Sender, payee: Sender) -> None:
    channels, token = chain.channels, chain.token
    channel, start = descriptor(payer, payee), chain.block_number() + 1
    channel_id = channels.domain.channel_id(channel)
    mine, theirs = token.balance(payer.address), token.balance(payee.address)
    assert not channels.state(channel_id).exists

    opened = channels.open(payer, channel, 100)
    assert opened.cost_wei > 0
    channels.top_up(payer, channel, 50)
    assert channels.state(channel_id).deposit == 150
    channels.settle(payee, channel, 40, voucher(chain, channel, 40))
    channels.close(payee, channel, 70, voucher(chain, channel, 70))

    assert channels.state(channel_id).closed
    assert token.balance(payee.address) == theirs + 70
    assert token.balance(payer.address) == mine - 70
    assert token.allowance(payer.address, channels.address) == 0
    events, following = channels.events_for(payee.address, start, [channel_id])
    assert following == chain.block_number() + 1
    opening = events[0]
    assert isinstance(opening, Opened)
    assert opening.descriptor == channel
    assert opening.deposit == 100
    assert next(event for event in events if isinstance(event, ToppedUp)).deposit == 150
    paid = next(event for event in events if isinstance(event, Settled))
    assert (paid.cumulative, paid.paid, paid.payee) == (40, 40, payee.address)
    ending = events[-1]
    assert isinstance(ending, Closed)
    assert (ending.settled, ending.refunded) == (70, 80)
    assert {event.channel_id for event in events} == {channel_id}
    assert channels.events_for(payee.address, following) == ([], following)


def test_a_batch_settles_many_channels_at_once(chain: Chain, payer: Sender, payee: Sender) -> None:
    channels, theirs = chain.channels, chain.token.balance(payee.address)
    opened = [descriptor(payer, payee) for _ in range(10)]
    receipt = channels.open_many(payer, [(channel, 100 + number) for number, channel in enumerate(opened)])
    assert [event.deposit for event in channels.events_in(receipt) if isinstance(event, Opened)] == [
        *range(100, 110)
    ]
    claims = [(channel, number, voucher(chain, channel, number)) for number, channel in enumerate(opened)]
    receipt = channels.settle_batch(payer, payee.address, claims)  # anyone may submit
    assert chain.token.balance(payee.address) == theirs + 45
    assert len(channels.events_in(receipt)) == 9  # the row of nothing is passed over
    price = chain.gas_price()
    assert abs(channels.settle_cost().of(10) - receipt.gas_used * price) < 0.2 * receipt.gas_used * price
    channels.settle_batch(payee, payee.address, claims)
    assert chain.token.balance(payee.address) == theirs + 45


def test_the_payer_leaves_after_the_grace_period(chain: Chain, payer: Sender, payee: Sender) -> None:
    channels, channel = chain.channels, descriptor(payer, payee)
    channel_id, mine = channels.domain.channel_id(channel), chain.token.balance(payer.address)
    channels.open(payer, channel, 100)
    start = chain.block_number() + 1
    channels.request_close(payer, channel)
    events, _ = channels.events_for(payee.address, start, [channel_id])
    assert [type(event) for event in events] == [CloseRequested]
    assert channels.state(channel_id).close_at > chain.timestamp()
    assert channels.state(channel_id).open
    with pytest.raises(Reverted) as refusal:
        channels.withdraw(payer, channel)
    assert refusal.value.name == "GracePeriod"
    assert refusal.value.args_by_name["channelId"] == "0x" + channel_id.hex()
    wait_seconds(chain, channels.grace_seconds + 1)
    channels.settle(payee, channel, 30, voucher(chain, channel, 30))  # late, and still good
    channels.withdraw(payer, channel)
    assert chain.token.balance(payer.address) == mine - 30
    with pytest.raises(Reverted, match="ChannelExists"):
        channels.open(payer, channel, 100)


def test_refusals_name_the_error_and_its_figures(chain: Chain, payer: Sender, payee: Sender) -> None:
    channels, channel = chain.channels, descriptor(payer, payee)
    with pytest.raises(Reverted, match=r"refused to settle a channel: ChannelNotOpen\(channelId=0x"):
        channels.settle(payee, channel, 1, voucher(chain, channel, 1))
    channels.open(payer, channel, 100)
    with pytest.raises(Reverted) as over:
        channels.settle(payee, channel, 101, voucher(chain, channel, 101))
    assert (over.value.name, over.value.args_by_name["deposit"]) == ("OverDeposit", 100)
    with pytest.raises(Reverted, match="BadSignature"):
        channels.settle(payee, channel, 50, voucher(chain, channel, 51))
    with pytest.raises(Reverted, match="NotPayee"):
        channels.close(payer, channel)
    with pytest.raises(Reverted, match="NotPayer"):
        channels.request_close(payee, channel)
    with pytest.raises(InvalidAmount):
        channels.open(payee, channel, 100)
    with pytest.raises(InvalidAmount):
        channels.settle_batch(payee, payer.address, [(channel, 1, b"\0" * 64)])


def test_an_empty_account_is_told_what_it_lacks(
    chain: Chain, accounts: list[LocalAccount], payee: Sender
) -> None:
    from eth_account import Account

    poor, tokenless = Sender(chain, Account.create()), Sender(chain, accounts[9])
    with pytest.raises(InsufficientFunds, match=rf"{poor.address} holds 0 coin"):
        chain.token.approve(poor, payee.address, 1)
    with pytest.raises(InsufficientFunds, match=r"holds 0 HCT and needs 2\.5 HCT to open a channel"):
        chain.channels.open(tokenless, descriptor(tokenless, payee), 5 * HCT // 2)
    with pytest.raises(InsufficientFunds, match="to stake"):
        chain.staking.stake(tokenless, 100 * HCT)


def test_staking_and_node_keys(chain: Chain, accounts: list[LocalAccount]) -> None:
    staking, operator, node = chain.staking, Sender(chain, accounts[3]), coincurve.PrivateKey()
    chain.token.transfer(Sender(chain, accounts[0]), operator.address, 200 * HCT)
    assert (staking.minimum, staking.unbonding_seconds) == (100 * HCT, 18_000)
    assert staking.session_stake == 100 * HCT // 16
    assert staking.slashers() == [chain.deployment.cases, chain.deployment.proofs, chain.deployment.demands]
    assert staking.operator_of(address_of(node)) is None
    staking.stake(operator, 100 * HCT)
    with pytest.raises(Reverted, match=f"StakeCommitted.*{100 * HCT}"):
        staking.authorize(operator, node, 100 * HCT + 1)
    staking.authorize(operator, node)
    assert staking.operator_of(address_of(node)) == operator.address
    assert staking.is_eligible(address_of(node))
    with pytest.raises(Reverted, match=operator.address):
        staking.authorize(operator, node)

    staking.unstake(operator, 25 * HCT)
    assert staking.is_eligible(address_of(node))  # C19: a quarter is room for fines
    staking.unstake(operator, 1)
    assert not staking.is_eligible(address_of(node))
    staking.cancel_unstake(operator)
    staking.unstake(operator, 40 * HCT)
    assert staking.backing_of(address_of(node)) == 60 * HCT
    staking.reshare(operator, address_of(node), 50 * HCT)
    assert (staking.share_of(address_of(node)), staking.committed_by(operator.address)) == (50 * HCT,) * 2
    stake = staking.stake_of(operator.address)
    assert (stake.active, stake.thawing) == (60 * HCT, 40 * HCT)
    with pytest.raises(Reverted, match="StillThawing"):
        staking.withdraw(operator)
    wait_seconds(chain, staking.unbonding_seconds + 1)
    staking.withdraw(operator)
    assert chain.token.balance(operator.address) == 140 * HCT

    deadline = chain.timestamp() + 60
    other = coincurve.PrivateKey()
    consent = staking.consent(other, operator.address, deadline)
    with pytest.raises(Reverted, match="BadConsent"):
        staking.authorize_consented(
            Sender(chain, accounts[0]), address_of(other), 10 * HCT, deadline, consent
        )
    staking.authorize_consented(operator, address_of(other), 10 * HCT, deadline, consent)
    assert staking.committed_by(operator.address) == 60 * HCT
    staking.revoke(operator, address_of(other))
    assert staking.committed_by(operator.address) == 50 * HCT
    assert staking.operator_of(address_of(other)) is None
    assert staking.answers_for(address_of(other)) == operator.address
    assert staking.answers_for(operator.address) is None

    with pytest.raises(Reverted, match="NotSlasher"):
        staking.slash(Sender(chain, accounts[4]), operator.address, HCT, accounts[5].address, 0)
    with pytest.raises(Reverted, match="SlashersAlreadySet"):
        staking.set_slashers(Sender(chain, accounts[0]), [accounts[4].address])


def test_what_is_behind_many_node_keys_is_one_call(chain: Chain, accounts: list[LocalAccount]) -> None:
    staking, operator = chain.staking, Sender(chain, accounts[6])
    chain.token.transfer(Sender(chain, accounts[0]), operator.address, 300 * HCT)
    staking.stake(operator, 300 * HCT)
    large, small, poor, unknown = (coincurve.PrivateKey() for _ in range(4))
    for key, share in ((large, 180 * HCT), (small, 100 * HCT), (poor, 20 * HCT)):
        staking.authorize(operator, key, share)
    pairs = [(address_of(key), operator.address) for key in (large, small, poor, unknown)]
    assert staking.backings([]) == []
    assert staking.backings(pairs) == [180 * HCT, 100 * HCT, 0, 0]
    assert staking.backings([(address_of(large), accounts[7].address)]) == [0]
    staking.unstake(operator, 100 * HCT)
    assert staking.backings(pairs) == [120 * HCT, 0, 0, 0]
    staking.revoke(operator, address_of(small))
    assert staking.backings(pairs) == [180 * HCT, 0, 0, 0]


def test_terms_that_do_not_fit_are_refused_before_anything_is_sent(
    anvil: str, accounts: list[LocalAccount]
) -> None:
    before = Rpc(anvil).block_number()
    for terms, unbonding, words in (
        (DisputeTerms(), 7200, f"let it thaw for {DisputeTerms().longest_seconds} s"),
        (LOCAL_TERMS, 339, "let it thaw for 340 s"),
        (DisputeTerms(fault=101 * HCT), 10**7, "minimum stake of 100 HCT"),
        (DisputeTerms(seats=16), 10**7, "1 to 15 seats, not 16"),
        (DisputeTerms(seats=0), 10**7, "1 to 15 seats, not 0"),
        (DisputeTerms(seats=15, member_bps=300), 10**7, "more than half"),
    ):
        with pytest.raises(ChainError, match=words):
            deploy(anvil, accounts[0], unbonding_seconds=unbonding, terms=terms)
    assert Rpc(anvil).block_number() == before


def test_a_node_that_dies_is_missed_in_a_sentence(accounts: list[LocalAccount]) -> None:
    with running_anvil() as url:
        chain = Chain(url, deploy(url, accounts[0]))
        sender = Sender(chain, accounts[0])
        chain.web3.provider.make_request("evm_setAutomine", [False])  # type: ignore[arg-type]
        pending = sender.submit("to burn HCT", chain.token.address, "0x42966c68" + "0" * 63 + "1")
    for attempt in (
        chain.block_number,
        lambda: chain.token.balance(sender.address),
        lambda: chain.token.transfer(sender, accounts[1].address, 1),
        lambda: sender.wait(pending),
        lambda: Chain(url, chain.deployment),
    ):
        with pytest.raises(NodeUnreachable, match="does not answer") as loss:
            attempt()
        assert "\n" not in str(loss.value)


def test_the_wrong_chain_is_noticed(anvil: str, deployment: Deployment) -> None:
    with pytest.raises(NodeUnreachable, match="speaks for chain 31337 and chain 1 is needed"):
        Chain(anvil, replace(deployment, chain_id=1))
    elsewhere = Chain(anvil, replace(deployment, channels="0x" + "12" * 20))
    with pytest.raises(ChainError, match="deployment file"):
        elsewhere.channels.state(b"\0" * 32)
    with pytest.raises(NodeUnreachable):
        Rpc("nonsense")


def test_deployments_survive_their_file(tmp_path: Path, deployment: Deployment) -> None:
    path = tmp_path / "new" / "deployment.json"
    deployment.save(path)
    assert Deployment.load(path) == deployment
    assert list(path.parent.iterdir()) == [path]
    good = json.loads(path.read_text())
    for bad, why in (
        ("", r"it is no JSON \(Expecting value"),
        ("[]", "it is no such document"),
        ("{}", "it does not say 'chain_id'"),
        (json.dumps(good | {"token": "0x1"}), "'0x1' is not an Ethereum address: give 0x and 40 hex digits"),
        (json.dumps(good | {"token": 7}), "it is no such document"),
        (json.dumps(good | {"chain_id": "x"}), "it is no such document, or holds something of another kind"),
    ):
        path.write_text(bad)
        with pytest.raises(ChainError, match=rf"cannot be used: {why}.*(?<!\.)\. Take the file"):
            Deployment.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ChainError, match="it is no text"):
        Deployment.load(path)
    with pytest.raises(ChainError, match="cannot be used: Is a directory"):
        Deployment.load(tmp_path)
    with pytest.raises(ChainError, match="deploy the contracts"):
        Deployment.load(tmp_path / "none")
