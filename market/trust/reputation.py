"""What a client believes of an operator and its nodes: typed evidence that forgets, each kind in its own time.

Two questions are kept apart. *Honesty* is the operator's: whoever computes wrongly on one machine does on all, as one
stake stands for them. *Availability* is each node's: one broken machine says little of nine others. Both are Beta
posteriors that begin at Beta(`PRIOR_GOOD`, `PRIOR_BAD`). Deaths, silences and refusals speak of availability only, so
nobody is ever distrusted for them; only what is proven against somebody is never forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from hypercluster.market.errors import MarketError

PRIOR_GOOD = 9.0
PRIOR_BAD = 1.0
"""A stranger is taken for 90 % reliable on the strength of ten sessions: good enough to be tried (its stake
speaks for it), and soon outweighed by what is seen of it."""

MOST_GOOD = 40.0
"""Weight that evidence of one kind can build up, lies and wrong results apart: nobody can save up for a fault
(reliability ends at 98 %), and a node that was down for a day is back within a few half-lives."""

FAULT = 8 * (PRIOR_GOOD + MOST_GOOD - PRIOR_BAD)
"""of a lie: eight times what outweighs the best record"""

PRIOR_AVAILABLE = PRIOR_GOOD / (PRIOR_GOOD + PRIOR_BAD)


class BadReputation(MarketError):
    """Evidence or an interval makes no sense."""


class Evidence(StrEnum):
    """What can be seen of a provider. Each kind has a weight, a half-life, and speaks of honesty, of availability,
    or, where it served, of both.

    - *Death*: the connection was lost, or nobody is at its address. Machines fail and come back within the hour.
    - *Refusal*: it failed by its own word, or does not stand by the price that it named.
    - *Silence*: it took a request and did not answer in time. It weighs PRIOR_GOOD: a stranger is not likely to answer
      the next one either (9 of 19), while a long record is hardly touched.
    - *Latency lie*: much slower than it advertised. The paths are corrected by what was measured anyway.
    - *Wrong*: an answer of a wrong shape, not finite, or with a receipt that does not hold. It weighs PRIOR_GOOD as
      well, against honesty: a stranger is distrusted at once, a long record is not.
    - *Lie*: a failed audit or a signed contradiction. It is never forgotten.

    A *passed audit* is worth ten *served* sessions: service that nobody looked into could be anything.
    A *grey audit* says nothing.
    """

    SERVED = "served"
    AUDIT_PASSED = "audit_passed"
    AUDIT_GREY = "audit_grey"
    DEATH = "death"
    SILENCE = "silence"
    REFUSAL = "refusal"
    LATENCY_LIE = "latency_lie"
    WRONG = "wrong"
    LIE = "lie"

    @property
    def honesty(self) -> tuple[float, float]:
        """What one piece adds to the (good, bad) evidence on the operator's honesty."""
        return _KINDS[self].honesty

    @property
    def availability(self) -> tuple[float, float]:
        """What one piece adds to the (good, bad) evidence on the node's availability."""
        return _KINDS[self].availability

    @property
    def half_life(self) -> timedelta | None:
        """In what time half of it is forgotten; None: never."""
        return _KINDS[self].half_life

    @property
    def most(self) -> float:
        """Pieces that count at most."""
        weight = max(*self.honesty, *self.availability)
        return math.inf if self in (Evidence.WRONG, Evidence.LIE) or not weight else MOST_GOOD / weight


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    half_life: timedelta | None
    honesty: tuple[float, float] = (0.0, 0.0)
    availability: tuple[float, float] = (0.0, 0.0)


_HOUR, _DAY, _WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)

_KINDS: dict[Evidence, _Kind] = {
    Evidence.SERVED: _Kind(half_life=_WEEK, honesty=(0.1, 0.0), availability=(1.0, 0.0)),
    Evidence.AUDIT_PASSED: _Kind(half_life=_WEEK, honesty=(1.0, 0.0)),
    Evidence.AUDIT_GREY: _Kind(half_life=_WEEK),
    Evidence.DEATH: _Kind(half_life=_HOUR, availability=(0.0, 1.0)),
    Evidence.REFUSAL: _Kind(half_life=6 * _HOUR, availability=(0.0, 2.0)),
    Evidence.SILENCE: _Kind(half_life=_DAY, availability=(0.0, PRIOR_GOOD)),
    Evidence.LATENCY_LIE: _Kind(half_life=_DAY, availability=(0.0, 0.5)),
    Evidence.WRONG: _Kind(half_life=_WEEK, honesty=(0.0, PRIOR_GOOD)),
    Evidence.LIE: _Kind(half_life=None, honesty=(0.0, FAULT)),
}

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # nothing to decay, so any moment does


