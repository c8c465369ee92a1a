import ape
import pytest

from hypercluster.market.money.signing import NOBODY
from tests.contracts.conftest import DAY, HCT, events
from tests.contracts.kinds import Account, Chain, Contract, Deploy, Sleep

MAX = 2**96 - 1


@pytest.fixture
def reporter(stranger: Account) -> Account:
    return stranger


def test_a_slash_burns_and_rewards(
    registry: Contract, token: Contract, operator: Account, slasher: Account, reporter: Account
) -> None:
    registry.stake(10 * HCT, sender=operator)
    supply = token.totalSupply()
    receipt = registry.slash(operator, 4 * HCT, reporter, HCT, sender=slasher)
    slashed = {
        "operator": operator.address,
        "reporter": reporter.address,
        "requested": 4 * HCT,
        "rewarded": HCT,
        "burned": 3 * HCT,
    }
    assert events(receipt)[0] == ("Slashed", slashed)
    assert receipt.return_value == 4 * HCT
    assert tuple(registry.stakes(operator)) == (6 * HCT, 0, 0)
    assert tuple(registry.rewards(reporter)) == (0, HCT, receipt.timestamp + 7 * DAY)
    assert token.totalSupply() == supply - 3 * HCT
    assert token.balanceOf(registry) == 7 * HCT


@pytest.mark.parametrize(
    ("requested", "reward", "rewarded"),
    [(10, 4, 4), (10, 5, 5), (10, 6, 5), (10, MAX, 5), (7, 7, 3), (1, 1, 0), (10, 0, 0), (0, 5, 0)],
)
def test_at_least_half_is_burned(
    registry: Contract,
    token: Contract,
    operator: Account,
    slasher: Account,
    reporter: Account,
    requested: int,
    reward: int,
    rewarded: int,
) -> None:
    registry.stake(HCT, sender=operator)
    supply = token.totalSupply()
    registry.slash(operator, requested, reporter, reward, sender=slasher)
    assert registry.rewards(reporter)[1] == rewarded
    assert supply - token.totalSupply() == requested - rewarded


def test_active_stake_is_taken_before_thawing_stake(
    registry: Contract, operator: Account, slasher: Account, sleep: Sleep
) -> None:
    registry.stake(10, sender=operator)
    thaw_end = registry.unstake(4, sender=operator).timestamp + 7 * DAY
    registry.slash(operator, 5, NOBODY, 0, sender=slasher)
    assert tuple(registry.stakes(operator)) == (1, 4, thaw_end)
    registry.slash(operator, 3, NOBODY, 0, sender=slasher)
    assert tuple(registry.stakes(operator)) == (0, 2, thaw_end)
    sleep(7 * DAY)
    registry.withdraw(sender=operator)


def test_thawing_stake_can_be_slashed_to_the_last_wei(
    registry: Contract, token: Contract, operator: Account, slasher: Account, sleep: Sleep
) -> None:
    registry.stake(10, sender=operator)
    registry.unstake(10, sender=operator)
    sleep(8 * DAY)  # thawed, but not withdrawn
    registry.slash(operator, 10, NOBODY, 0, sender=slasher)
    assert token.balanceOf(registry) == 0
    with ape.reverts(registry.NothingThawing):
        registry.withdraw(sender=operator)


@pytest.mark.parametrize("requested", [0, 11, MAX])
@pytest.mark.parametrize("stake", [0, 10])
def test_a_slash_never_fails_on_an_amount(
    registry: Contract, operator: Account, slasher: Account, reporter: Account, requested: int, stake: int
) -> None:
    if stake:
        registry.stake(stake, sender=operator)
    receipt = registry.slash(operator, requested, reporter, MAX, sender=slasher)
    assert receipt.return_value == min(requested, stake)


def test_without_a_reporter_all_is_burned(
    registry: Contract, token: Contract, operator: Account, slasher: Account
) -> None:
    registry.stake(10, sender=operator)
    registry.slash(operator, 10, NOBODY, 5, sender=slasher)
    assert token.balanceOf(registry) == 0
    assert tuple(registry.rewards(NOBODY)) == (0, 0, 0)


