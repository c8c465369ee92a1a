"""A verifier: audits transcripts for whoever pays, and sits on the committees that it is drawn into."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import coincurve
import trio

from hypercluster.market.advert import Advert
from hypercluster.market.chain import Chain, Sender
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.signing import address_of
from hypercluster.node.evidence.transcript import TranscriptStore
from hypercluster.node.network.adverts import sign_advert
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.host import running_host
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.network.stream import Stream
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.serving.collector import Collector
from hypercluster.node.serving.jobs import Jobs, running_jobs
from hypercluster.node.verifier.audits import AuditService, Judge, serve_audit
from hypercluster.node.verifier.committee import Committee
from hypercluster.node.wire.audit import AUDIT_PROTOCOL

log = logging.getLogger(__name__)

KEEP_DAYS = 30
DELIVERIES = 8
"""of evidence at once; only for cases that we sit on"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierTerms:
    """How a verifier runs: all that is the operator's to choose. Times in seconds."""

    price_wei: int
    """per audited token"""
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    mdns: bool = False
    jobs: int = 4
    """audits under way at once; they are run one after the other"""
    refresh_seconds: float = 20.0
    claim_seconds: float = 60.0
    claim_multiple: int = 10
    hct_per_native: int = 1_000
    watch_seconds: float = 2.0
    committees: bool = True
    """whether to enlist for committees"""


class Verifier:
    """One verifier; `run` serves until it is cancelled or the process gets SIGINT or SIGTERM.

    Args:
        node_key: 32 bytes, also the key of `sender`.
        judge: how transcripts are run again; the replayer's own way if not given.
        evidence: where transcripts of cases are kept.
    """

    def __init__(
        self,
        *,
        terms: VerifierTerms,
        replayer: Replayer,
        node_key: bytes,
        operator: str,
        sender: Sender,
        chain: Chain,
        ledger: Ledger,
        evidence: TranscriptStore,
        judge: Judge | None = None,
    ) -> None:
        self.terms = terms
        self._replayer, self._judge = replayer, judge or replayer.judge
        self._node_key, self._operator, self._sender = node_key, operator, sender
        self._chain, self._ledger, self._evidence = chain, ledger, evidence
        self._sequence = time.time_ns() // 1_000_000

    async def run(self, on_ready: Callable[[Advert], None] = lambda advert: None) -> None:
        """Join the network and serve; `on_ready` gets the first advert.

        Raises:
            NodeError, MarketError: an address is taken, the chain cannot be reached.
        """
        terms = self.terms
        model_id = self._replayer.stored.manifest.model_id
        self._collector = Collector(
            operator=self._operator,
            node=address_of(coincurve.PrivateKey(self._node_key)),
            chain=self._chain,
            sender=self._sender,
            ledger=self._ledger,
            hct_per_native=terms.hct_per_native,
            multiple=terms.claim_multiple,
        )
        await self._collector.load()
        await self._collector.watch()
        threads = trio.CapacityLimiter(1)
        self._committee = Committee(
            chain=self._chain,
            sender=self._sender,
            ledger=self._ledger,
            judge=self._judge,
            evidence=self._evidence,
            model_id=model_id,
            threads=threads,
        )
        if terms.committees:
            await trio.to_thread.run_sync(self._enlist)
        self._slots = trio.CapacityLimiter(terms.jobs)
        book = OrderBook(model_id, Eligibility(self._chain))
        try:
            async with running_host(self._node_key, terms.listen, announce=terms.announce) as host:
                self._host = host
                service = AuditService(
                    replayer=self._replayer,
                    judge=self._judge,
                    collector=self._collector,
                    price_wei=terms.price_wei,
                    vouchers=self._collector.domain,
                    disputes=self._chain.disputes.domain,
                    node_key=coincurve.PrivateKey(self._node_key),
                    expect_evidence=self._committee.expect,
                    take_evidence=self._committee.take_evidence,
                    jobs=self._slots,
                    deliveries=trio.CapacityLimiter(DELIVERIES),
                    threads=threads,
                )

                async def serve(stream: Stream) -> None:
                    await serve_audit(Connection(stream), service)

                host.serve(AUDIT_PROTOCOL, serve)
                self._discovery = Discovery(host, book, bootstrap=terms.bootstrap, mdns=terms.mdns)
                async with self._discovery.running(), running_jobs() as jobs:
                    advert = await self._publish()
                    self._schedule(jobs)
                    on_ready(advert)
                    await until_signal()
                    log.info("stopping")
            await self._collector.claim_at_the_end()
        finally:
            self._replayer.close()

    def _enlist(self) -> None:
        disputes = self._chain.disputes
        if not disputes.cases.is_enlisted(self._sender.address):
            disputes.cases.enlist(self._sender)

    def _schedule(self, jobs: Jobs) -> None:
        terms = self.terms
        jobs.every(terms.refresh_seconds, "advert refresh", self._refresh)
        jobs.every(terms.watch_seconds, "watching the channels", self._collector.watch)
        jobs.every(terms.claim_seconds, "claiming", self._claim)
        jobs.every(terms.watch_seconds, "committees", self._committee.work, first_after=0.1)
        jobs.every(24 * 3600, "pruning", self._prune, first_after=60)

    def advert(self) -> Advert:
        """What this verifier offers now, with the next sequence number."""
        terms, manifest = self.terms, self._replayer.stored.manifest
        self._sequence += 1
        now = int(time.time())
        return Advert(
            peer=self._host.peer,
            model_id=manifest.model_id,
            layer_start=0,
            layer_stop=manifest.layers,
            price_wei=terms.price_wei,
            prompt_price_wei=terms.price_wei,
            cost_ms=0.0,
            prompt_ms=0.0,
            operator=self._operator,
            capacity=terms.jobs,
            free=int(self._slots.available_tokens),
            session_tokens=manifest.context,
            max_top_k=0,
            sequence=self._sequence,
            issued=now,
            expires=now + max(3, int(3 * terms.refresh_seconds)),
            n_embd=manifest.n_embd,
            addrs=self._host.addrs,
            role="verifier",
        )

    async def _publish(self) -> Advert:
        advert = self.advert()
        await self._discovery.publish(sign_advert(advert, self._node_key))
        return advert

    async def _refresh(self) -> None:
        await self._publish()

    async def _claim(self) -> None:
        await self._collector.claim()

    async def _prune(self) -> None:
        before = datetime.now(UTC) - timedelta(days=KEEP_DAYS)
        await trio.to_thread.run_sync(self._ledger.history.prune, before)
        await trio.to_thread.run_sync(partial(self._evidence.prune))


async def until_signal() -> None:
    """Return at SIGINT or SIGTERM; for ever in a thread, where whoever started it cancels it."""
    if threading.current_thread() is not threading.main_thread():
        await trio.sleep_forever()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
