"""A provider that knows nothing of audits and stakes, and learns from its own profit whether to cheat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hypercluster.market.economics.deterrence import required_stake
from hypercluster.market.economics.graph import Floats
from hypercluster.market.money.units import HCT

LEVELS = (0.0, 0.5, 1.0)
"""What may be done with each session, by the share of its price that it saves: honest, half, or no work."""

EXPLORING = 0.05
"""Share of sessions that a provider goes on trying things out in; it began with nothing else."""


@dataclass(frozen=True, slots=True)
class Deterrent:
    """What cheating runs into, as in `hypercluster.market.economics.deterrence.required_stake`.

    Attributes:
        audit_rate, detection, reward_share: probabilities and share.
        in_flight: sessions that are paid from the caught one to the verdict, 1 or more.
        stake: in units of the stake that is required against the highest of the levels (no work at all).
    """

    audit_rate: float
    detection: float
    reward_share: float
    in_flight: float
    stake: float

    @property
    def caught(self) -> float:
        """Probability that a cheated session is convicted of."""
        return self.audit_rate * self.detection

    @property
    def loss(self) -> float:
        """What a conviction costs, in units of what a session of no work saves."""
        required = required_stake(HCT, self.audit_rate, self.detection, self.reward_share, self.in_flight)
        return self.stake * required / HCT * (1.0 - self.reward_share)


@dataclass(frozen=True, eq=False)
class Learned:
    """What came of it, averaged over the copies: float64 [sessions, terms] each.

    Attributes:
        cheating: share of the providers that cheat in this session.
        profit: per provider over honest work, in units of what a session of no work saves.
    """

    cheating: Floats
    profit: Floats


def learn(
    terms: Sequence[Deterrent],
    *,
    sessions: int,
    copies: int,
    seed: int = 0,
    levels: Sequence[float] = LEVELS,
) -> Learned:
    """Let ``copies`` providers under each of ``terms`` serve ``sessions`` sessions, all at once.

    Each is an epsilon-greedy bandit. It takes the level with the best mean profit so far, one never tried first;
    with probability max(t**(-1/3), `EXPLORING`) it tries any level in its t-th session. A conviction ends in the loss
    of the stake, which is topped up, and the profit in flight counts with the session that was caught.
    """
    rng = np.random.default_rng(seed)
    gains = np.asarray(levels, dtype=np.float64)
    size = len(terms) * copies
    caught = np.repeat([each.caught for each in terms], copies)
    loss = np.repeat([each.loss for each in terms], copies)
    flying = np.repeat([each.in_flight for each in terms], copies)
    rows = np.arange(size)
    total, count = np.zeros((size, len(gains))), np.zeros((size, len(gains)))
    mean = np.full((size, len(gains)), np.inf)
    cheating, earned = np.empty((sessions, len(terms))), np.empty((sessions, len(terms)))
    for session in range(sessions):
        exploring = rng.random(size) < max((session + 1) ** (-1 / 3), EXPLORING)
        level = np.where(exploring, rng.integers(0, len(gains), size), mean.argmax(axis=1))
        gain = gains[level]
        convicted = (rng.random(size) < caught) & (gain > 0)
        profit = gain + convicted * ((flying - 1.0) * gain - loss)
        total[rows, level] += profit
        count[rows, level] += 1
        mean[rows, level] = total[rows, level] / count[rows, level]
        cheating[session] = (gain > 0).reshape(-1, copies).mean(axis=1)
        earned[session] = profit.reshape(-1, copies).mean(axis=1)
    return Learned(cheating, earned)
