import ape
import pytest

from hypercluster.market.money.signing import NOBODY
from tests.contracts.conftest import HCT, events
from tests.contracts.kinds import Account, Call, Chain, Contract, Deploy, Signature
from tests.contracts.signing import compact, full, malleated, sign_consent

DEADLINE = 2**40
SHARE = 100 * HCT


@pytest.fixture(autouse=True)
def staked(registry: Contract, operator: Account) -> None:
    """The operator has a stake for four node keys."""
    registry.stake(4 * SHARE, sender=operator)


@pytest.fixture
def consent(registry: Contract, operator: Account, node_key: Account) -> Call:
    """Signature (v, r, s) of a node key's consent: consent(operator=, node_key=, deadline=, by=)."""

    def consent(
        operator: Account = operator,
        node_key: Account = node_key,
        deadline: int = DEADLINE,
        by: Account = node_key,
        contract: Contract = registry,
    ) -> Signature:
        return sign_consent(by.private_key, contract.address, operator.address, node_key.address, deadline)

    return consent


@pytest.mark.parametrize("encoding", [compact, full])
def test_an_operator_authorises_a_node_key(
    registry: Contract, operator: Account, node_key: Account, consent: Call, encoding: Call
) -> None:
    assert registry.operatorOf(node_key) == NOBODY
    receipt = registry.authorize(node_key, SHARE, DEADLINE, encoding(consent()), sender=operator)
    authorized = {"operator": operator.address, "nodeKey": node_key.address, "share": SHARE}
    assert events(receipt) == [("Authorized", authorized)]
    assert registry.operatorOf(node_key) == operator


def test_the_digest_is_that_of_the_documented_type(
    registry: Contract, operator: Account, node_key: Account, consent: Call
) -> None:
    from eth_account import Account

    digest = registry.authorizeDigest(operator, node_key, DEADLINE)
    assert Account._recover_hash(digest, signature=full(consent())) == node_key
    assert len(registry.DOMAIN_SEPARATOR()) == 32


def test_the_node_key_must_consent(
    registry: Contract,
    deploy: Deploy,
    token: Contract,
    slasher: Account,
    operator: Account,
    node_key: Account,
    stranger: Account,
    consent: Call,
) -> None:
    elsewhere = deploy("StakingRegistry", token, 1, 1, 1)
    bad = {
        "by the operator": compact(consent(by=operator)),
        "to another operator": compact(consent(operator=stranger)),
        "of another node key": compact(consent(node_key=stranger)),
        "with another deadline": compact(consent(deadline=DEADLINE + 1)),
        "for another registry": compact(consent(contract=elsewhere)),
        "malleated": full(malleated(consent())),
        "empty": b"",
        "zeros": bytes(65),
    }
    for what, signature in bad.items():
        with ape.reverts(registry.BadConsent, error_inputs={"nodeKey": node_key.address}):
            registry.authorize(node_key, SHARE, DEADLINE, signature, sender=operator)
            pytest.fail(what)
    with ape.reverts(registry.BadConsent):
        registry.authorize(node_key, SHARE, DEADLINE, compact(consent()), sender=stranger)


def test_the_zero_address_is_no_node_key(registry: Contract, operator: Account) -> None:
    with ape.reverts(registry.ZeroAddress):
        registry.authorize(NOBODY, SHARE, DEADLINE, bytes(64), sender=operator)


def test_consent_holds_up_to_its_deadline(
    registry: Contract, chain: Chain, operator: Account, node_key: Account, consent: Call
) -> None:
    deadline = chain.pending_timestamp + 100
    signature = compact(consent(deadline=deadline))
    chain.provider.set_timestamp(deadline + 1)
    with ape.reverts(registry.ConsentExpired, error_inputs={"deadline": deadline}):
        registry.authorize(node_key, SHARE, deadline, signature, sender=operator)
    deadline += 100
    signature = compact(consent(deadline=deadline))
    chain.provider.set_timestamp(deadline)
    registry.authorize(node_key, SHARE, deadline, signature, sender=operator)


