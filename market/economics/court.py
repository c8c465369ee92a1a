"""What a case pays to whom, and what strategies earn in it: the game of `DisputeCases`, without the chain.

`payoffs` is the contract's rule to the wei; the rest are expectations over it. Members are drawn from a long list, of
which a coalition holds a share: seats are then independent. Money of one case is whole wei, expectations are float HCT.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import product

from hypercluster.market.chain.disputes.terms import DisputeTerms
from hypercluster.market.money.units import HCT

IDLE_TENTHS = 1
"""part of a bond, in tenths, that all seats share when all say unserved (`DisputeCases.IDLE_TENTHS`)"""
TRIES = 3
"""cases of one accuser about one receipt (`DisputeCases.TRIES`)"""


class Vote(Enum):
    """What a member does."""

    INNOCENT = "innocent"
    GUILTY = "guilty"
    GREY = "grey"
    UNSERVED = "unserved"
    SILENT = "silent"


class Outcome(Enum):
    """How a case ends."""

    GUILTY = "guilty"
    INNOCENT = "innocent"
    UNSERVED = "unserved"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Payoffs:
    """What a case brings in wei, below zero where it costs: to the accuser, to the accused and to each seat."""

    outcome: Outcome
    accuser: int
    accused: int
    members: tuple[int, ...]


def payoffs(terms: DisputeTerms, votes: Sequence[Vote]) -> Payoffs:
    """Return what a case pays whose members vote so; all have stake enough, and the stage was not convicted before."""
    counts = {vote: list(votes).count(vote) for vote in Vote}
    outcome = next(
        (
            Outcome(vote.value)
            for vote in (Vote.GUILTY, Vote.INNOCENT, Vote.UNSERVED)
            if counts[vote] * 3 >= len(votes) * 2
        ),
        Outcome.INCONCLUSIVE,
    )
    pay = dict.fromkeys(Vote, 0)
    pay[Vote.SILENT] = -terms.silence
    accuser = accused = 0
    if outcome is Outcome.GUILTY:
        accuser, accused = terms.fault * terms.reward_bps // 10_000, -terms.fault
        pay[Vote.GUILTY] = terms.fault * terms.member_bps // 10_000
        pay[Vote.INNOCENT] = -terms.silence
    elif outcome is Outcome.INNOCENT:
        accuser = -terms.bond
        pay[Vote.INNOCENT] = terms.bond // 2 // counts[Vote.INNOCENT]
        pay[Vote.GUILTY] = -terms.silence
    elif unserved := counts[Vote.UNSERVED]:
        lost = terms.bond if outcome is Outcome.UNSERVED else terms.bond * unserved // len(votes)
        accuser = -lost
        pay[Vote.UNSERVED] = terms.bond * IDLE_TENTHS // 10 // len(votes)
        if judged := counts[Vote.GUILTY] + counts[Vote.INNOCENT]:
            rest = lost // 2 - pay[Vote.UNSERVED] * unserved
            share = min(terms.bond // 2 // len(votes), rest // judged)
            pay[Vote.GUILTY] = pay[Vote.INNOCENT] = share
    return Payoffs(outcome, accuser, accused, tuple(pay[vote] for vote in votes))


Mixed = Mapping[Vote, float]
"""how likely a member votes what"""


def expected_vote(terms: DisputeTerms, vote: Vote, others: Mixed) -> float:
    """Return the expected pay in HCT of one member that votes so, while each other votes like `others` by itself."""
    likely = [(choice, chance) for choice, chance in others.items() if chance]
    total = 0.0
    for rest in product(likely, repeat=terms.seats - 1):
        votes = (vote, *(choice for choice, _ in rest))
        total += math.prod(chance for _, chance in rest) * payoffs(terms, votes).members[0]
    return total / HCT


def seated(share: float, seats: int) -> list[float]:
    """Return how likely a coalition with this share of the list has 0, 1, ... `seats` of the seats."""
    return [math.comb(seats, own) * share**own * (1 - share) ** (seats - own) for own in range(seats + 1)]


def majority(seats: int) -> int:
    """Return how many votes decide."""
    return -(-2 * seats // 3)


def captured(share: float, seats: int, blocks: int = 0) -> float:
    """Return how likely a coalition with this share of the list decides a case alone.

    Args:
        share: of the list, 0 to 1.
        seats: of the committee.
        blocks: of its own in a row up to the one that draws: it sees what each would draw and can leave it out, so that
            it has one throw more than blocks.
    """
    once = sum(seated(share, seats)[majority(seats) :])
    return 1 - (1 - once) ** (blocks + 1)


def thrown(values: Sequence[float], chances: Sequence[float], blocks: int) -> float:
    """Return what a draw is worth to who may throw again `blocks` times and stops when it likes what it sees."""
    worth = sum(value * chance for value, chance in zip(values, chances, strict=True))
    for _ in range(blocks):
        again = worth
        worth = sum(max(value, again) * chance for value, chance in zip(values, chances, strict=True))
    return worth


def best_of_coalition(terms: DisputeTerms, own: int, truth: Vote, gain: Callable[[Payoffs], int]) -> int:
    """Return the most in wei that a coalition with `own` seats can make of a case in which all others vote the truth.

    `gain` says what the coalition has of it besides the pay of its own seats, which come first.
    """
    return max(
        gain(paid) + sum(paid.members[:own])
        for votes in _ballots(own)
        for paid in (payoffs(terms, (*votes, *[truth] * (terms.seats - own))),)
    )


def false_accusation(terms: DisputeTerms, share: float, blocks: int = 0) -> float:
    """Return what accusing honest work brings a coalition in HCT: reward or lost bond, and the pay of its own seats."""
    values = [
        best_of_coalition(terms, own, Vote.INNOCENT, lambda paid: paid.accuser) / HCT
        for own in range(terms.seats + 1)
    ]
    return thrown(values, seated(share, terms.seats), blocks)


def escaped(terms: DisputeTerms, share: float, blocks: int = 0, tries: int = TRIES) -> float:
    """Return how likely a coalition saves one of its own that is guilty: no case of an accuser's convicts it.

    It needs as many seats as keep the others below a majority; the accuser tries again while nothing is decided.
    """
    enough = terms.seats - majority(terms.seats) + 1
    once = sum(seated(share, terms.seats)[enough:])
    return float((1 - (1 - once) ** (blocks + 1)) ** tries)


@cache
def _ballots(own: int) -> list[tuple[Vote, ...]]:
    """Ways to vote with so many seats, whatever seat votes what."""
    return sorted(
        {tuple(sorted(votes, key=lambda v: v.value)) for votes in product(Vote, repeat=own)},
        key=lambda votes: [vote.value for vote in votes],
    )
