"""How a node key gets a share of a stake, and what is said where that is not enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from eth_account import Account

from hypercluster.market.chain import Sender
from hypercluster.market.money.units import HCT
from hypercluster.node.serving.registration import KeyTaken, NotCarried, TooPoor, check_carried, register
from hypercluster.node.testnet.faucet import give

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from hypercluster.market.chain import Chain


@pytest.fixture
def operator(chain: Chain) -> Sender:
    """With 1000 HCT, of which nothing is staked."""
    account = Account.create()
    give(chain, account.address, 1000 * HCT)
    return Sender(chain, account)


@pytest.fixture
def node() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


def test_registering_again_adds_what_is_missing(chain: Chain, operator: Sender, node: LocalAccount) -> None:
    done = register(chain, operator, node)
    assert (done.active_wei, done.share_wei, done.sessions) == (100 * HCT, 100 * HCT, 16)
    assert done.added == ("100 HCT staked", "node key authorised", "0.05 coin for gas sent")
    assert register(chain, operator, node).added == ()

    more = register(chain, operator, node, 50 * HCT)
    assert (more.active_wei, more.share_wei, more.sessions) == (150 * HCT, 150 * HCT, 24)
    more = register(chain, operator, node, sessions=32)
    assert (more.active_wei, more.share_wei, more.sessions) == (200 * HCT, 200 * HCT, 32)
    assert register(chain, operator, node, sessions=8).added == (), "no share is made smaller by that"

    chain.staking.unstake(operator, 60 * HCT)
    assert chain.staking.backing_of(node.address) == 140 * HCT
    mended = register(chain, operator, node)
    assert mended.added == ("60 HCT staked",)
    assert chain.staking.backing_of(node.address) == 200 * HCT

    less = register(chain, operator, node, share=120 * HCT)
    assert (less.share_wei, less.added) == (120 * HCT, ("its share was 200 HCT",))


def test_nodes_of_one_operator_share_its_stake(chain: Chain, operator: Sender, node: LocalAccount) -> None:
    other: LocalAccount = Account.create()
    register(chain, operator, node, 150 * HCT)
    with pytest.raises(TooPoor, match="150 HCT are tied to other node keys: stake 100 more, not 0"):
        register(chain, operator, other, 0)
    assert chain.staking.operator_of(other.address) is None
    done = register(chain, operator, other)
    assert done.added[0] == "100 HCT staked"
    register(chain, operator, node, share=100 * HCT)
    assert register(chain, operator, other, 0, share=150 * HCT).share_wei == 150 * HCT
    chain.staking.revoke(operator, node.address)
    assert register(chain, operator, node, 0).added == ("node key authorised",)


def test_what_cannot_be_is_said_before_anything_is_sent(
    chain: Chain, operator: Sender, node: LocalAccount
) -> None:
    with pytest.raises(TooPoor, match="holds 1000 HCT and 2000 are to be staked"):
        register(chain, operator, node, share=2000 * HCT)
    with pytest.raises(TooPoor, match="stake 100 more, not 99"):
        register(chain, operator, node, 99 * HCT)
    with pytest.raises(NotCarried, match="100 HCT at least must stand behind a node, not 99"):
        register(chain, operator, node, share=99 * HCT)
    stranger = Sender(chain, Account.create())
    give(chain, stranger.address, 100 * HCT)
    register(chain, stranger, node)
    chain.staking.revoke(stranger, node.address)
    with pytest.raises(KeyTaken, match=f"{stranger.address} answers for the node key {node.address}"):
        register(chain, operator, node)
    assert chain.staking.stake_of(operator.address).active == 0


def test_what_a_stake_does_not_carry_is_said_with_what_to_do(
    chain: Chain, operator: Sender, node: LocalAccount
) -> None:
    def check(sessions: int) -> None:
        check_carried(chain, node.address, operator.address, sessions, "hc-provider")

    with pytest.raises(
        NotCarried, match=r"may not serve: 100 HCT .* and 75 of them .* Run hc-provider register"
    ):
        check(1)
    register(chain, operator, node)
    check(16)
    with pytest.raises(
        NotCarried, match=r"carries 16 sessions, and 17 .* hc-provider register --share 106\.25"
    ):
        check(17)
    register(chain, operator, node, share=10625 * HCT // 100)
    check(17)
    chain.staking.unstake(operator, 7 * HCT)
    check(15)  # C19: a share of the minimum that lost some serves on, for less
    chain.staking.unstake(operator, 25 * HCT)
    with pytest.raises(NotCarried, match="may not serve"):
        check(1)