def test_rewards_wait_for_an_unbonding_delay(
    registry: Contract, token: Contract, chain: Chain, operator: Account, slasher: Account, reporter: Account
) -> None:
    registry.stake(100, sender=operator)
    receipt = registry.slash(operator, 20, reporter, 5, sender=slasher)
    claimable_at = receipt.timestamp + 7 * DAY
    assert tuple(registry.rewards(reporter)) == (0, 5, claimable_at)
    chain.provider.set_timestamp(claimable_at - 1)
    with ape.reverts(registry.RewardsLocked, error_inputs={"claimableAt": claimable_at}):
        registry.claimRewards(sender=reporter)
    chain.provider.set_timestamp(claimable_at)
    receipt = registry.claimRewards(sender=reporter)
    assert events(receipt)[0] == ("RewardsClaimed", {"reporter": reporter.address, "amount": 5})
    assert token.balanceOf(reporter) == 5
    assert tuple(registry.rewards(reporter)) == (0, 0, 0)
    for sender in (reporter, operator):
        with ape.reverts(registry.NothingToClaim):
            registry.claimRewards(sender=sender)


def test_c11_a_later_reward_holds_up_no_earlier_one(
    registry: Contract, token: Contract, chain: Chain, operator: Account, slasher: Account, reporter: Account
) -> None:
    """One reward each day for half a year: each can be claimed within two unbonding delays."""
    registry.stake(100 * HCT, sender=operator)
    first = registry.slash(operator, 2, reporter, 1, sender=slasher).timestamp
    given = [first]
    for day in range(1, 180):
        chain.provider.set_timestamp(first + day * DAY)
        given.append(registry.slash(operator, 2, reporter, 1, sender=slasher).timestamp)
        claimable, waiting, claimable_at = registry.rewards(reporter)
        now = given[-1]
        assert claimable + waiting == len(given)
        assert sum(at <= now - 14 * DAY for at in given) <= claimable
        assert claimable <= sum(at <= now - 7 * DAY for at in given)
        assert now < claimable_at <= now + 7 * DAY
    chain.provider.set_timestamp(given[-1] + 1)
    registry.claimRewards(sender=reporter)
    assert token.balanceOf(reporter) == claimable
    assert tuple(registry.rewards(reporter)) == (0, waiting, claimable_at)


def test_nobody_but_the_slashers_slashes(
    registry: Contract, deployer: Account, operator: Account, reporter: Account
) -> None:
    registry.stake(10, sender=operator)
    for sender in (deployer, operator, reporter):
        with ape.reverts(registry.NotSlasher):
            registry.slash(operator, 1, reporter, 1, sender=sender)


def test_the_slashers_are_appointed_once_and_together(
    deploy: Deploy, token: Contract, deployer: Account, operator: Account, slasher: Account, reporter: Account
) -> None:
    registry = deploy("StakingRegistry", token, 1, 1, 1)
    assert registry.slashers() == []
    with ape.reverts(registry.NotSlasher):
        registry.slash(operator, 1, NOBODY, 0, sender=slasher)
    with ape.reverts(registry.NotDeployer):
        registry.setSlashers([slasher], sender=slasher)
    with ape.reverts(registry.ZeroAddress):
        registry.setSlashers([slasher, NOBODY], sender=deployer)
    with ape.reverts(registry.NoSlashers):
        registry.setSlashers([], sender=deployer)
    both = [slasher.address, reporter.address]
    receipt = registry.setSlashers(both, sender=deployer)
    assert events(receipt) == [("SlashersSet", {"slashers": both})]
    assert registry.slashers() == both
    assert [registry.isSlasher(who) for who in (slasher, reporter, operator)] == [True, True, False]
    for sender in (slasher, reporter):
        registry.slash(operator, 1, NOBODY, 0, sender=sender)
    for more in ([operator], both, []):
        with ape.reverts(registry.SlashersAlreadySet):
            registry.setSlashers(more, sender=deployer)
