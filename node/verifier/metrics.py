"""A verifier's metrics; nobody who is judged or who pays is named in them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from hypercluster.market.ledger import DutyPhase, SoldAudit
from hypercluster.market.money.units import COIN, one
from hypercluster.node.engine.devices import accelerators
from hypercluster.node.engine.profile import LLAMA_CPP
from hypercluster.node.serving.jobs import Jobs
from hypercluster.node.verifier.http import Showing
from hypercluster.node.web.metrics import PREFIX, ProcessMetrics


def counted(
    showing: Showing, jobs: Jobs, registry: CollectorRegistry | None = None
) -> tuple[ProcessMetrics, Callable[[SoldAudit], None]]:
    """Metrics of a verifier, in a registry of their own, and what is to be told of each audit sold."""
    registry = registry or CollectorRegistry()
    process = ProcessMetrics(registry)
    process.build(llama_cpp=LLAMA_CPP, backend=accelerators()[0].name.lower() if accelerators() else "cpu")
    process.chain_head(lambda: showing.standings.now.head if showing.standings.now else None)
    jobs.on_end = process.job
    _gauges(registry, showing)
    audits = Counter(f"{PREFIX}verifier_audits", "Audits that were paid for.", ["finding"], registry=registry)
    return process, lambda sale: audits.labels(sale.finding).inc()


def _gauges(registry: CollectorRegistry, showing: Showing) -> None:
    cases = Gauge(f"{PREFIX}verifier_cases", "Seats in committees by phase.", ["phase"], registry=registry)
    for phase in DutyPhase:
        cases.labels(phase.value).set_function(partial(_seats, showing, phase))

    def left() -> float:
        ends = [
            end
            for duty in showing.duties
            if duty.phase == DutyPhase.COMMITTED and (end := showing.reveal_deadline(duty))
        ]
        return min(ends) - time.time() if ends else math.inf

    for name, help_, read in (
        ("reveal_deadline_seconds", "Until a vote that is not revealed costs stake; +Inf for none.", left),
        ("credits_hct", "Rewards of votes, to be claimed.", lambda: showing.credits_wei / one()),
        (
            "node_gas_coin",
            "Coin of the node key, for gas.",
            lambda: showing.standings.now.node_gas_wei / COIN if showing.standings.now else math.nan,
        ),
    ):
        Gauge(f"{PREFIX}verifier_{name}", help_, registry=registry).set_function(read)


def _seats(showing: Showing, phase: DutyPhase) -> int:
    return sum(duty.phase == phase for duty in showing.duties)
