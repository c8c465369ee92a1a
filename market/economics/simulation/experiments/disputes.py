"""The game of disputes under the default terms: what each role earns by each strategy, by formula and by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hypercluster.market.chain.disputes.terms import DisputeTerms
from hypercluster.market.economics.court import (
    TRIES,
    Payoffs,
    Vote,
    best_of_coalition,
    captured,
    escaped,
    expected_vote,
    false_accusation,
    majority,
    payoffs,
)
from hypercluster.market.economics.plots import lines, picture
from hypercluster.market.economics.simulation.experiments import Findings, Setup
from hypercluster.market.money.units import HCT

TERMS = DisputeTerms()
WORK = 0.05
"""HCT that judging a case costs: a hundred times what a session of 500 tokens costs at 1 HCT per million"""
GUILTY_CASES = (0.05, 0.5, 0.95)
"""shares of the cases in which the accused is guilty"""
LAZY_OTHERS = (0.0, 0.2, 0.4)
"""shares of the other members that say unserved without looking"""
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
BLOCKS = (0, 1, 3, 10)
SIZES = (3, 5, 7)
"""seats of committees"""
LIST = 1000
"""verifiers on the list in the simulation"""


def disputes(setup: Setup) -> Findings:
    """Tabulate members, accusers, cheats and coalitions, and draw the coalition's expected profit over its share."""
    rng = np.random.default_rng(setup.seed)
    setup.say("members")
    members = _members(setup, rng)
    setup.say("coalitions")
    coalitions = _coalitions(setup, rng)
    _draw(setup)
    return {
        "members": members,
        "looking pays": _looking(),
        "accusers": _accusers(),
        "coalitions": coalitions,
        "sizes of committees": _sizes(),
        "Sybils and padding": _places(),
    }


# A strategy of a member: what it votes when the accused is guilty and when it is innocent, and what that costs.
STRATEGIES: dict[str, tuple[Vote, Vote, float]] = {
    "honest": (Vote.GUILTY, Vote.INNOCENT, WORK),
    "unserved without looking": (Vote.UNSERVED, Vote.UNSERVED, 0.0),
    "innocent without looking": (Vote.INNOCENT, Vote.INNOCENT, 0.0),
    "guilty without looking": (Vote.GUILTY, Vote.GUILTY, 0.0),
    "grey without looking": (Vote.GREY, Vote.GREY, 0.0),
    # Another's commitment has its member in the hash: who copies one cannot open it.
    "a copied commitment": (Vote.SILENT, Vote.SILENT, 0.0),
    "no vote": (Vote.SILENT, Vote.SILENT, 0.0),
}


def _members(setup: Setup, rng: np.random.Generator) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    cases = setup.times(20_000, 500)
    for lazy in LAZY_OTHERS:
        for name, (guilty, innocent, cost) in STRATEGIES.items():
            row: dict[str, object] = {"others lazy": lazy, "strategy": name}
            for share in GUILTY_CASES:
                profit = -cost
                for truth, vote, chance in (
                    (Vote.GUILTY, guilty, share),
                    (Vote.INNOCENT, innocent, 1 - share),
                ):
                    others = {truth: 1 - lazy, Vote.UNSERVED: lazy}
                    profit += chance * expected_vote(TERMS, vote, others)
                row[f"HCT a case, {share:.0%} guilty"] = profit
            played = _play(rng, guilty, innocent, lazy, cases) - cost
            row["simulated, 50% guilty"] = float(played.mean())
            row["standard error"] = float(played.std() / np.sqrt(cases))
            rows.append(row)
    return rows


