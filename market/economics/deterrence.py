"""What must be at stake so that cheating loses money: the closed form, and what common cheats gain.

The unit is one stage of one session: that is what one receipt chain covers, one audit looks into and one fault is
slashed for. Money is whole wei; rates are turned into exact fractions of what they are written as, so nothing
is lost before the last rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hypercluster.market.errors import MarketError

Rate = float | Fraction


class BadDeterrence(MarketError):
    """A rate or an amount makes no sense, or nothing could deter."""


@dataclass(frozen=True, slots=True)
class Cheat:
    """One way to cheat: ``saved`` is the share of a unit's price that it gains, 0 to 1; ``how`` is for people."""

    name: str
    saved: Fraction
    how: str

    def gain_wei(self, price_wei: int, tokens: int) -> int:
        """Return what it gains on one session of ``tokens`` tokens at ``price_wei`` each, in wei, rounded up.

        All of the price is taken for cost, which overstates the gain: nobody works for more than it is paid.
        """
        return math.ceil(self.saved * price_wei * tokens)


def cheats(layers: int) -> list[Cheat]:
    """Return the usual ways to cheat on a stage of ``layers`` layers.

    Raises:
        BadDeterrence: a stage has at least one layer.
    """
    if layers < 1:
        raise BadDeterrence(f"A stage has at least one layer, not {layers}.")
    return [
        Cheat("skip a layer", Fraction(1, layers), "compute all layers of the stage but one"),
        Cheat("quantised", Fraction(1, 2), "serve weights of half the bits"),
        Cheat("other model", Fraction(9, 10), "serve a model of a tenth of the size"),
        Cheat("lazy", Fraction(1), "compute nothing and return anything of the right shape"),
        Cheat("noise", Fraction(0), "compute everything and spoil it: harms the client, gains nothing"),
    ]


def required_stake(
    gain: int,
    audit_rate: Rate,
    detection: Rate = 1.0,
    reward_share: Rate = 0.0,
    in_flight: Rate = 1.0,
    standing: int = 0,
) -> int:
    """Return the least stake at which cheating does not pay, in wei, rounded up.

    A provider cheats on unit after unit and gains g on each. A cheated unit is caught with probability
    p = q d: it is audited (q) and the audit sees it (d). So (1 - p) / p units pass on average before the first
    that is caught (a geometric number), and W bring their gain after that: the caught unit, which was paid while it
    was served, and those served until the verdict lands. Then S is slashed. Whoever expects to be caught can be its
    own accuser and gets the reporter's share r of S back; it loses (1 - r) S, and V with its good name. The run
    ends in a profit of

        g ((1 - p) / p + W) - (1 - r) S - V

    which is 0 at S = (g ((1 - p) / p + W) - V) / (1 - r). Cheating less often does not help: honest units
    in between neither gain nor get caught, so the count of cheated units is the same.

    The shorter g ((1 - q') / q' + W) with q' = q d (1 - r) is the same where W = 1 (both are g / q'). For W > 1 it is
    too small by g (W - 1) r / (1 - r): the gain in flight must come out of what is really lost as well.

    Args:
        gain: g, wei per cheated unit over what honest work earns.
        audit_rate: q, above 0 up to 1.
        detection: d, probability that an audit of a cheated unit ends in a conviction, above 0 up to 1.
        reward_share: r, share of the slashed stake that may come back to the cheater, 0 to below 1.
        in_flight: W, units that are paid from the caught one to the verdict, 0 or more; 1: caught on the spot.
        standing: V, wei that the cheater loses besides the stake, as future profit with clients that now avoid it.

    Raises:
        BadDeterrence: an argument is out of range; with q d = 0 nothing is ever caught and no stake deters.
    """
    run = _gain_of_a_run(gain, audit_rate, detection, in_flight)
    kept = 1 - _within("reward_share", reward_share, below=True)
    return max(0, math.ceil((run - _amount("standing", standing)) / kept))


def cheating_profit(
    stake: int,
    gain: int,
    audit_rate: Rate,
    detection: Rate = 1.0,
    reward_share: Rate = 0.0,
    in_flight: Rate = 1.0,
    standing: int = 0,
) -> Fraction:
    """Return the expected profit in wei of cheating until caught, as `required_stake` derives it.

    Raises:
        BadDeterrence: as `required_stake`.
    """
    run = _gain_of_a_run(gain, audit_rate, detection, in_flight)
    kept = 1 - _within("reward_share", reward_share, below=True)
    return run - kept * _amount("stake", stake) - _amount("standing", standing)


@dataclass(frozen=True, slots=True)
class StakeRow:
    """What a cheat gains per unit, and the stake that takes the profit out of it at each audit rate, in wei."""

    cheat: Cheat
    gain_wei: int
    stakes_wei: tuple[int, ...]


def stake_table(
    kinds: Sequence[Cheat],
    rates: Sequence[Rate],
    *,
    price_wei: int,
    tokens: int,
    detection: Rate = 1.0,
    reward_share: Rate = 0.0,
    in_flight: Rate = 1.0,
) -> list[StakeRow]:
    """Return the required stakes of ``kinds`` by audit rate, for sessions of ``tokens`` tokens at ``price_wei``.

    Raises:
        BadDeterrence: as `required_stake`.
    """
    rows = []
    for kind in kinds:
        gain = kind.gain_wei(_amount("price_wei", price_wei), _amount("tokens", tokens))
        stakes = (required_stake(gain, rate, detection, reward_share, in_flight) for rate in rates)
        rows.append(StakeRow(kind, gain, tuple(stakes)))
    return rows


def _gain_of_a_run(gain: int, audit_rate: Rate, detection: Rate, in_flight: Rate) -> Fraction:
    caught = _within("audit_rate", audit_rate) * _within("detection", detection)
    if not caught:
        raise BadDeterrence("Nothing is ever caught at this audit rate and detection, so no stake deters.")
    flying = _exact("in_flight", in_flight)
    if flying < 0:
        raise BadDeterrence(f"in_flight is a number of units from 0, not {in_flight}.")
    return _amount("gain", gain) * ((1 - caught) / caught + flying)


def _within(name: str, value: Rate, *, below: bool = False) -> Fraction:
    exact = _exact(name, value)
    if not 0 <= exact <= 1 or (below and exact == 1):
        raise BadDeterrence(f"{name} lies between 0 and 1{', 1 excluded' if below else ''}; it is {value}.")
    return exact


def _exact(name: str, value: Rate) -> Fraction:
    if isinstance(value, Fraction):
        return value
    if not math.isfinite(value):
        raise BadDeterrence(f"{name} is a finite number, not {value}.")
    # 0.05 is meant as 1/20, not as the binary fraction next to it.
    return Fraction(str(float(value)))


def _amount(name: str, value: int) -> int:
    if value < 0:
        raise BadDeterrence(f"{name} is not below zero; it is {value}.")
    return value
