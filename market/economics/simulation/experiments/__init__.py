"""The experiments of docs/economics.md and docs/verification.md: each draws its figures into a folder and
returns its findings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypercluster.market.errors import MarketError


class NoExperiment(MarketError):
    """There is no experiment of this name."""


def _silent(_: str) -> None:
    return None


@dataclass(frozen=True)
class Setup:
    """How to run an experiment.

    Attributes:
        out: folder for figures.
        seed: of every random draw.
        effort: 1 is what the documentation shows; smaller runs shrink repetitions and sizes.
        say: told what is being done.
    """

    out: Path
    seed: int = 0
    effort: float = 1.0
    say: Callable[[str], None] = field(default=_silent)

    def times(self, count: int, least: int = 2) -> int:
        """Return ``count`` scaled by the effort."""
        return max(least, round(count * self.effort))


Findings = dict[str, list[dict[str, object]]]
"""Named tables: lists of rows."""


def experiments() -> dict[str, Callable[[Setup], Findings]]:
    """Return all experiments by name."""
    from hypercluster.market.economics.simulation.experiments.alternatives import alternatives
    from hypercluster.market.economics.simulation.experiments.deterrence import deterrence
    from hypercluster.market.economics.simulation.experiments.disputes import disputes
    from hypercluster.market.economics.simulation.experiments.earnings import earnings
    from hypercluster.market.economics.simulation.experiments.paper import paper
    from hypercluster.market.economics.simulation.experiments.rest import equilibrium
    from hypercluster.market.economics.simulation.experiments.shocks import shocks
    from hypercluster.market.economics.simulation.experiments.slander import slandering

    return {
        "paper": paper,
        "equilibrium": equilibrium,
        "earnings": earnings,
        "shocks": shocks,
        "alternatives": alternatives,
        "deterrence": deterrence,
        "slander": slandering,
        "disputes": disputes,
    }


def run_experiment(name: str, setup: Setup) -> Findings:
    """Run the experiment called ``name``; raises `NoExperiment`."""
    known = experiments()
    if name not in known:
        raise NoExperiment(f"There is no experiment {name}: choose one of {', '.join(known)}.")
    return known[name](setup)
