"""Other tokens than ours: plain ones pay; those that would make deposits untrue are refused at deployment."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

import coincurve
import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, DisputeTerms, Rpc, Sender, deploy
from hypercluster.market.chain.checking import contradictions
from hypercluster.market.errors import InvalidAmount, UnusableToken
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.units import HCT, IN_HCT, Unit, in_token, pay_in
from hypercluster.market.money.voucher import ChannelDescriptor
from hypercluster.market.trust.merkle import root
from hypercluster.market.trust.receipt import NO_RECEIPT, Receipt, Stage
from tests.market.chain.foreign import create

KEY = coincurve.PrivateKey(b"\x09" * 32)
NODE = coincurve.PrivateKey(b"\x0a" * 32)
ROWS = [bytes([number]) * 32 for number in range(5)]


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Whatever a test pays in, the next one pays in HCT."""
    yield
    pay_in(IN_HCT)


def market(anvil: str, boss: LocalAccount, token: str, decimals: int) -> Chain:
    """A market that is paid in a token, with the usual amounts and short windows."""
    pay_in(Unit(decimals))
    usual = DisputeTerms()
    terms = replace(
        usual,
        **{name: in_token(getattr(usual, name)) for name in ("fault", "silence", "bond", "demand_bond")},
        draw_delay=0,
    )
    minimum = in_token(100 * HCT)
    return Chain(anvil, deploy(anvil, boss, min_stake=minimum, grace_seconds=60, terms=terms, token=token))


@pytest.mark.parametrize(
    ("name", "decimals", "symbol"), [("PlainToken", 6, "PLN"), ("WaryToken", 18, "TOKEN")]
)
def test_a_token_without_permits_and_burning_pays_stakes_and_is_slashed(
    anvil: str, accounts: list[LocalAccount], name: str, decimals: int, symbol: str
) -> None:
    boss = Sender(Rpc(anvil), accounts[0])
    chain = market(anvil, accounts[0], create(boss, name), decimals)
    one = 10**decimals
    assert not [*contradictions(chain)]
    assert chain.deployment.unit == chain.token.unit == (decimals, symbol)
    payer, payee = Sender(chain, accounts[0]), Sender(chain, accounts[2])
    channels, token = chain.channels, chain.token
    held = token.balance(payer.address)
    token.approve(payer, channels.address, 3)  # somebody's rest, which some tokens let nobody change
    many = [
        ChannelDescriptor(payer.address, payee.address, address_of(KEY), secrets.token_bytes(32))
        for _ in "ab"
    ]
    channels.open_many(payer, [(each, 5 * one) for each in many])
    channels.top_up(payer, many[0], one)
    assert token.allowance(payer.address, channels.address) == 0
    for channel in many:
        channel_id = channels.domain.channel_id(channel)
        signature = channels.domain.sign(KEY, channel_id, 2 * one)
        channels.settle_batch(payee, payee.address, [(channel, 2 * one, signature)])
        channels.close(payee, channel)
    assert token.balance(payee.address) == 4 * one
    assert token.balance(payer.address) == held - 4 * one
    assert token.balance(channels.address) == 0

    chain.staking.stake(payer, 250 * one)
    chain.staking.authorize(payer, NODE)
    stage = Stage(secrets.token_bytes(16), b"n" * 16, b"c" * 32, b"m" * 32, 4, 8, 2, b"p" * 32)
    receipts = [
        Receipt(stage, 3, 40, 5, 5, root(ROWS), root(rows), NO_RECEIPT, chain.timestamp())
        for rows in (ROWS, ROWS[::-1])
    ]
    domain, supply = chain.disputes.domain, token.supply()
    signed = [(each, domain.sign(NODE, each.struct_hash())) for each in receipts]
    chain.disputes.proofs.prove_equivocation(payee, *signed[0], *signed[1])
    assert chain.staking.stake_of(payer.address).active == 150 * one
    assert token.balance("0x000000000000000000000000000000000000dEaD") == 90 * one  # nobody has it any more
    assert token.supply() == supply
    token.transfer(payer, payee.address, 30 * one)
    chain.disputes.cases.open(payee, *signed[0])
    assert token.balance(payee.address) == (4 + 30 - 20) * one


def test_a_token_that_keeps_a_part_or_changes_balances_is_refused(
    anvil: str, accounts: list[LocalAccount]
) -> None:
    boss = Sender(Rpc(anvil), accounts[0])
    for name, said in (
        ("FeeToken", "of 1000000 of its smallest parts, 999000 arrived"),
        ("GrowingToken", "cannot pay: of 1000000 of its smallest parts"),
        ("DailyToken", r"it answers to scaledTotalSupply\(\)"),
        ("VastToken", "does not fit the 96 bits"),
    ):
        with pytest.raises(UnusableToken, match=said):
            market(anvil, accounts[0], create(boss, name), 6)
    with pytest.raises(InvalidAmount, match="6 to 24 decimals, not 2"):
        market(anvil, accounts[0], create(boss, "CoarseToken"), 6)
    with pytest.raises(UnusableToken, match="There is no ERC-20 token"):
        market(anvil, accounts[0], accounts[3].address, 6)
    plain = create(boss, "PlainToken")
    with pytest.raises(UnusableToken, match="holds 0 of the smallest parts"):
        market(anvil, accounts[7], plain, 6)
