"""The state of a simulated market and what one tick does to it."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng

from hypercluster.market.economics.gibbs import sample_paths
from hypercluster.market.economics.graph import AdvertTable, Floats, Ints, NoPath, crowding
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.placement import Machine, ModelSize, placements
from hypercluster.market.economics.pricing import RevenueCurve, ascend, best_response, log_odds
from hypercluster.market.economics.routing import cheapest_rows
from hypercluster.market.economics.simulation.scenario import Scenario

Bools = npt.NDArray[np.bool_]
BATCHES = 6
"""Sub-rounds of a tick in which clients choose, see who is full, and choose again."""


class World:
    """Providers in columns, [n], of which ``alive`` ones take part, and open sessions.

    Columns: start, stop, layer_ms, memory (layers), latency_ms, price and energy cost per token (units of
    p_ref), free session slots, ``lie`` (advertised compute time over true), reputation of it, earned, tokens.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = default_rng(scenario.seed)
        rng, n = self.rng, 2 * scenario.providers
        self.alive: Bools = np.arange(n) < scenario.providers
        self.layer_ms: Floats = scenario.layer_ms * rng.lognormal(0.0, scenario.spread, n)
        self.memory: Ints = rng.integers(scenario.memory[0], scenario.memory[1] + 1, n)
        self.latency_ms: Floats = rng.uniform(0.1, 2.0, n)
        self.start: Ints = np.zeros(n, dtype=np.int64)
        self.stop: Ints = np.ones(n, dtype=np.int64)
        self.free: Ints = np.full(n, scenario.capacity)
        self.price: Floats = np.ones(n)
        self.lie: Floats = np.ones(n)
        self.believed: Floats = np.ones(n)  # what clients have learnt to multiply an advertised time with
        self.earned: Floats = np.zeros(n)
        self.served: Floats = np.zeros(n)
        self.moves = 0
        for i in np.flatnonzero(self.alive):
            self._place_randomly(int(i))
        self.price[:] = self._rule_price(np.arange(n))
        self.past: deque[tuple[Floats, Bools]] = deque(maxlen=scenario.stale + 1)
        # Sessions: providers of each hop padded with -1, their quoted prices, tokens left, alpha's segment.
        self.hops: Ints = np.empty((0, scenario.layers), dtype=np.int64)
        self.quotes: Floats = np.empty((0, scenario.layers))
        self.left: Floats = np.empty(0)
        self.refused = self.elsewhere = self.asked = self.broken = 0
        self.paid_weight = 0.0
        self.started = 0
        self.tick_tokens = self.tick_ms = self.tick_paid = 0.0

    # What is true, and what clients see of it.

    @property
    def cost_ms(self) -> Floats:
        """True compute time per token without queue, ms."""
        return self.layer_ms * (self.stop - self.start)

    @property
    def energy(self) -> Floats:
        """Each provider's own cost per token, units of p_ref."""
        return self.scenario.energy * self.cost_ms

    def table(self, rows: Ints, price: Floats | None = None) -> AdvertTable:
        """Return the adverts of ``rows`` as clients see them: claimed times, corrected by experience."""
        market = self.scenario.market
        ms = self.cost_ms[rows] * self.lie[rows] * self.believed[rows]
        wei = np.rint((self.price if price is None else price)[rows] * market.p_ref).astype(np.int64)
        return AdvertTable(
            layers=self.scenario.layers,
            ids=range(len(rows)),  # type: ignore[arg-type]  # rows are known by number here
            start=self.start[rows],
            stop=self.stop[rows],
            price_wei=wei,
            prompt_price_wei=np.zeros(len(rows), dtype=np.int64),
            service_ms=ms * (1.0 + crowding(self.scenario.capacity, self.free[rows])),
            latency_ms=self.latency_ms[rows],
            risk=np.zeros(len(rows)),
            cached_price_wei=np.zeros(len(rows), dtype=np.int64),
        )

    def seen(self) -> tuple[Floats, Bools]:
        """Return the prices and the presence that adverts of the scenario's age show."""
        return self.past[0] if self.past else (self.price, self.alive)

    # One tick.

    def tick(self) -> None:
        """Let providers come, go, move and reprice; then clients choose; then everybody works."""
        self.past.append((self.price.copy(), self.alive.copy()))
        self._churn()
        self._move()
        self._reprice()
        self._open_sessions()
        self._work()

    def leave(self, rows: Ints) -> None:
        """Take providers out; their sessions break."""
        self.alive[rows] = False
        gone: Bools = np.asarray(np.isin(self.hops, rows).any(axis=1))
        self.broken += int(gone.sum())
        self._close(gone)

    def _churn(self) -> None:
        rate, rng = self.scenario.churn, self.rng
        alive = np.flatnonzero(self.alive)
        leaving = alive[rng.random(len(alive)) < rate]
        if len(leaving):
            self.leave(leaving)
        absent = np.flatnonzero(~self.alive)
        arriving = absent[: rng.poisson(rate * self.scenario.providers)]
        for i in arriving.tolist():
            self.alive[i] = True
            self.free[i] = self.scenario.capacity
            self.layer_ms[i] = self.scenario.layer_ms * rng.lognormal(0.0, self.scenario.spread)
            self.lie[i] = self.believed[i] = 1.0
            self.earned[i] = self.served[i] = 0.0
            self._place(i, settle=True)

    def _move(self) -> None:
        alive = np.flatnonzero(self.alive)
        for i in alive[self.rng.random(len(alive)) < 1.0 / self.scenario.place_every].tolist():
            self._place(i, settle=False)

    def _place_randomly(self, i: int) -> None:
        layers = self.scenario.layers
        size = int(min(self.memory[i], layers))
        # Ranges begin on multiples of 2, so that they join up often enough.
        start = int(self.rng.integers(0, (layers - size) // 2 + 1)) * 2
        self.start[i], self.stop[i] = start, start + size
        if layers - self.stop[i] == 1:
            self.stop[i] = layers

    def _place(self, i: int, settle: bool) -> None:
        rule, scenario = self.scenario.placing, self.scenario
        if rule == "random":
            if settle:
                self._place_randomly(i)
                self.price[i] = self._rule_price(np.array([i]))[0]
            return
        before = int(self.start[i]), int(self.stop[i])
        others = np.flatnonzero(self.alive & (np.arange(len(self.alive)) != i))
        size = int(min(self.memory[i], scenario.layers))
        if rule == "revenue":
            machine = Machine(size, float(self.layer_ms[i]), latency_ms=float(self.latency_ms[i]))
            ranked = placements(
                machine, ModelSize([1] * scenario.layers), self.table(others), market=scenario.market
            )
            best = ranked[0]
            if not settle:
                here = next((p for p in ranked if (p.start, p.stop) == before), None)
                if here is not None and best.revenue_wei <= (1.0 + scenario.margin) * here.revenue_wei:
                    return
            to = best.start, best.stop
        else:
            to = self._by_compute(i, others, size, rule == "weakest")
        if to != before:
            self._close(np.asarray(np.any(self.hops == i, axis=1)))
            self.moves += not settle
            self.start[i], self.stop[i] = to
        if to != before or settle:
            self.price[i] = self._rule_price(np.array([i]))[0]

    def _by_compute(self, i: int, others: Ints, size: int, weakest: bool) -> tuple[int, int]:
        """Return where the others' speed is least: Petals' rule, or the paper's largest share of compute."""
        layers = self.scenario.layers
        speed = np.zeros(layers + 1)
        np.add.at(speed, self.start[others], 1.0 / self.layer_ms[others])
        np.subtract.at(speed, self.stop[others], 1.0 / self.layer_ms[others])
        per_layer = np.cumsum(speed)[:-1]
        starts = np.arange(0, layers - size + 1)
        windows = np.lib.stride_tricks.sliding_window_view(per_layer, size)[starts]
        own = 1.0 / self.layer_ms[i]
        if weakest:  # smallest minimum, then smallest mean, as Petals' block selection
            order = np.lexsort((windows.mean(axis=1), windows.min(axis=1)))
            best, here = int(order[0]), int(self.start[i])
            if here < len(windows) and windows[here].min() <= windows[best].min() * (1 + 1e-9):
                best = here
        else:
            share = (own / (own + windows)).mean(axis=1)
            best = int(np.argmax(share))
        return int(starts[best]), int(starts[best]) + size

    def _rule_price(self, rows: Ints) -> Floats:
        """Return the price at which a provider opens: fixed by rule, or a first guess for the market."""
        scenario = self.scenario
        if scenario.pricing == "uniform":
            return np.asarray(scenario.uniform_price * (self.stop[rows] - self.start[rows]))
        if scenario.pricing == "cost-plus":
            return np.asarray((1.0 + scenario.markup) * self.energy[rows])
        guess = scenario.market.temperature / max(scenario.market.alpha, 0.05)
        return np.asarray(np.maximum(self.energy[rows], guess * self.rng.lognormal(0.0, 0.5, len(rows))))

    def _reprice(self) -> None:
        scenario = self.scenario
        if scenario.pricing in ("uniform", "cost-plus"):
            return
        price, present = self.seen()
        rows = np.flatnonzero(present & self.alive)
        chosen = np.flatnonzero(self.rng.random(len(rows)) < 1.0 / scenario.price_every)
        if not len(chosen):
            return
        table = self.table(rows, price)
        curve = RevenueCurve.of(
            log_odds(table, chosen, scenario.market, scenario.demand), scenario.demand, scenario.market
        )
        own = rows[chosen]
        # A provider knows its own price as it is now, and others' as they were advertised.
        new = best_response(curve) if scenario.pricing == "best-response" else ascend(curve, self.price[own])
        if scenario.noise:
            new = new * self.rng.lognormal(0.0, scenario.noise, len(new))
        self.price[own] = np.clip(new, self.energy[own], 1e3)

    # Clients.

    def _open_sessions(self) -> None:
        scenario, rng = self.scenario, self.rng
        waiting = rng.choice(
            len(scenario.demand),
            rng.poisson(scenario.sessions),
            p=[segment.share for segment in scenario.demand],
        )
        self.asked += len(waiting)
        for batch in np.array_split(rng.permutation(waiting), BATCHES):
            retry = batch
            for _ in range(3):
                if not len(retry):
                    break
                retry = self._choose(retry)
            self.refused += len(retry)

    def _choose(self, segments: Ints) -> Ints:
        """Let clients of these segments choose a path; return those whose path had a full node on it."""
        price, present = self.seen()
        rows = np.flatnonzero(present & self.alive & (self.free > 0))
        table = self.table(rows, price)
        again = []
        for number, segment in enumerate(self.scenario.demand):
            count = int((segments == number).sum())
            if not count:
                continue
            market = segment.market(self.scenario.market)
            paths = self._paths(table, market, count)
            served = paths[:, 0] >= 0 if paths.shape[1] else np.zeros(count, dtype=bool)
            self.elsewhere += int((~served).sum())
            hops = np.where(paths >= 0, rows[paths], -1)[served]
            admitted = self._admit(hops)
            self._start(hops[admitted], market)
            again.append(np.full(int((~admitted).sum()), number))
        return np.concatenate(again) if again else segments[:0]

    def _paths(self, table: AdvertTable, market: MarketParameters, count: int) -> Ints:
        if self.scenario.routing == "gibbs":
            return sample_paths(table, market, count, self.rng)
        seen = market.with_alpha(0.0) if self.scenario.routing == "fastest" else market
        weights = table.weights(seen)
        try:
            rows = np.array(cheapest_rows(table, weights))
        except NoPath:
            return np.empty((count, 0), dtype=np.int64)
        # Whether to go elsewhere is decided by what the path is worth to this client, price included.
        if table.weights(market)[rows].sum() > market.outside_weight:
            return np.empty((count, 0), dtype=np.int64)
        return np.broadcast_to(rows, (count, len(rows)))

    def _admit(self, hops: Ints) -> Bools:
        """Return which of these paths find a free slot at every hop, in their order; bool [k]."""
        session, _ = np.nonzero(hops >= 0)
        node = hops[hops >= 0]
        order = np.argsort(node, kind="stable")
        ranked = node[order]
        first = np.searchsorted(ranked, ranked)
        fits = np.empty(len(node), dtype=bool)
        fits[order] = np.arange(len(node)) - first < self.free[ranked]
        admitted = np.ones(len(hops), dtype=bool)
        np.logical_and.at(admitted, session, fits)
        return admitted

    def _start(self, hops: Ints, market: MarketParameters) -> None:
        if not len(hops):
            return
        width = self.scenario.layers
        padded = np.full((len(hops), width), -1, dtype=np.int64)
        padded[:, : hops.shape[1]] = hops
        quotes = np.where(padded >= 0, self.price[padded], 0.0)
        np.subtract.at(self.free, hops[hops >= 0], 1)
        self.hops = np.concatenate([self.hops, padded])
        self.quotes = np.concatenate([self.quotes, quotes])
        self.left = np.concatenate(
            [self.left, self.rng.geometric(1.0 / self.scenario.tokens, len(hops)).astype(float)]
        )
        per_ms = (1.0 - market.alpha) / market.c_ref
        self.paid_weight += float(
            (market.alpha * quotes.sum(axis=1) + per_ms * self.session_ms(padded)).sum()
        )
        self.started += len(hops)

    def session_ms(self, hops: Ints) -> Floats:
        """Return the true time per token along ``hops``, queues included, float64 [k]."""
        true = (
            self.cost_ms * (1.0 + crowding(self.scenario.capacity, np.maximum(self.free, 0)))
            + 2 * self.latency_ms
        )
        return np.asarray(np.where(hops >= 0, true[hops], 0.0).sum(axis=1))

    def _work(self) -> None:
        """Generate tokens, pay for them, let clients learn true times, and end what is done."""
        self.tick_tokens = self.tick_ms = self.tick_paid = 0.0
        if not len(self.left):
            return
        ms = self.session_ms(self.hops)
        done = np.minimum(self.left, 1000.0 * self.scenario.tick_s / ms)
        on = self.hops >= 0
        np.add.at(self.earned, self.hops[on], (self.quotes * done[:, None])[on])
        np.add.at(self.served, self.hops[on], np.broadcast_to(done[:, None], on.shape)[on])
        self.tick_tokens = float(done.sum())
        self.tick_ms = float((ms * done).sum())
        self.tick_paid = float((self.quotes.sum(axis=1) * done).sum())
        if self.scenario.reputation:
            met = np.unique(self.hops[on])
            self.believed[met] += self.scenario.reputation * (1.0 / self.lie[met] - self.believed[met])
        self.left = self.left - done
        self._close(self.left <= 0)

    def _close(self, which: Bools) -> None:
        hops = self.hops[which]
        np.add.at(self.free, hops[hops >= 0], 1)
        keep = ~which
        self.hops, self.quotes, self.left = self.hops[keep], self.quotes[keep], self.left[keep]
