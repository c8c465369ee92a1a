import ape

from hypercluster.market.money.signing import NOBODY
from tests.contracts.conftest import events
from tests.contracts.court import PLACES, STAKE, Court
from tests.contracts.kinds import Account


def listed(court: Court) -> list[str]:
    """The list, place by place."""
    return [court.cases.verifierAt(place) for place in range(court.cases.verifierCount())]


def test_a_verifier_enlists(court: Court) -> None:
    key, operator = court.join()
    assert not court.cases.isEnlisted(key)
    enlisted = court.cases.enlist(sender=key)
    assert events(enlisted) == [("Enlisted", {"verifier": key.address, "operator": operator.address})]
    assert court.cases.isEnlisted(key)
    assert court.cases.verifierOf(operator) == key
    assert listed(court) == [*court.bench, key]


def test_only_an_eligible_node_key_enlists(court: Court, stranger: Account) -> None:
    key, operator = court.join(stake=court.registry.minStake() - 1)
    for sender in (stranger, operator, key):
        with ape.reverts(court.cases.NotEligible):
            court.cases.enlist(sender=sender)
    court.token.transfer(operator, 1, sender=court.deployer)
    court.registry.stake(1, sender=operator)
    with ape.reverts(court.cases.NotEligible):
        court.cases.enlist(sender=key)
    court.registry.reshare(key, court.registry.minStake(), sender=operator)
    court.cases.enlist(sender=key)


def test_an_operator_has_one_verifier(court: Court) -> None:
    first, second = court.bench[0], court.account()
    operator = court.boss[first.address]
    court.authorize(second, operator)
    for key in (first, second):
        with ape.reverts(court.cases.AlreadyEnlisted, error_inputs={"verifier": first.address}):
            court.cases.enlist(sender=key)
    court.registry.revoke(first, sender=operator)
    with ape.reverts(court.cases.AlreadyEnlisted):
        court.cases.enlist(sender=second)
    court.cases.delist(first, sender=operator)
    court.cases.enlist(sender=second)
    assert court.cases.verifierOf(operator) == second
    assert not court.cases.isEnlisted(first)


def test_the_list_has_ten_thousand_places(court: Court) -> None:
    last, late = court.join()[0], court.join()[0]
    # The first word of the storage is how many places there are.
    court.put(0, PLACES - 1)
    court.cases.enlist(sender=last)
    assert court.cases.verifierCount() == PLACES
    with ape.reverts(court.cases.ListFull):
        court.cases.enlist(sender=late)
    court.cases.delist(last, sender=last)
    court.cases.enlist(sender=late)
    assert court.cases.verifierAt(PLACES - 1) == late


def test_a_verifier_or_its_operator_delists(court: Court, stranger: Account) -> None:
    first, second = court.bench[:2]
    for sender in (stranger, second, court.operator):
        with ape.reverts(court.cases.NotOperator):
            court.cases.delist(first, sender=sender)
    operators = [court.boss[key.address] for key in (first, second)]
    left = court.cases.delist(first, sender=first)
    assert events(left) == [("Delisted", {"verifier": first.address, "operator": operators[0].address})]
    court.cases.delist(second, sender=operators[1])
    for key, operator in zip((first, second), operators, strict=True):
        assert not court.cases.isEnlisted(key)
        assert court.cases.verifierOf(operator) == NOBODY
        with ape.reverts(court.cases.NotEnlisted):
            court.cases.delist(key, sender=key)


def test_anybody_delists_who_cannot_judge(court: Court, stranger: Account) -> None:
    poor, revoked = court.bench[:2]
    court.registry.unstake(STAKE, sender=court.boss[poor.address])
    court.registry.revoke(revoked, sender=revoked)
    for key in (poor, revoked):
        court.cases.delist(key, sender=stranger)
    assert listed(court) == [NOBODY, NOBODY, *court.bench[2:]]


def test_places_do_not_move_and_are_used_again(court: Court) -> None:
    bench = court.bench
    for key in (bench[1], bench[4], bench[5]):
        court.cases.delist(key, sender=key)
    assert listed(court) == [bench[0], NOBODY, bench[2], bench[3], NOBODY, NOBODY]
    new = [court.verifier() for _ in range(4)]
    assert listed(court) == [bench[0], new[2], bench[2], bench[3], new[1], new[0], new[3]]
    court.cases.delist(new[2], sender=new[2])
    court.cases.enlist(sender=bench[1])
    assert listed(court)[1] == bench[1]