def test_a_node_key_has_one_operator_and_an_operator_many_keys(
    registry: Contract, operator: Account, node_key: Account, stranger: Account, consent: Call
) -> None:
    registry.authorize(node_key, SHARE, DEADLINE, compact(consent()), sender=operator)
    with ape.reverts(registry.NodeKeyTaken, error_inputs={"operator": operator.address}):
        registry.authorize(node_key, SHARE, DEADLINE, compact(consent(operator=stranger)), sender=stranger)
    with ape.reverts(registry.NodeKeyTaken):
        registry.authorize(node_key, SHARE, DEADLINE, compact(consent()), sender=operator)
    second = compact(consent(node_key=stranger, by=stranger))
    registry.authorize(stranger, SHARE, DEADLINE, second, sender=operator)
    assert registry.operatorOf(stranger) == registry.operatorOf(node_key) == operator


@pytest.mark.parametrize("by", ["operator", "node_key"])
def test_operator_and_node_key_may_revoke(
    registry: Contract, operator: Account, node_key: Account, stranger: Account, consent: Call, by: str
) -> None:
    registry.authorize(node_key, SHARE, DEADLINE, compact(consent()), sender=operator)
    with ape.reverts(registry.NotOperator):
        registry.revoke(node_key, sender=stranger)
    receipt = registry.revoke(node_key, sender={"operator": operator, "node_key": node_key}[by])
    assert events(receipt) == [("Revoked", {"operator": operator.address, "nodeKey": node_key.address})]
    assert registry.operatorOf(node_key) == NOBODY
    for sender in (operator, node_key):
        with ape.reverts(registry.NotOperator):
            registry.revoke(node_key, sender=sender)


def test_an_operator_answers_for_a_node_key_for_good(
    registry: Contract, operator: Account, node_key: Account, stranger: Account, consent: Call
) -> None:
    assert registry.answersFor(node_key) == NOBODY
    registry.authorize(node_key, SHARE, DEADLINE, compact(consent()), sender=operator)
    assert registry.answersFor(node_key) == operator
    registry.revoke(node_key, sender=node_key)
    assert (registry.operatorOf(node_key), registry.answersFor(node_key)) == (NOBODY, operator)
    with ape.reverts(registry.NodeKeyTaken, error_inputs={"operator": operator.address}):
        registry.authorize(node_key, SHARE, DEADLINE, compact(consent(operator=stranger)), sender=stranger)
    receipt = registry.authorize(node_key, SHARE, DEADLINE, compact(consent()), sender=operator)
    assert events(receipt)[0][0] == "Authorized"
    assert registry.operatorOf(node_key) == registry.answersFor(node_key) == operator
    with ape.reverts(registry.NodeKeyTaken):
        registry.authorize(node_key, SHARE, DEADLINE, compact(consent()), sender=operator)


def test_a_node_is_eligible_on_enough_active_stake(
    registry: Contract, operator: Account, node_key: Account, slasher: Account, consent: Call
) -> None:
    assert not registry.isEligible(node_key)
    minimum = registry.minStake()
    registry.authorize(node_key, minimum - 1, DEADLINE, compact(consent()), sender=operator)
    assert not registry.isEligible(node_key)
    registry.reshare(node_key, minimum, sender=operator)
    assert registry.isEligible(node_key)
    assert not registry.isEligible(operator)
    too_much = 4 * SHARE - 3 * minimum // 4 + 1
    registry.unstake(too_much, sender=operator)
    assert not registry.isEligible(node_key)  # thawing stake does not count
    registry.cancelUnstake(sender=operator)
    assert registry.isEligible(node_key)
    registry.slash(operator, too_much, NOBODY, 0, sender=slasher)
    assert not registry.isEligible(node_key)
    registry.stake(HCT, sender=operator)
    assert registry.isEligible(node_key)
    registry.revoke(node_key, sender=operator)
    assert not registry.isEligible(node_key)


def test_without_an_operator_or_its_stake_a_node_is_never_eligible(
    deploy: Deploy, token: Contract, operator: Account, node_key: Account, consent: Call
) -> None:
    generous = deploy("StakingRegistry", token, 1, 0, 1)
    assert not generous.isEligible(node_key)
    token.approve(generous, 1, sender=operator)
    generous.stake(1, sender=operator)
    generous.authorize(node_key, 1, DEADLINE, compact(consent(contract=generous)), sender=operator)
    assert generous.isEligible(node_key)
    generous.unstake(1, sender=operator)
    assert not generous.isEligible(node_key)