@dataclass(frozen=True, slots=True)
class Tally:
    """Pieces of evidence of one kind, each counting as much as is not forgotten at ``updated``, with a time zone."""

    count: float = 0.0
    updated: datetime = _LONG_AGO

    def __post_init__(self) -> None:
        if not 0 <= self.count < math.inf:
            raise BadReputation(f"{self.count} pieces of evidence are no finite amount.")
        if self.updated.tzinfo is None:
            raise BadReputation("The moment of evidence needs a time zone.")

    def decayed(self, kind: Evidence, now: datetime) -> Tally:
        """Return it as it counts at ``now``; a moment before ``updated`` changes nothing."""
        return self if now <= self.updated else Tally(self.count * _left(kind, now - self.updated), now)

    def noted(self, kind: Evidence, now: datetime) -> Tally:
        """Return it with one more piece, decayed to ``now``.

        A piece from before ``updated`` (clocks differ, and audits end late) counts as decayed as it is old.
        """
        before = self.decayed(kind, now)
        count = before.count + _left(kind, before.updated - now)
        return Tally(min(count, kind.most), before.updated)


@dataclass(frozen=True, slots=True)
class Reputation:
    """What evidence amounts to at one moment, for a node of some operator.

    Attributes:
        good, bad: weights of the evidence on the operator's honesty.
        answered, failed: weights of the evidence on the node's availability.
        expected: availability to be expected of a node of this operator that was never met, above 0 and below 1.
        heard: weight of what others said against the operator (see `hypercluster.market.trust.hearsay`); it makes its
            paths dearer and distrusts nobody.
    """

    good: float = 0.0
    bad: float = 0.0
    answered: float = 0.0
    failed: float = 0.0
    expected: float = PRIOR_AVAILABLE
    heard: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.good, self.bad, self.answered, self.failed, self.heard)
        if not all(0 <= weight < math.inf for weight in weights):
            raise BadReputation(f"Evidence of {weights} is not of finite amounts.")
        if not 0 < self.expected < 1:
            raise BadReputation(f"Nobody is available with probability {self.expected}.")

    @classmethod
    def of(
        cls,
        operator: Mapping[Evidence, float],
        node: Mapping[Evidence, float],
        *,
        expected: float = PRIOR_AVAILABLE,
        heard: float = 0.0,
    ) -> Reputation:
        """Add up pieces of evidence: those on all nodes of an operator, and those on the node in question."""
        good, bad = _weighed((kind.honesty, count) for kind, count in operator.items())
        answered, failed = _weighed((kind.availability, count) for kind, count in node.items())
        return cls(min(good, MOST_GOOD), bad, min(answered, MOST_GOOD), failed, expected, heard)

    @property
    def reliability(self) -> float:
        """Posterior mean of the probability that it serves honestly, above 0 and below 1."""
        return (PRIOR_GOOD + self.good) / self._evidence

    @property
    def availability(self) -> float:
        """Posterior mean of the probability that it answers at all, above 0 and below 1."""
        prior = PRIOR_GOOD + PRIOR_BAD
        return (prior * self.expected + self.answered) / (prior + self.answered + self.failed)

    @property
    def risk(self) -> float:
        """Minus the log of the probability that it serves honestly and answers, above 0: it adds up over the hops of
        a path as weights do. What was heard of it counts as bad evidence here.

        The path of least total risk is the one most likely to be answered honestly from end to end.
        """
        honest = (self._evidence + self.heard) / (PRIOR_GOOD + self.good)
        return math.log(honest) - math.log(self.availability)

    @property
    def distrusted(self) -> bool:
        """Whether it is more likely to serve badly than well, by what was seen or proven and not by what was said."""
        return self.reliability < 0.5

    @property
    def silent(self) -> bool:
        """Whether it is more likely to leave a request without answer than to answer it. No reason to distrust it."""
        return self.availability < 0.5

    def credible_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Return the central interval that holds the reliability with ``level``, between 0 and 1 exclusive.

        Raises:
            BadReputation: ``level`` is no such probability.
        """
        if not 0 < level < 1:
            raise BadReputation(f"An interval holds a share between 0 and 1, not {level}.")
        from scipy.special import (
            betaincinv,  # a quarter of a second with numpy; most commands ask for no interval
        )

        a, b = PRIOR_GOOD + self.good, PRIOR_BAD + self.bad
        tail = (1.0 - level) / 2.0
        return float(betaincinv(a, b, tail)), float(betaincinv(a, b, 1.0 - tail))

    @property
    def _evidence(self) -> float:
        return PRIOR_GOOD + self.good + PRIOR_BAD + self.bad


def _weighed(evidence: Iterable[tuple[tuple[float, float], float]]) -> tuple[float, float]:
    """Sums of the good and of the bad weights, each times its count."""
    good = bad = 0.0
    for (for_it, against), count in evidence:
        good, bad = good + for_it * count, bad + against * count
    return good, bad


def _left(kind: Evidence, age: timedelta) -> float:
    """Share of the evidence that is left after ``age``."""
    return 1.0 if kind.half_life is None else float(0.5 ** (age / kind.half_life))
