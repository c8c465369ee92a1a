"""Rational cheaters: where the closed form puts the stake, they stop; below it, they learn to cheat."""

from __future__ import annotations

import numpy as np

from hypercluster.market.economics.deterrence import required_stake
from hypercluster.market.economics.plots import lines, picture
from hypercluster.market.economics.simulation.cheater import Deterrent, learn
from hypercluster.market.economics.simulation.experiments import Findings, Setup
from hypercluster.market.economics.simulation.experiments.shocks import smooth
from hypercluster.market.money.units import HCT

DETECTION, REWARD, IN_FLIGHT = 0.9, 0.2, 20.0
RATES = (0.01, 0.02, 0.05, 0.1)
STAKES = (0.25, 0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0, 4.0)
SHOWN_RATE, SHOWN_STAKES = 0.02, (0.5, 0.8, 1.0, 1.25, 2.0)


def deterrence(setup: Setup) -> Findings:
    """Play cheating until caught against the closed form, then let cheaters learn on both sides of it."""
    setup.say("break-even")
    closed = _break_even(setup)
    setup.say("learning")
    return {"break-even": closed, "learning": _learning(setup)}


def _break_even(setup: Setup) -> list[dict[str, object]]:
    """Play whole runs at the required stake: the mean profit should be 0 within its standard error."""
    rng = np.random.default_rng(setup.seed)
    runs = setup.times(200_000, 2000)
    rows: list[dict[str, object]] = []
    for rate in RATES:
        for in_flight in (1.0, IN_FLIGHT, 1000.0):
            stake = required_stake(HCT, rate, DETECTION, REWARD, in_flight) / HCT
            passed = rng.geometric(rate * DETECTION, runs) - 1
            profit = passed + in_flight - (1.0 - REWARD) * stake
            rows.append(
                {
                    "audit rate": rate,
                    "in flight": in_flight,
                    "stake / gain": stake,
                    "profit / gain": float(profit.mean()),
                    "standard error": float(profit.std() / np.sqrt(runs)),
                    "at half the stake": float((profit + 0.5 * (1.0 - REWARD) * stake).mean()),
                    "at twice the stake": float((profit - (1.0 - REWARD) * stake).mean()),
                }
            )
    return rows


def _learning(setup: Setup) -> list[dict[str, object]]:
    sessions, copies = setup.times(20_000, 1000), setup.times(50, 10)
    cases = [(rate, stake) for rate in RATES for stake in STAKES]
    terms = [Deterrent(rate, DETECTION, REWARD, IN_FLIGHT, stake) for rate, stake in cases]
    learned = learn(terms, sessions=sessions, copies=copies, seed=setup.seed)
    tail, step = sessions // 4, max(1, sessions // 400)
    start, end = learned.cheating[: sessions // 100].mean(axis=0), learned.cheating[-tail:].mean(axis=0)
    profit = learned.profit[-tail:].mean(axis=0)
    with picture(setup.out / "deterrence-stake.svg") as (axes,):
        by_rate = {
            f"{rate:.0%} audited": [end[cases.index((rate, stake))] for stake in STAKES] for rate in RATES
        }
        lines(
            axes,
            STAKES,
            by_rate,
            xlabel="stake / required stake",
            ylabel="share of sessions cheated in the last quarter",
            markers=True,
        )
        axes.set_xscale("log", base=2)
        axes.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
        axes.set_ylim(-0.03, 1.03)
        axes.axvline(1.0, color="0.7", lw=0.8)
    with picture(setup.out / "deterrence-learning.svg") as (axes,):
        by_stake = {
            f"{stake:g} x required": smooth(learned.cheating[:, cases.index((SHOWN_RATE, stake))], 201)[
                ::step
            ]
            for stake in SHOWN_STAKES
        }
        lines(
            axes,
            np.arange(1, sessions + 1)[::step],
            by_stake,
            xlabel=f"session of the provider ({SHOWN_RATE:.0%} audited)",
            ylabel="share of providers that cheat",
        )
        axes.set_ylim(-0.03, 1.03)
    return [
        {
            "audit rate": rate,
            "stake / required": stake,
            "cheated at first": float(start[column]),
            "cheated at the end": float(end[column]),
            "profit per session / gain": float(profit[column]),
        }
        for column, (rate, stake) in enumerate(cases)
    ]