def test_no_stake_is_behind_two_node_keys(
    registry: Contract, operator: Account, node_key: Account, stranger: Account, consent: Call
) -> None:
    with ape.reverts(registry.StakeCommitted, error_inputs={"free": 4 * SHARE}):
        registry.authorize(node_key, 4 * SHARE + 1, DEADLINE, compact(consent()), sender=operator)
    with ape.reverts(registry.ZeroAmount):
        registry.authorize(node_key, 0, DEADLINE, compact(consent()), sender=operator)
    registry.authorize(node_key, 3 * SHARE, DEADLINE, compact(consent()), sender=operator)
    second = compact(consent(node_key=stranger, by=stranger))
    with ape.reverts(registry.StakeCommitted, error_inputs={"free": SHARE}):
        registry.authorize(stranger, SHARE + 1, DEADLINE, second, sender=operator)
    registry.authorize(stranger, SHARE, DEADLINE, second, sender=operator)
    assert registry.committed(operator) == 4 * SHARE
    assert [registry.backingOf(key) for key in (node_key, stranger)] == [3 * SHARE, SHARE]
    standings = [tuple(each) for each in registry.standings([stranger, operator, node_key])]
    assert standings == [(operator, SHARE, True), (NOBODY, 0, False), (operator, 3 * SHARE, True)]

    with ape.reverts(registry.StakeCommitted, error_inputs={"free": SHARE}):
        registry.reshare(stranger, SHARE + 1, sender=operator)
    registry.reshare(node_key, 2 * SHARE, sender=operator)
    receipt = registry.reshare(stranger, 2 * SHARE, sender=operator)
    reshared = {"operator": operator.address, "nodeKey": stranger.address, "share": 2 * SHARE}
    assert events(receipt) == [("Reshared", reshared)]
    registry.revoke(node_key, sender=node_key)
    assert (registry.committed(operator), registry.shareOf(node_key)) == (2 * SHARE, 0)
    registry.reshare(stranger, 4 * SHARE, sender=operator)


def test_only_the_operator_of_a_working_key_changes_its_share(
    registry: Contract, operator: Account, node_key: Account, stranger: Account, consent: Call
) -> None:
    with ape.reverts(registry.NotOperator):
        registry.reshare(node_key, SHARE, sender=operator)
    registry.authorize(node_key, SHARE, DEADLINE, compact(consent()), sender=operator)
    for sender in (stranger, node_key):
        with ape.reverts(registry.NotOperator):
            registry.reshare(node_key, SHARE, sender=sender)
    with ape.reverts(registry.ZeroAmount):
        registry.reshare(node_key, 0, sender=operator)
    registry.revoke(node_key, sender=operator)
    with ape.reverts(registry.NotOperator):
        registry.reshare(node_key, SHARE, sender=operator)


def test_less_stake_thins_all_keys_alike(
    registry: Contract,
    operator: Account,
    node_key: Account,
    stranger: Account,
    slasher: Account,
    consent: Call,
) -> None:
    keys = (node_key, stranger)
    registry.authorize(node_key, 3 * SHARE, DEADLINE, compact(consent()), sender=operator)
    second = compact(consent(node_key=stranger, by=stranger))
    registry.authorize(stranger, SHARE, DEADLINE, second, sender=operator)
    registry.slash(operator, SHARE, NOBODY, 0, sender=slasher)
    assert [registry.backingOf(key) for key in keys] == [9 * SHARE // 4, 3 * SHARE // 4]
    assert [registry.isEligible(key) for key in keys] == [True, True]
    registry.unstake(SHARE, sender=operator)
    assert [registry.isEligible(key) for key in keys] == [True, False]
    assert [registry.backingOf(key) for key in keys] == [6 * SHARE // 4, 2 * SHARE // 4]
    with ape.reverts(registry.StakeCommitted, error_inputs={"free": 0}):
        registry.reshare(stranger, SHARE + 1, sender=operator)
    registry.reshare(node_key, SHARE, sender=operator)  # less is always possible
    assert [registry.backingOf(key) for key in keys] == [SHARE, SHARE]
    registry.cancelUnstake(sender=operator)
    registry.reshare(node_key, 2 * SHARE, sender=operator)


def test_a_session_always_takes_some_stake(deploy: Deploy, token: Contract, registry: Contract) -> None:
    assert registry.sessionStake() == 6 * HCT
    with pytest.raises(ape.exceptions.ContractLogicError):
        deploy("StakingRegistry", token, 1, 1, 0)


def test_stake_is_of_a_token_that_has_an_address(deploy: Deploy) -> None:
    with pytest.raises(ape.exceptions.ContractLogicError):
        deploy("StakingRegistry", NOBODY, 1, 1, 6 * HCT)
