"""A provider's metrics; no peer and no client is named in them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector as Source

from hypercluster.market.money.units import COIN, one
from hypercluster.node.engine.devices import accelerators
from hypercluster.node.engine.profile import LLAMA_CPP
from hypercluster.node.errors import ErrorCode
from hypercluster.node.provider.http import Showing
from hypercluster.node.serving.collector import Collector
from hypercluster.node.serving.jobs import Jobs
from hypercluster.node.serving.standing import Standing, Standings
from hypercluster.node.web.metrics import PREFIX, SECONDS, ProcessMetrics


def counted(showing: Showing, collector: Collector, jobs: Jobs) -> ProcessMetrics:
    """Metrics of a provider, in a registry of their own, told of whatever happens from here on."""
    registry = CollectorRegistry()
    process, own = ProcessMetrics(registry), ProviderMetrics(registry, showing)
    process.build(llama_cpp=LLAMA_CPP, backend=accelerators()[0].name.lower() if accelerators() else "cpu")
    process.chain_head(lambda: showing.standings.now.head if showing.standings.now else None)
    visits = showing.visits
    visits.on_step, visits.on_refusal, visits.on_price = own.step, own.refusal, own.price_step
    collector.on_claim, jobs.on_end = own.claim, process.job
    return process


class ProviderMetrics:
    """Counts steps, refusals, price steps and claims; everything else is read at each look."""

    def __init__(self, registry: CollectorRegistry, showing: Showing) -> None:
        self._registry, self._showing = registry, showing
        self._steps = self._counter("steps", "Steps answered.")
        self._tokens = self._counter("tokens", "Tokens answered, prompts included.")
        self._decode = Histogram(
            f"{PREFIX}provider_decode_seconds",
            "Computing one token of one session.",
            buckets=SECONDS,
            registry=registry,
        )
        self._refusals = self._counter("refusals", "Sessions and steps refused.", "code")
        self._price_steps = self._counter("price_steps", "Updates of the price.", "direction")
        self._claims = self._counter("claims", "Transactions that claim.", "outcome")
        self._gauges()

    def step(self, rows: int, compute_ms: float) -> None:
        """A step was answered."""
        self._steps.inc()
        self._tokens.inc(rows)
        if rows == 1:
            self._decode.observe(compute_ms / 1000)

    def refusal(self, code: ErrorCode) -> None:
        """A session or a step was refused."""
        self._refusals.labels(code.name.lower()).inc()

    def price_step(self, before_wei: int, after_wei: int) -> None:
        """The price was looked at."""
        way = "up" if after_wei > before_wei else "down" if after_wei < before_wei else "none"
        self._price_steps.labels(way).inc()

    def claim(self, outcome: str) -> None:
        """A claim was sent."""
        self._claims.labels(outcome).inc()

    def _gauges(self) -> None:
        offer, standings = self._showing.offer, self._showing.standings
        transcripts, demands = self._showing.prospects.transcripts, self._showing.demands

        def of_standing(read: Callable[[Standing], float]) -> Callable[[], float]:
            return lambda: read(standings.now) if standings.now else math.nan

        sessions = self._gauge("sessions", "Sessions by state.", "state")
        sessions.labels("open").set_function(lambda: offer.open_sessions)
        sessions.labels("parked").set_function(lambda: len(offer.parking))
        sessions.labels("free").set_function(lambda: offer.free)

        def rows_per_decode() -> float:
            stats = offer.engine.stats()
            return stats.batched_rows / stats.decodes if stats.decodes else 0.0

        self._gauge("batch_rows", "Single-token steps that shared a decode, on average.").set_function(
            rows_per_decode
        )
        self._gauge("price_hct_per_mtoken", "Price of a million generated tokens.").set_function(
            lambda: offer.asking.prices.price_wei * 1e6 / one()
        )
        self._registry.register(_Earned(standings))
        self._gauge("unclaimed_hct", "Earned and not claimed yet.").set_function(
            of_standing(lambda now: now.unclaimed_wei / one())
        )
        self._gauge("closing_unclaimed_hct", "Unclaimed on channels that are closing.").set_function(
            of_standing(lambda now: now.closing_unclaimed_wei / one())
        )
        stake = self._gauge("stake_hct", "The operator's stake by state.", "state")
        stake.labels("active").set_function(of_standing(lambda now: now.stake.active / one()))
        stake.labels("thawing").set_function(of_standing(lambda now: now.stake.thawing / one()))
        self._gauge("node_gas_coin", "Coin of the node key, for gas.").set_function(
            of_standing(lambda now: now.node_gas_wei / COIN)
        )
        self._gauge("transcript_bytes", "Disk that transcripts use.").set_function(transcripts.size)
        self._gauge("transcript_limit_bytes", "Disk that transcripts may use.").set(transcripts.max_bytes)
        self._gauge("demands_open", "Demands that wait for us to show a row.").set_function(
            lambda: len(demands.open)
        )

        def left() -> float:
            ends = [each.deadline for each in list(demands.open.values())]
            return min(ends) - time.time() if ends else math.inf

        self._gauge(
            "demand_deadline_seconds", "Until the first open demand lapses; +Inf for none."
        ).set_function(left)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}provider_{name}", help_, labels, registry=self._registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}provider_{name}", help_, labels, registry=self._registry)


class _Earned(Source):
    """A counter that the ledger keeps."""

    def __init__(self, standings: Standings) -> None:
        self._standings = standings

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(f"{PREFIX}provider_earned_hct", "Earned by vouchers, ever.")

    def collect(self) -> Iterator[CounterMetricFamily]:
        earned = self._standings.now.earned_wei / one() if self._standings.now else math.nan
        yield CounterMetricFamily(f"{PREFIX}provider_earned_hct", "Earned by vouchers, ever.", value=earned)
