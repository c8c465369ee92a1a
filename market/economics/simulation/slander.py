"""Clients that tell each other of failed audits, verifiers that lie about honest operators, and what comes of it.

Some operators cheat, some are in league with verifiers that testify against everybody else, the rest are honest.
Each client takes the operator that is best for it by price, time and risk, has some requests audited, and hears
what is said. What a rumour does is the rule under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hypercluster.market.trust.hearsay import MOST_HEARD, weight
from hypercluster.market.trust.reputation import FAULT, MOST_GOOD, PRIOR_BAD, PRIOR_GOOD, Evidence

Floats = npt.NDArray[np.float64]

HONEST, CHEATS, LEAGUE = 16, 2, 2
"""operators of each sort"""
VERIFIERS = 10
"""honest verifier operators, of equal stake"""
CLIENTS = 200
AUDITED, DETECTION = 0.05, 0.9
"""share of requests that are audited, and of cheated ones among these that are found"""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a client makes of rumours.

    Attributes:
        weigh: what the word of a witness with a share of the verifiers' stake weighs as bad evidence.
        most: what all words against one operator weigh at most.
        distrusts: whether words can make a client distrust somebody, and not only weigh in its choice.
    """

    weigh: Callable[[float], float]
    most: float = math.inf
    distrusts: bool = True


RULES: dict[str, Rule] = {
    "nothing is shared": Rule(lambda share: 0.0),
    "every word believed": Rule(lambda share: FAULT),
    "each name counts one": Rule(lambda share: 1.0),
    "by stake, bounded": Rule(weight, MOST_HEARD, distrusts=False),
}
"""the last is what clients do (`market.trust.hearsay`)"""


@dataclass(frozen=True, slots=True)
class Slandered:
    """What came of it, in shares of all requests: who served them, and those that found nobody to trust.

    `distrusted` is the share of (client, honest operator) pairs that ended in distrust, `cheated_early` the share
    that went to cheats in the first fifth of the time.
    """

    honest: float
    league: float
    cheated: float
    cheated_early: float
    nobody: float
    distrusted: float


def slander(rule: Rule, names: int, stake: float, *, requests: int = 200, seed: int = 0) -> Slandered:
    """Let `names` verifier operators that hold `stake` of all verifiers' stake together slander all but their league.

    Each client makes `requests` requests. Prices and times are drawn by `seed`, the same for every rule.
    """
    rng = np.random.default_rng(seed)
    operators = HONEST + CHEATS + LEAGUE
    cheats, league = slice(HONEST, HONEST + CHEATS), slice(HONEST + CHEATS, operators)
    # In units of p_ref: what everybody pays, and what the way there costs each client.
    cost = rng.lognormal(0.0, 0.25, operators) + rng.uniform(0.0, 1.0, (CLIENTS, operators))
    good, lied = np.zeros((CLIENTS, operators)), np.zeros((CLIENTS, operators), dtype=bool)
    testified = np.zeros((VERIFIERS, operators), dtype=bool)
    told = rule.weigh(stake / names) * names if names and stake else 0.0
    slandered = np.full(operators, told)
    slandered[league] = 0.0
    served, early, nobody = np.zeros(operators), 0.0, 0
    everyone = np.arange(CLIENTS)
    good_served, good_passed = Evidence.SERVED.honesty[0], Evidence.AUDIT_PASSED.honesty[0]
    honest_word = rule.weigh((1.0 - stake) / VERIFIERS)
    for number in range(requests):
        heard = np.minimum(rule.most, slandered + testified.sum(axis=0) * honest_word)
        bad = FAULT * lied + (heard if rule.distrusts else 0.0)
        shunned = PRIOR_BAD + bad > PRIOR_GOOD + good
        weighed = np.where(shunned, np.inf, cost + _risk(good, FAULT * lied + heard))
        chosen = weighed.argmin(axis=1)
        found = np.isfinite(weighed[everyone, chosen])
        nobody += int((~found).sum())
        who, whom = everyone[found], chosen[found]
        np.add.at(served, whom, 1)
        if number < requests // 5:
            early += float(((whom >= HONEST) & (whom < HONEST + CHEATS)).sum())
        audited = rng.random(len(who)) < AUDITED
        cheated = (whom >= HONEST) & (whom < HONEST + CHEATS)
        caught = audited & cheated & (rng.random(len(who)) < DETECTION)
        good[who, whom] += good_served + good_passed * (audited & ~cheated)
        np.minimum(good, MOST_GOOD, out=good)
        lied[who[caught], whom[caught]] = True
        # Whose verifier was asked testifies; one in league with somebody else's cheat has no reason not to.
        asked = rng.integers(0, VERIFIERS, len(who))
        testified[asked[caught], whom[caught]] = True
    total = float(CLIENTS * requests)
    return Slandered(
        honest=float(served[:HONEST].sum()) / total,
        league=float(served[league].sum()) / total,
        cheated=float(served[cheats].sum()) / total,
        cheated_early=early / (CLIENTS * (requests // 5)),
        nobody=nobody / total,
        distrusted=float(shunned[:, :HONEST].mean()),
    )


def _risk(good: Floats, bad: Floats) -> Floats:
    """`Reputation.risk` of honesty, for many at once."""
    found: Floats = np.log((PRIOR_GOOD + good + PRIOR_BAD + bad) / (PRIOR_GOOD + good))
    return found
