"""Slander: what k verifiers in league that hold a share of the stake can do to honest operators, and what rumours are
good for.
"""

from __future__ import annotations

from statistics import fmean

from hypercluster.market.economics.plots import lines, picture
from hypercluster.market.economics.simulation.experiments import Findings, Setup
from hypercluster.market.economics.simulation.slander import RULES, Slandered, slander
from hypercluster.market.trust.hearsay import MOST_HEARD, weight
from hypercluster.market.trust.reputation import Reputation

NAMES = (1, 3, 10, 100)
STAKES = (0.01, 0.05, 0.1, 0.2, 1 / 3, 0.5)
SHOWN_NAMES = 10


def slandering(setup: Setup) -> Findings:
    """Count what is said against an honest operator, then let clients choose by it under each rule."""
    setup.say("weights")
    heard = _heard()
    setup.say("rules")
    rules = _rules(setup)
    setup.say("names")
    return {"heard": heard, "rules": rules, "names": _names(setup)}


def _heard() -> list[dict[str, object]]:
    """What k slanderers make of a stranger, and of an operator that passed ten audits with this client."""
    rows: list[dict[str, object]] = []
    for names in NAMES:
        for stake in STAKES:
            heard = min(MOST_HEARD, names * weight(stake / names))
            stranger, known = Reputation(heard=heard), Reputation(good=10.0, heard=heard)
            rows.append(
                {
                    "slanderers": names,
                    "share of stake": stake,
                    "heard": heard,
                    "dearer by, stranger": stranger.risk - Reputation().risk,
                    "dearer by, known": known.risk - Reputation(good=10.0).risk,
                    "distrusted": stranger.distrusted,
                }
            )
    return rows


def _runs(setup: Setup, rule: str, names: int, stake: float) -> Slandered:
    runs = [
        slander(RULES[rule], names, stake, requests=setup.times(200, 40), seed=setup.seed + seed)
        for seed in range(setup.times(8, 2))
    ]
    return Slandered(*(fmean(getattr(run, name) for run in runs) for name in Slandered.__slots__))


def _row(rule: str, names: int, stake: float, found: Slandered, before: Slandered) -> dict[str, object]:
    return {
        "rule": rule,
        "slanderers": names,
        "share of stake": stake,
        "honest kept": found.honest / before.honest,
        "league gained": found.league / before.league,
        "to cheats": found.cheated,
        "to cheats at first": found.cheated_early,
        "nobody to trust": found.nobody,
        "honest distrusted": found.distrusted,
    }


def _rules(setup: Setup) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    kept: dict[str, list[float]] = {}
    for rule in RULES:
        before = _runs(setup, rule, 0, 0.0)
        rows.append(_row(rule, 0, 0.0, before, before))
        for stake in STAKES:
            found = _runs(setup, rule, SHOWN_NAMES, stake)
            rows.append(_row(rule, SHOWN_NAMES, stake, found, before))
            kept.setdefault(rule, []).append(found.honest / before.honest)
    with picture(setup.out / "slander.svg") as (axes,):
        lines(
            axes,
            STAKES,
            kept,
            xlabel=f"share of the verifiers' stake that {SHOWN_NAMES} slanderers hold",
            ylabel="requests that honest operators keep",
            markers=True,
        )
        axes.set_ylim(-0.03, 1.05)
    return rows


def _names(setup: Setup) -> list[dict[str, object]]:
    """One stake under more and more names."""
    rows: list[dict[str, object]] = []
    for rule in RULES:
        before = _runs(setup, rule, 0, 0.0)
        rows += [_row(rule, names, 0.1, _runs(setup, rule, names, 0.1), before) for names in NAMES]
    return rows
