"""A provider: serves layers [start, stop) of a model to whoever pays, until it is told to stop."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import coincurve
import trio

from hypercluster.market.advert import Advert
from hypercluster.market.chain import Chain, Sender
from hypercluster.market.economics.graph import node_of
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.placement import Machine, ModelSize, advise, placements
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.signing import address_of
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.profile import Backend, profile
from hypercluster.node.evidence.transcript import TranscriptStore
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.adverts import sign_advert
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.host import running_host
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.network.steps import serve_steps
from hypercluster.node.network.stream import Stream
from hypercluster.node.provider.demands import Demands
from hypercluster.node.provider.prices import Asking, PriceRule, price_row
from hypercluster.node.provider.recall import serve_recall
from hypercluster.node.provider.sessions import Service, serve_session
from hypercluster.node.rows import WireDtype
from hypercluster.node.serving.collector import Collector
from hypercluster.node.serving.jobs import Jobs, running_jobs
from hypercluster.node.shards import Manifest
from hypercluster.node.wire.audit import RECALL_PROTOCOL

log = logging.getLogger(__name__)

KEEP_DAYS = 30
MAX_TOP_K = 1024
"""candidates per row that a tail returns at most"""
CAPACITY_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a provider runs: all that is the operator's to choose. Times in seconds, sizes in tokens."""

    start: int
    stop: int
    price: PriceRule
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    direct: str = "/ip4/0.0.0.0/tcp/0"
    """where steps arrive without a muxer; empty for libp2p streams alone"""
    announce: tuple[str, ...] = ()
    direct_announce: str = ""
    bootstrap: tuple[str, ...] = ()
    sessions: int = 4
    session_tokens: int = 2048
    step_tokens: int = 64
    threads: int = 1
    throttle_ms: float = 0.0
    """rest before each step, which clients see as cost"""
    wire_dtypes: tuple[WireDtype, ...] = (WireDtype.F32, WireDtype.F16)
    idle_seconds: float = 120.0
    frame_seconds: float = 30.0
    """from the first byte of a message to its last"""
    refresh_seconds: float = 20.0
    """between adverts; one lives for three of these"""
    claim_seconds: float = 60.0
    claim_multiple: int = 10
    hct_per_native: int = 1_000
    watch_seconds: float = 2.0
    price_seconds: float = 30.0
    market: MarketParameters = field(default_factory=MarketParameters)
    move: "Moving | None" = None
    """set where the provider may move to other layers by itself"""
    mdns: bool = False
    backend: Backend = field(default_factory=Backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """How a provider looks for better layers: what it could serve, and how seldom it moves (seconds)."""

    machine: Machine
    model: ModelSize
    every_seconds: float = 300.0
    dwell_seconds: float = 1800.0
    drain_seconds: float = 300.0
    """how long sessions under way may take to end before it moves"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallets:
    """Who a provider is: the hot node key, the operator that is paid, and the account that sends claims."""

    node_key: bytes
    operator: str
    sender: Sender


class Provider:
    """One provider; `run` serves until it is cancelled or the process gets SIGINT or SIGTERM."""

    def __init__(
        self,
        *,
        terms: Terms,
        manifest: Manifest,
        shard: Path,
        wallets: Wallets,
        chain: Chain,
        ledger: Ledger,
        transcripts: TranscriptStore,
    ) -> None:
        self.terms = terms
        self.manifest = manifest
        self._shard = shard
        self._wallets = wallets
        self._chain = chain
        self._ledger = ledger
        self._transcripts = transcripts
        self._asking = Asking(terms.price, terms.market, manifest.layers)
        self._sequence = time.time_ns() // 1_000_000
        self._cost_ms = self._prompt_ms = 0.0
        self._since = time.monotonic()
        self._told_full = False
        self._move_to: tuple[int, int] | None = None
        self._moving = trio.Event()

    async def run(self, on_ready: Callable[[Advert], None] = lambda advert: None) -> tuple[int, int] | None:
        """Load the shard, join the network, and serve; `on_ready` gets the first advert.

        What is worth its gas is claimed before this returns. Returns None when told to stop, or the layers that
        this provider should rather serve from now on.

        Raises:
            NodeError, MarketError: the shard does not load, an address is taken, the chain cannot be reached.
        """
        terms = self.terms
        with ExitStack() as stack:
            self._engine = await trio.to_thread.run_sync(self._load)
            stack.callback(self._engine.stop)
            await self._measure()
            self._collector = Collector(
                operator=self._wallets.operator,
                node=address_of(coincurve.PrivateKey(self._wallets.node_key)),
                chain=self._chain,
                sender=self._wallets.sender,
                ledger=self._ledger,
                hct_per_native=terms.hct_per_native,
                multiple=terms.claim_multiple,
            )
            self._demands = Demands(
                chain=self._chain,
                sender=self._wallets.sender,
                node=self._wallets.sender.address,
                transcripts=self._transcripts,
            )
            await self._collector.load()
            await self._collector.watch()
            book = OrderBook(self.manifest.model_id, Eligibility(self._chain))
            async with running_host(self._wallets.node_key, terms.listen, announce=terms.announce) as host:
                self._host = host
                handler = partial(serve_session, service=self._service())
                host.serve(RECALL_PROTOCOL, self._show)
                self._direct = await serve_steps(
                    host,
                    handler,
                    direct_listen=terms.direct,
                    direct_announce=terms.direct_announce,
                    announce=terms.announce,
                    frame_seconds=terms.frame_seconds,
                )
                self._discovery = Discovery(host, book, bootstrap=terms.bootstrap, mdns=terms.mdns)
                async with self._discovery.running(), running_jobs() as jobs:
                    advert = await self._publish()
                    self._schedule(jobs)
                    on_ready(advert)
                    await self._until_told()
                    log.info("stopping")
            await self._collector.claim_at_the_end()
        return self._move_to

    def _load(self) -> Engine:
        terms = self.terms
        return self._engine_class()(
            self._shard,
            first=terms.start == 0,
            last=terms.stop == self.manifest.layers,
            n_ctx_total=terms.sessions * min(terms.session_tokens, self.manifest.context),
            max_sessions=terms.sessions,
            threads=terms.threads,
            chunk=terms.step_tokens,
            flash_attention=terms.backend.flash_attention,
            kv_type=terms.backend.kv_type,
        )

    def _engine_class(self) -> type[Engine]:
        return Engine

    def _service(self) -> Service:
        terms = self.terms
        return Service(
            model_id=self.manifest.model_id,
            layer_start=terms.start,
            layer_stop=terms.stop,
            layers=self.manifest.layers,
            n_embd=self.manifest.n_embd,
            max_top_k=self._max_top_k,
            max_step_tokens=terms.step_tokens,
            wire_dtypes=terms.wire_dtypes,
            accepting=lambda: not self._moving.is_set(),
            idle_seconds=terms.idle_seconds,
            throttle_seconds=terms.throttle_ms / 1000,
            engine=self._engine,
            collector=self._collector,
            prices=lambda: self._asking.prices,
            domain=self._collector.domain,
            disputes=self._chain.disputes.domain,
            node_key=coincurve.PrivateKey(self._wallets.node_key),
            peer=peer_of_key(self._wallets.node_key),
            profile=profile(terms.backend, threads=terms.threads, chunk=terms.step_tokens),
            transcripts=self._transcripts,
        )

    @property
    def _max_top_k(self) -> int:
        return min(self.manifest.n_vocab, MAX_TOP_K) if self.terms.stop == self.manifest.layers else 0

    def _schedule(self, jobs: Jobs) -> None:
        terms = self.terms
        jobs.every(terms.refresh_seconds, "advert refresh", self._refresh)
        jobs.every(CAPACITY_SECONDS, "telling when it is full", self._tell_when_full)
        jobs.every(terms.watch_seconds, "watching the channels", self._collector.watch)
        jobs.every(terms.watch_seconds, "serving demands", self._demands.work)
        jobs.every(terms.claim_seconds, "claiming", self._claim)
        jobs.every(10 * terms.refresh_seconds, "cost measurement", self._measure)
        jobs.every(24 * 3600, "pruning", self._prune, first_after=60)
        jobs.every(60, "forgetting old transcripts", self._forget)
        if terms.price.adapt:
            jobs.every(terms.price_seconds, "price update", self._reprice)
        if terms.move:
            jobs.every(terms.move.every_seconds, "looking for better layers", self._look_around)

    async def _show(self, stream: Stream) -> None:
        await serve_recall(Connection(stream), self._transcripts, self._chain.disputes.domain)

    def advert(self) -> Advert:
        """What this provider offers now, with the next sequence number."""
        terms = self.terms
        self._sequence += 1
        now = int(time.time())
        return Advert(
            peer=self._host.peer,
            model_id=self.manifest.model_id,
            layer_start=terms.start,
            layer_stop=terms.stop,
            price_wei=self._asking.prices.price_wei,
            prompt_price_wei=self._asking.prices.prompt_price_wei,
            cost_ms=self._cost_ms,
            prompt_ms=self._prompt_ms,
            operator=self._wallets.operator,
            capacity=terms.sessions,
            free=self._free(),
            session_tokens=self._engine.max_capacity,
            max_top_k=self._max_top_k,
            sequence=self._sequence,
            issued=now,
            expires=now + max(3, int(3 * terms.refresh_seconds)),
            n_embd=self.manifest.n_embd,
            addrs=self._host.addrs,
            direct=self._direct,
            wire_dtypes=tuple(dtype.name.lower() for dtype in terms.wire_dtypes),
        )

    def _free(self) -> int:
        return 0 if self._moving.is_set() else self._engine.stats().free

    async def _publish(self) -> Advert:
        advert = self.advert()
        self._told_full = advert.free == 0
        await self._discovery.publish(sign_advert(advert, self._wallets.node_key))
        return advert

    async def _refresh(self) -> None:
        await self._publish()

    async def _tell_when_full(self) -> None:
        """A full node is not chosen, and one that is free again is: neither waits for the next refresh."""
        if (self._free() == 0) != self._told_full:
            await self._publish()

    async def _claim(self) -> None:
        await self._collector.claim()

    async def _measure(self) -> None:
        stats = self._engine.stats()
        if stats.sessions:
            # While it serves, what its steps take is the measurement.
            decode_ms = stats.ms_per_decode
        else:
            measured = await trio.to_thread.run_sync(self._engine.measure)
            decode_ms = measured.decode_ms
            self._prompt_ms = self.terms.throttle_ms / self.terms.step_tokens + measured.prefill_ms
        if decode_ms:
            self._cost_ms = self.terms.throttle_ms + decode_ms

    async def _reprice(self) -> None:
        own = node_of(self.advert())
        others = [node_of(advert) for advert in self._discovery.book.snapshot() if advert.peer != own.id]
        step = self._asking.step(own, others)
        if step is None:
            return
        row = price_row(step, self.manifest.model_id)
        await trio.to_thread.run_sync(self._ledger.history.save_price, row)
        if step.next_price_wei != step.price_wei:
            log.info("price %d -> %d wei a token", step.price_wei, step.next_price_wei)
            await self._publish()

    async def _look_around(self) -> None:
        move = self.terms.move
        assert move is not None
        others = [
            node_of(advert) for advert in self._discovery.book.snapshot() if advert.peer != self._host.peer
        ]
        advice = advise(
            placements(
                move.machine,
                move.model,
                others,
                market=self.terms.market,
                floor_wei=self.terms.price.floor_wei,
                ceiling_wei=self.terms.price.ceiling_wei,
            ),
            (self.terms.start, self.terms.stop),
            held_s=time.monotonic() - self._since,
            dwell_s=move.dwell_seconds,
        )
        if advice.move:
            log.warning("moving to layers %d:%d: %s", advice.best.start, advice.best.stop, advice.reason)
            self._move_to = (advice.best.start, advice.best.stop)
            self._moving.set()

    async def _until_told(self) -> None:
        """Return at SIGINT or SIGTERM, or when it is time to move and no session is left."""
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for _ in signals:
                        self._move_to = None
                        nursery.cancel_scope.cancel()

            # Signals reach the main thread only; whoever runs a provider in another one cancels it.
            if threading.current_thread() is threading.main_thread():
                nursery.start_soon(listen)
            await self._moving.wait()
            await self._publish()
            assert self.terms.move is not None
            with trio.move_on_after(self.terms.move.drain_seconds):
                while self._engine.stats().sessions:
                    await trio.sleep(0.5)
            nursery.cancel_scope.cancel()

    async def _prune(self) -> None:
        before = datetime.now(UTC) - timedelta(days=KEEP_DAYS)
        await trio.to_thread.run_sync(self._ledger.history.prune, before)

    async def _forget(self) -> None:
        await trio.to_thread.run_sync(self._transcripts.prune)
