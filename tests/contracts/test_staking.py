import ape
import pytest

from tests.contracts.conftest import DAY, HCT, events
from tests.contracts.kinds import Account, Chain, Contract, Sleep
from tests.contracts.signing import sign_permit

MAX = 2**96 - 1


def test_stake_adds_up(registry: Contract, token: Contract, operator: Account) -> None:
    receipt = registry.stake(HCT, sender=operator)
    staked = {"operator": operator.address, "amount": HCT, "active": HCT}
    assert events(receipt)[0] == ("Staked", staked)
    receipt = registry.stake(2 * HCT, sender=operator)
    assert events(receipt)[0] == ("Staked", staked | {"amount": 2 * HCT, "active": 3 * HCT})
    assert tuple(registry.stakes(operator)) == (3 * HCT, 0, 0)
    assert token.balanceOf(registry) == 3 * HCT


def test_stake_refuses(registry: Contract, token: Contract, operator: Account, stranger: Account) -> None:
    with ape.reverts(registry.ZeroAmount):
        registry.stake(0, sender=operator)
    with ape.reverts(token.ERC20InsufficientAllowance):
        registry.stake(1, sender=stranger)
    with ape.reverts(token.ERC20InsufficientBalance):
        registry.stake(MAX, sender=operator)
    registry.stake(1, sender=operator)
    with pytest.raises(ape.exceptions.VirtualMachineError, match="0x11"):
        registry.stake(MAX, sender=operator)


def test_a_permit_stands_in_for_an_allowance(
    registry: Contract, token: Contract, operator: Account, stranger: Account
) -> None:
    token.approve(registry, 0, sender=operator)
    v, r, s = sign_permit(
        operator.private_key, token.address, operator.address, registry.address, 2 * HCT, 0, 2**40
    )
    permit = (2**40, v, r.to_bytes(32), s.to_bytes(32))
    token.permit(operator, registry, 2 * HCT, *permit, sender=stranger)  # somebody was faster
    registry.stakeWithPermit(2 * HCT, *permit, sender=operator)
    assert tuple(registry.stakes(operator)) == (2 * HCT, 0, 0)
    with ape.reverts(token.ERC20InsufficientAllowance):
        registry.stakeWithPermit(2 * HCT, *permit, sender=operator)


def test_unstaked_tokens_thaw(registry: Contract, token: Contract, chain: Chain, operator: Account) -> None:
    held = token.balanceOf(operator)
    registry.stake(5 * HCT, sender=operator)
    receipt = registry.unstake(2 * HCT, sender=operator)
    thaw_end = receipt.timestamp + 7 * DAY
    unstaking = {
        "operator": operator.address,
        "amount": 2 * HCT,
        "thawing": 2 * HCT,
        "thawEnd": thaw_end,
    }
    assert events(receipt) == [("Unstaking", unstaking)]
    assert tuple(registry.stakes(operator)) == (3 * HCT, 2 * HCT, thaw_end)
    chain.provider.set_timestamp(thaw_end - 1)
    with ape.reverts(registry.StillThawing, error_inputs={"thawEnd": thaw_end}):
        registry.withdraw(sender=operator)
    chain.provider.set_timestamp(thaw_end)
    receipt = registry.withdraw(sender=operator)
    assert events(receipt)[0] == ("Withdrawn", {"operator": operator.address, "amount": 2 * HCT})
    assert tuple(registry.stakes(operator)) == (3 * HCT, 0, 0)
    assert token.balanceOf(operator) == held - 3 * HCT
    with ape.reverts(registry.NothingThawing):
        registry.withdraw(sender=operator)


def test_more_unstaking_restarts_the_clock_of_all(
    registry: Contract, operator: Account, sleep: Sleep
) -> None:
    registry.stake(5 * HCT, sender=operator)
    registry.unstake(2 * HCT, sender=operator)
    sleep(6 * DAY)
    receipt = registry.unstake(HCT, sender=operator)
    assert tuple(registry.stakes(operator)) == (2 * HCT, 3 * HCT, receipt.timestamp + 7 * DAY)
    sleep(2 * DAY)
    with ape.reverts(registry.StillThawing):
        registry.withdraw(sender=operator)
    sleep(5 * DAY)
    registry.withdraw(sender=operator)
    assert tuple(registry.stakes(operator)) == (2 * HCT, 0, 0)


def test_unstake_refuses(registry: Contract, operator: Account) -> None:
    registry.stake(HCT, sender=operator)
    with ape.reverts(registry.ZeroAmount):
        registry.unstake(0, sender=operator)
    with ape.reverts(registry.InsufficientStake, error_inputs={"active": HCT}):
        registry.unstake(HCT + 1, sender=operator)
    registry.unstake(HCT, sender=operator)
    with ape.reverts(registry.InsufficientStake, error_inputs={"active": 0}):
        registry.unstake(1, sender=operator)


def test_cancelling_makes_thawing_stake_active(registry: Contract, operator: Account, sleep: Sleep) -> None:
    registry.stake(5 * HCT, sender=operator)
    registry.unstake(2 * HCT, sender=operator)
    sleep(8 * DAY)
    receipt = registry.cancelUnstake(sender=operator)
    assert events(receipt) == [("UnstakeCancelled", {"operator": operator.address, "amount": 2 * HCT})]
    assert tuple(registry.stakes(operator)) == (5 * HCT, 0, 0)
    with ape.reverts(registry.NothingThawing):
        registry.cancelUnstake(sender=operator)
    with ape.reverts(registry.NothingThawing):
        registry.withdraw(sender=operator)
