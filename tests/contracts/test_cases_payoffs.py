"""What a case really pays to each role, beside the rule that the economics count with."""

from itertools import cycle, islice

import pytest

from hypercluster.market.chain import DisputeTerms
from hypercluster.market.economics.court import Vote, majority, payoffs
from tests.contracts.conftest import HCT
from tests.contracts.court import GREY, GUILTY, INNOCENT, TERMS, UNSERVED, Court
from tests.contracts.kinds import Account, Accounts, Contract, Deploy

G, I, U, SILENT = Vote.GUILTY, Vote.INNOCENT, Vote.UNSERVED, Vote.SILENT  # noqa: E741
CAST = {I: INNOCENT, G: GUILTY, Vote.GREY: GREY, U: UNSERVED, SILENT: None}
DECIDED = {G: (I, SILENT), I: (G, SILENT), U: (G, I)}
"""how the others vote where two thirds agree"""
SPLIT = ((U, G, I), (Vote.GREY, G, SILENT), (U, SILENT, I))


@pytest.fixture(scope="module", params=[3, 5, 7])
def sized(
    request: pytest.FixtureRequest, deploy: Deploy, accounts: Accounts, deployer: Account, token: Contract
) -> Court:
    """A court with so many seats; amounts that thirds, fifths and sevenths do not divide."""
    terms = TERMS | {"seats": request.param, "bond": 20 * HCT + 1, "fault": 100 * HCT - 3}
    return Court(deploy, accounts, deployer, token, terms, verifiers=request.param)


def ballots(seats: int) -> dict[str, list[Vote]]:
    """Ways for a case of so many seats to end: every outcome, each with all that others may do in it."""
    enough = majority(seats)
    found = {
        vote.value: [vote] * enough + [*islice(cycle(others), seats - enough)]
        for vote, others in DECIDED.items()
    }
    return found | {f"split {number}": [*islice(cycle(votes), seats)] for number, votes in enumerate(SPLIT)}


@pytest.mark.parametrize("how", [*ballots(3)])
def test_a_case_pays_what_the_economics_say(sized: Court, how: str) -> None:
    court, terms = sized, sized.terms
    votes = ballots(terms.seats)[how]
    told = payoffs(
        DisputeTerms(
            fault=terms.fault,
            silence=terms.silence,
            bond=terms.bond,
            reward_bps=terms.rewardBps,
            member_bps=terms.memberBps,
            seats=terms.seats,
        ),
        votes,
    )

    def worth(*people: Account) -> list[int]:
        """What each holds, has staked, and is promised."""
        return [
            court.token.balanceOf(each)
            + court.stake_of(each)
            + sum(tuple(court.cases.credits(each))[:2])
            + sum(tuple(court.registry.rewards(each))[:2])
            for each in people
        ]

    roles = [court.accuser, court.operator, *(court.boss[each.address] for each in court.bench)]
    before = dict(zip([each.address for each in roles], worth(*roles), strict=True))
    supply = court.token.totalSupply()
    case = court.open()
    members, _ = court.judge(case, *(CAST[vote] for vote in votes))
    gained = {
        each.address: now - before[each.address] for each, now in zip(roles, worth(*roles), strict=True)
    }
    bosses = [court.boss[each.address].address for each in members]
    assert court.outcome(case).lower() == told.outcome.value
    assert gained[court.accuser.address] == told.accuser
    assert gained[court.operator.address] == told.accused
    assert tuple(gained[boss] for boss in bosses) == told.members
    assert court.token.totalSupply() - supply == told.accuser + told.accused + sum(told.members)