def _play(
    rng: np.random.Generator, guilty: Vote, innocent: Vote, lazy: float, cases: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Pay in HCT of one member in so many cases, half of them guilty."""
    paid = np.empty(cases)
    for case in range(cases):
        truth, own = ((Vote.GUILTY, guilty), (Vote.INNOCENT, innocent))[int(rng.integers(2))]
        others = [Vote.UNSERVED if idle else truth for idle in rng.random(TERMS.seats - 1) < lazy]
        paid[case] = payoffs(TERMS, (own, *others)).members[0] / HCT
    return paid


def _looking() -> list[dict[str, object]]:
    """Between which shares of guilty cases honest work earns more than a vote without looking."""
    rows: list[dict[str, object]] = []
    for lazy in LAZY_OTHERS:
        pay = {
            (truth, vote): expected_vote(TERMS, vote, {truth: 1 - lazy, Vote.UNSERVED: lazy})
            for truth in (Vote.GUILTY, Vote.INNOCENT)
            for vote in (Vote.GUILTY, Vote.INNOCENT)
        }
        guilty = pay[Vote.GUILTY, Vote.GUILTY] - pay[Vote.GUILTY, Vote.INNOCENT]
        innocent = pay[Vote.INNOCENT, Vote.INNOCENT] - pay[Vote.INNOCENT, Vote.GUILTY]
        rows.append(
            {
                "others lazy": lazy,
                "work, HCT": WORK,
                "from guilty": WORK / guilty,
                "to guilty": 1 - WORK / innocent,
            }
        )
    return rows


def _accusers() -> list[dict[str, object]]:
    """What an accuser gets of one case; members judge rightly what they are given."""
    seats = TERMS.seats
    ways = {
        "right, evidence to all": [Vote.GUILTY] * seats,
        "right, one member takes no evidence": [*[Vote.GUILTY] * (seats - 1), Vote.UNSERVED],
        "right, two take no evidence": [*[Vote.GUILTY] * (seats - 2), *[Vote.UNSERVED] * 2],
        "griefing, evidence to all": [Vote.INNOCENT] * seats,
        "griefing, evidence to two": [*[Vote.INNOCENT] * 2, *[Vote.UNSERVED] * (seats - 2)],
        "griefing, no evidence": [Vote.UNSERVED] * seats,
        "griefing, one member stays away": [*[Vote.INNOCENT] * (seats - 1), Vote.SILENT],
    }
    rows: list[dict[str, object]] = []
    for name, votes in ways.items():
        paid = payoffs(TERMS, votes)
        rows.append(
            {
                "accuser": name,
                "outcome": paid.outcome.value,
                "HCT to the accuser": paid.accuser / HCT,
                "to the accused": paid.accused / HCT,
                "to a member that judged": paid.members[0] / HCT - (WORK if votes[0] != Vote.UNSERVED else 0),
                "to one that did not": paid.members[-1] / HCT if votes[-1] != votes[0] else None,
            }
        )
    return rows


def _coalitions(setup: Setup, rng: np.random.Generator) -> list[dict[str, object]]:
    throws = setup.times(100_000, 2000)
    values = [best_of_coalition(TERMS, own, Vote.INNOCENT, _bond) / HCT for own in range(TERMS.seats + 1)]
    rows: list[dict[str, object]] = []
    for share in SHARES:
        for blocks in BLOCKS:
            # One row for each case, one column for each throw: seats of the coalition, without replacement.
            own = rng.hypergeometric(
                round(LIST * share), LIST - round(LIST * share), TERMS.seats, (throws, blocks + 1)
            )
            rows.append(
                {
                    "share": share,
                    "own blocks": blocks,
                    "decides alone": captured(share, TERMS.seats, blocks),
                    "simulated": float((own.max(axis=1) >= majority(TERMS.seats)).mean()),
                    "saves a cheat": escaped(TERMS, share, blocks, 1),
                    f"in {TRIES} tries": escaped(TERMS, share, blocks),
                    "false accusation, HCT": false_accusation(TERMS, share, blocks),
                    "simulated, HCT": float(_stopped(own, values, share, blocks).mean()),
                }
            )
    return rows


def _sizes() -> list[dict[str, object]]:
    """What the number of seats changes: a member's pay and a coalition's chances, by its share of the list."""
    rows: list[dict[str, object]] = []
    for seats in SIZES:
        terms = replace(TERMS, seats=seats)
        pay = [expected_vote(terms, vote, {vote: 1.0}) - WORK for vote in (Vote.GUILTY, Vote.INNOCENT)]
        rows.append(
            {
                "seats": seats,
                "honest, guilty": pay[0],
                "honest, innocent": pay[1],
                **{f"decides alone, {share:.0%}": captured(share, seats) for share in (0.1, 0.2, 0.3, 0.4)},
                **{f"saves a cheat thrice, {share:.0%}": escaped(terms, share) for share in (0.1, 0.3)},
                "false accusation, 30%": false_accusation(terms, 0.3),
            }
        )
    return rows


def _bond(paid: Payoffs) -> int:
    return paid.accuser


def _stopped(
    own: np.ndarray[tuple[int, int], np.dtype[np.int64]], values: list[float], share: float, blocks: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What each case brings a coalition that leaves a block out when the next throw is worth more."""
    worth = np.array(values)[own]
    result = worth[:, blocks].copy()
    for throw in reversed(range(blocks)):
        again = false_accusation(TERMS, share, blocks - throw - 1)
        result = np.where(worth[:, throw] >= again, worth[:, throw], result)
    return result


def _places() -> list[dict[str, object]]:
    """What places on the list cost, and what they earn: a case seats `seats` of LIST verifiers."""
    pay = TERMS.seats * (expected_vote(TERMS, Vote.GUILTY, {Vote.GUILTY: 1.0}) - WORK)
    rows: list[dict[str, object]] = []
    for name, places, eligible in (
        ("one honest operator", 1, 1),
        ("a Sybil of 10 stakes", 10, 10),
        ("a Sybil of 100 stakes", 100, 100),
        ("100 places padded, stake gone", 100, 0),
    ):
        drawn = eligible / LIST * TERMS.seats
        rows.append(
            {
                "who": name,
                "stake locked, HCT": places * TERMS.fault / HCT,
                "seats a case": drawn,
                "HCT a case": eligible / LIST * pay,
                "HCT a case and 100 HCT of stake": eligible / LIST * pay / places,
                "decides a case alone": captured(eligible / LIST, TERMS.seats),
            }
        )
    return rows


def _draw(setup: Setup) -> None:
    shares = np.linspace(0, 0.7, 71)
    with picture(setup.out / "disputes-coalition.svg") as (axes,):
        lines(
            axes,
            shares,
            {
                f"{blocks} own blocks": [false_accusation(TERMS, share, blocks) for share in shares]
                for blocks in BLOCKS
            },
            xlabel="coalition's share of the list of verifiers",
            ylabel="HCT that accusing honest work brings it",
        )
        axes.axhline(0.0, color="0.7", lw=0.8)
