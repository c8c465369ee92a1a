"""What a client believes of a provider: a Beta posterior over honest service that forgets with time.

The probability that a provider serves a stage well has the prior Beta(`PRIOR_GOOD`, `PRIOR_BAD`). Every piece
of evidence adds to one side or the other, and all evidence halves every `HALF_LIFE`. Each client keeps its own
record and shares none, so there is nothing to be gained by vouching for oneself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from hypercluster.market.errors import MarketError

PRIOR_GOOD = 9.0
PRIOR_BAD = 1.0
"""A stranger is taken for 90 % reliable on the strength of ten sessions: good enough to be tried (its stake
speaks for it), and soon outweighed by what is seen of it."""

HALF_LIFE = timedelta(days=7)
"""Machines change hands, are repaired and break; what was seen a month ago counts for a sixteenth."""

MOST_GOOD = 40.0
"""Credit that good service can build up, so that nobody can save up for a fault: reliability ends at 98 %."""

FAULT_HALF_LIVES = 3
"""For how many half-lives a single proven fault outweighs any record, however good."""


class BadReputation(MarketError):
    """Evidence or an interval makes no sense."""


class Evidence(StrEnum):
    """What can be seen of a provider; ``weight`` says what it adds to (good, bad).

    A *failed audit* is a proven fault. A provider is distrusted while PRIOR_BAD + bad > PRIOR_GOOD + good. Good
    is at most `MOST_GOOD`, so bad must exceed N = PRIOR_GOOD + MOST_GOOD - PRIOR_BAD = 48, and after k
    half-lives it still does if it began above 2**k N. With k = `FAULT_HALF_LIVES`, one fault weighs
    2**3 * 48 = 384: the best provider is distrusted for three weeks and a stranger for log2(384 / 8) = 5.6.

    A *wrong receipt* (unsigned, or not over what was sent) leaves nothing to hold the provider to. It weighs
    PRIOR_GOOD: enough for a stranger to be distrusted at once (9 of 19), too little for a long record.

    A *passed audit* is worth ten *served* sessions: service that nobody looked into could be anything.
    A *grey audit* says nothing.
    """

    AUDIT_PASSED = "audit_passed"
    AUDIT_FAILED = "audit_failed"
    AUDIT_GREY = "audit_grey"
    SERVED = "served"
    SESSION_FAILED = "session_failed"
    LATENCY_LIE = "latency_lie"
    RECEIPT_WRONG = "receipt_wrong"

    @property
    def weight(self) -> tuple[float, float]:
        """What this adds to the (good, bad) evidence."""
        return _WEIGHTS[self]


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # nothing to decay, so any moment does

FAULT = 2.0**FAULT_HALF_LIVES * (PRIOR_GOOD + MOST_GOOD - PRIOR_BAD)

_WEIGHTS: dict[Evidence, tuple[float, float]] = {
    Evidence.AUDIT_PASSED: (1.0, 0.0),
    Evidence.AUDIT_FAILED: (0.0, FAULT),
    Evidence.AUDIT_GREY: (0.0, 0.0),
    Evidence.SERVED: (0.1, 0.0),
    Evidence.SESSION_FAILED: (0.0, 1.0),
    Evidence.LATENCY_LIE: (0.0, 0.5),
    Evidence.RECEIPT_WRONG: (0.0, PRIOR_GOOD),
}


@dataclass(frozen=True, slots=True)
class Reputation:
    """The evidence on one provider as it stood at ``updated``.

    Attributes:
        good: decayed weight of what speaks for it, 0 to `MOST_GOOD`.
        bad: decayed weight of what speaks against it, 0 or more.
        updated: moment, with a time zone, that the two are decayed to.
    """

    good: float = 0.0
    bad: float = 0.0
    updated: datetime = _LONG_AGO

    def __post_init__(self) -> None:
        if not (0 <= self.good < math.inf and 0 <= self.bad < math.inf):
            raise BadReputation(f"Evidence of {self.good} good and {self.bad} bad is not two finite amounts.")
        if self.updated.tzinfo is None:
            raise BadReputation("A reputation's moment needs a time zone.")

    def decayed(self, now: datetime) -> Reputation:
        """Return the same evidence as it counts at ``now``; a moment before ``updated`` changes nothing."""
        if now <= self.updated:
            return self
        left = _left(now - self.updated)
        return Reputation(self.good * left, self.bad * left, now)

    def noted(self, kind: Evidence, now: datetime) -> Reputation:
        """Return the reputation with one more piece of evidence, decayed to ``now``.

        Evidence from before ``updated`` (clocks differ, and audits end late) counts as decayed as it is old.
        """
        before = self.decayed(now)
        left = _left(before.updated - now)
        good, bad = kind.weight
        return Reputation(min(before.good + left * good, MOST_GOOD), before.bad + left * bad, before.updated)

    @property
    def reliability(self) -> float:
        """Posterior mean of the probability that it serves well, above 0 and below 1."""
        return (PRIOR_GOOD + self.good) / self._evidence

    @property
    def risk(self) -> float:
        """Minus the log of the reliability, above 0: it adds up over the hops of a path as weights do.

        All hops of a path serve well with the product of their reliabilities, so the path of least total risk
        is the one most likely to be honest from end to end.
        """
        return math.log(self._evidence / (PRIOR_GOOD + self.good))

    @property
    def distrusted(self) -> bool:
        """Whether it is more likely to serve badly than well."""
        return self.reliability < 0.5

    def credible_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Return the central interval that holds the probability with ``level``, between 0 and 1 exclusive.

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


def _left(age: timedelta) -> float:
    """Share of the evidence that is left after ``age``."""
    return float(0.5 ** (age / HALF_LIFE))
