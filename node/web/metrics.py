"""Prometheus metrics: a registry per process, at /metrics; no peer id and no secret is ever a label."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hypercluster.node.home.stores import STORES
from hypercluster.node.network.budgets import REFUSED

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nobody asks for
PREFIX = "hypercluster_"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""bounds of histograms of times"""


class ProcessMetrics:
    """What every program of ours tells about itself.

    Args:
        registry: where the metrics are registered; one per process, shared with the program's own.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.build_info = Gauge(
            f"{PREFIX}build_info", "What runs.", ["version", "llama_cpp", "backend"], registry=registry
        )
        self.ready = Gauge(f"{PREFIX}up_ready", "1 when /readyz says ready.", registry=registry)
        self.job_failures = Counter(
            f"{PREFIX}job_failures", "Periodic work that failed.", ["job"], registry=registry
        )
        self.job_last_success = Gauge(
            f"{PREFIX}job_last_success_timestamp_seconds",
            "When periodic work last went well.",
            ["job"],
            registry=registry,
        )
        self.chain_head_age = Gauge(
            f"{PREFIX}chain_head_age_seconds", "Age of the newest block that was seen.", registry=registry
        )

        registry.register(_Refused())

    def build(self, *, llama_cpp: str, backend: str) -> None:
        """Say what runs; `backend` is what it computes on, such as cpu."""
        self.build_info.labels(version("hypercluster"), llama_cpp, backend).set(1)

    def chain_head(self, made: Callable[[], int | None]) -> None:
        """Have the newest block's moment (unix s) asked for at each look."""
        self.chain_head_age.set_function(lambda: time.time() - (made() or math.nan))

    def stores(self, home: Path) -> None:
        """Say at each look what the stores in a home take."""
        taken = Gauge(f"{PREFIX}store_bytes", "Disk that a store takes.", ["store"], registry=self.registry)
        most = Gauge(
            f"{PREFIX}store_default_limit_bytes",
            "Disk that it may take where no option says otherwise.",
            ["store"],
            registry=self.registry,
        )
        for store in STORES:
            taken.labels(store.name).set_function(partial(store.taken, home))
            most.labels(store.name).set(store.most)

    def job(self, name: str, well: bool) -> None:
        """Periodic work has ended."""
        if well:
            self.job_last_success.labels(name).set_to_current_time()
        else:
            self.job_failures.labels(name).inc()


class _Refused(Collector):
    """What peers were refused, or made to wait for, by the row of the table of unpaid acts and what was used up."""

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield self._family()

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = self._family()
        for (act, part), count in list(REFUSED.items()):
            family.add_metric([act, part], count)
        yield family

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(
            f"{PREFIX}refused", "Unpaid acts of peers over their budget.", labels=["act", "part"]
        )


def metrics_route(registry: CollectorRegistry) -> Route:
    """GET /metrics in the text format of Prometheus."""

    async def metrics(request: Request) -> Response:
        text = await trio.to_thread.run_sync(generate_latest, registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", metrics, methods=["GET"])
