"""The gateway's metrics: counted as requests run; no peer and no secret is named in them, keys by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hypercluster.market.money.units import one
from hypercluster.node.engine.profile import LLAMA_CPP
from hypercluster.node.traffic.happenings import RequestAudited
from hypercluster.node.web.metrics import PREFIX, SECONDS, ProcessMetrics

if TYPE_CHECKING:
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.traffic.caller import Caller
    from hypercluster.node.traffic.market import Market


class GatewayMetrics:
    """Counters and gauges of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.process = ProcessMetrics(self.registry)
        self.process.build(llama_cpp=LLAMA_CPP, backend="none")
        self.requests = self._counter("requests", "Requests that ended.", "model", "endpoint", "outcome")
        self.in_flight = self._gauge("requests_in_flight", "Requests that run, those that wait included.")
        self.queued = self._gauge("requests_queued", "Requests that wait for a session.")
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From the request to its first token."
        )
        self.between = self._histogram("inter_token_seconds", "From one token to the next.")
        self.whole = self._histogram("request_seconds", "From the request to its end.")
        self.prompt = self._counter("prompt_tokens", "Tokens of prompts.", "model")
        self.generated = self._counter("generated_tokens", "Tokens generated.", "model")
        self.cached = self._counter("cached_prompt_tokens", "Tokens of prompts that a session still held.")
        self.spent = self._counter("spent_hct", "Paid to providers.", "model", "key")
        self.risked = self._counter("risked_hct", "What providers may claim for steps without a good answer.")
        self.hop_failures = self._counter(
            "hop_failures", "Sessions that ended early, and why.", "code", "blame"
        )
        self.cut_short = self._counter(
            "candidates_cut_short", "Tokens drawn from too few candidates to be exact."
        )
        self.audits = self._counter("audits", "Stages looked over.", "finding")
        self.doubtful = self._counter("doubtful", "Audits that make a request doubtful.")
        self.budget = self._gauge("budget_remaining_hct", "Left of a key's budget.", "key")
        self.deposit = self._gauge("channel_deposit_hct", "In open channels.")
        self.available = self._gauge("channel_available_hct", "In open channels and not spent.")
        self.wallet = self._gauge("wallet_hct", "In the wallet.")
        self.gas = self._gauge("wallet_gas_coin", "In the wallet, of the chain's own coin.")
        self.covered = self._gauge(
            "layers_covered_ratio", "Share of a model's layers that are served.", "model"
        )
        self.sessions = self._gauge("path_sessions", "Sessions that whole paths could open.", "model")
        self.price = self._gauge("path_price_hct_per_mtoken", "Price of the cheapest path.", "model")

    def begin(self, model: str, caller: Caller) -> Watch:
        """A request begins."""
        return Watch(self, model, caller)

    async def follow(self, market: Market) -> None:
        """Count what audits find, until cancelled."""
        with market.watched() as happenings:
            async for happening in happenings:
                if isinstance(happening, RequestAudited):
                    self.audits.labels(happening.finding).inc()
                    self.doubtful.inc(happening.doubtful)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}{name}", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}{name}", help_, labels, registry=self.registry)

    def _histogram(self, name: str, help_: str) -> Histogram:
        return Histogram(f"{PREFIX}{name}", help_, buckets=SECONDS, registry=self.registry)


class Watch:
    """One request as the metrics see it."""

    def __init__(self, metrics: GatewayMetrics, model: str, caller: Caller) -> None:
        self._metrics, self._model, self._caller = metrics, model, caller
        self._began = trio.current_time()
        self._last: float | None = None
        self._waits = False
        metrics.in_flight.inc()

    def wait(self) -> None:
        """It stands in line."""
        if not self._waits:
            self._waits = True
            self._metrics.queued.inc()

    def go(self) -> None:
        """It has left the line."""
        if self._waits:
            self._waits = False
            self._metrics.queued.dec()

    def token(self) -> None:
        """A token came."""
        now = trio.current_time()
        if self._last is None:
            self._metrics.first_token.observe(now - self._began)
        else:
            self._metrics.between.observe(now - self._last)
        self._last = now

    def lost(self, code: str, blamed: bool) -> None:
        """A session ended early, for a reason in one word; `blamed` is whether its provider was held to account."""
        self._metrics.hop_failures.labels(code, "provider" if blamed else "nobody").inc()

    def end(self, completion: Completion, outcome: str) -> None:
        """It has ended, however it did."""
        self.go()
        metrics, model = self._metrics, self._model
        metrics.in_flight.dec()
        metrics.requests.labels(model, self._caller.endpoint, outcome).inc()
        metrics.whole.observe(trio.current_time() - self._began)
        metrics.prompt.labels(model).inc(len(completion.prompt))
        metrics.cached.inc(completion.cached)
        metrics.generated.labels(model).inc(len(completion.tokens))
        metrics.spent.labels(model, self._caller.name).inc(completion.spent_wei / one())
        metrics.risked.inc(completion.risked_wei / one())
        metrics.cut_short.inc(completion.cut_short)
