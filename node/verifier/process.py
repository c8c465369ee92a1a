"""A verifier: audits transcripts for whoever pays, and sits on the committees that it is drawn into."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import coincurve
import trio

from hypercluster.market.advert import Advert
from hypercluster.market.chain import Chain
from hypercluster.market.chain.rpc import TOGETHER_SECONDS
from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger import Ledger, SoldAudit
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import running_host
from hypercluster.node.network.stream import Stream
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.serving.collector import Collector, collector_of
from hypercluster.node.serving.jobs import Jobs
from hypercluster.node.serving.presence import Issue, OnReady, Presence
from hypercluster.node.serving.stopping import until_signal
from hypercluster.node.serving.terms import Wallets
from hypercluster.node.threads import Threads
from hypercluster.node.verifier.audits import serve_audit
from hypercluster.node.verifier.committee import Committee
from hypercluster.node.verifier.places import Places
from hypercluster.node.verifier.ranges import Ranges
from hypercluster.node.verifier.service import AuditService, Judge
from hypercluster.node.verifier.terms import VerifierTerms
from hypercluster.node.wire.audit import AUDIT_PROTOCOL

log = logging.getLogger(__name__)

DELIVERIES = 8
"""of evidence at once, and as many of accusers; only for cases that we sit on"""
LOOK_SECONDS = 20.0
"""between looks at what is advertised"""


class Verifier:
    """One verifier; `run` serves until it is cancelled or the process is told to end.

    Args:
        judge: how transcripts are run again; the replayer's own way if not given.
        evidence: where transcripts of cases are kept.
    """

    def __init__(
        self,
        *,
        terms: VerifierTerms,
        replayer: Replayer,
        wallets: Wallets,
        chain: Chain,
        ledger: Ledger,
        evidence: TranscriptStore,
        judge: Judge | None = None,
    ) -> None:
        self.terms = terms
        self._replayer, self._judge = replayer, judge or replayer.judge
        self._wallets, self._chain, self._ledger, self._evidence = wallets, chain, ledger, evidence
        self._model = replayer.stored.manifest
        self.on_sale: Callable[[SoldAudit], None] = lambda sale: None
        self.ranges: Ranges | None = None
        """that are audited for pay, once it serves"""
        self._computing = Threads(1)
        self._places = Places(terms.jobs, paid=True)
        self._committee = Committee(
            chain=chain,
            sender=wallets.sender,
            ledger=ledger,
            judge=self._judge,
            evidence=evidence,
            model_id=self._model.model_id,
            computing=self._computing,
        )

    async def run(self, on_ready: OnReady = lambda presence: None) -> None:
        """Join the network and serve; `on_ready` is told when the first advert is out.

        Raises:
            NodeError, MarketError: an address is taken, the chain cannot be reached.
        """
        try:
            async with until_signal():
                await self._serve(on_ready)
        finally:
            self._replayer.close()

    async def _serve(self, on_ready: OnReady) -> None:
        terms = self.terms
        collector = collector_of(self._wallets, self._chain, self._ledger, terms)
        await collector.load()
        await collector.watch()
        if terms.committees:
            await trio.to_thread.run_sync(self._enlist)
        async with (
            collector.claiming_at_the_end(),
            running_host(self._wallets.node_key, terms.listen, announce=terms.announce) as host,
        ):
            host.class_of = collector.class_of
            presence = Presence(
                host,
                chain=self._chain,
                terms=terms,
                wallets=self._wallets,
                model_id=self._model.model_id,
                layers=self._model.layers,
                offer=self.advert,
            )

            ranges = self.ranges = Ranges(presence.discovery.book)
            service = self._service(collector, ranges)

            async def serve(stream: Stream) -> None:
                await serve_audit(Connection(stream), service)

            async def look() -> None:
                ranges.look()

            async def forget() -> None:
                await trio.to_thread.run_sync(self._evidence.prune)

            host.class_of = collector.class_of
            host.serve(AUDIT_PROTOCOL, serve)
            async with presence.running(collector, self._ledger) as jobs:
                jobs.every(LOOK_SECONDS, "what is advertised", look)
                committees = partial(self._committee.work, within=TOGETHER_SECONDS)
                jobs.every(terms.watch_seconds, "committees", committees, first_after=0.1)
                jobs.every(24 * 3600, "forgetting old evidence", forget, first_after=60)
                async with self._shown(presence, collector, jobs):
                    on_ready(presence)
                    await trio.sleep_forever()

    def _service(self, collector: Collector, ranges: Ranges) -> AuditService:
        return AuditService(
            replayer=self._replayer,
            judge=self._judge,
            first_passed=self._first_passed,
            collector=collector,
            price_wei=self.terms.price_wei,
            vouchers=collector.domain,
            disputes=self._chain.disputes.domain,
            node_key=coincurve.PrivateKey(self._wallets.node_key),
            offered=lambda start, stop: ranges.offered(start, stop) or self._replayer.is_cut(start, stop),
            accuser_of=self._committee.accuser_of,
            expect_evidence=self._committee.expect,
            take_evidence=self._committee.take_evidence,
            jobs=self._places,
            deliveries=Places(DELIVERIES, paid=False),
            accusers=Places(DELIVERIES, paid=False),
            computing=self._computing,
            on_sale=self._sold,
        )

    async def _first_passed(self, question: bytes, own_digest: bytes) -> bytes:
        return await trio.to_thread.run_sync(self._ledger.passed.first, question, own_digest)

    async def _sold(self, sale: SoldAudit) -> None:
        self.on_sale(sale)
        try:
            await trio.to_thread.run_sync(self._ledger.trust.save_sale, sale)
        except LedgerError as error:
            log.warning("an audit is missing from the ledger: %s", error)

    @asynccontextmanager
    async def _shown(self, presence: Presence, collector: Collector, jobs: Jobs) -> AsyncIterator[None]:
        if self.terms.http is None:
            yield
            return
        from hypercluster.node.serving.standing import Standings
        from hypercluster.node.verifier.http import Showing, shown
        from hypercluster.node.verifier.metrics import counted

        showing = Showing(
            presence=presence,
            standings=Standings(
                chain=self._chain,
                ledger=self._ledger,
                collector=collector,
                wallets=self._wallets,
                rule=self.terms.claim,
            ),
            chain=self._chain,
            ledger=self._ledger,
            places=self._places,
            wallets=self._wallets,
            model=self._model,
            price_wei=self.terms.price_wei,
        )
        metrics, self.on_sale = counted(showing, jobs)
        if self.terms.http.link_file is not None:
            metrics.stores(self.terms.http.link_file.parent)
        async with shown(showing, self.terms.http, metrics, jobs):
            yield

    def _enlist(self) -> None:
        cases = self._chain.disputes.cases
        if not cases.is_enlisted(self._wallets.sender.address):
            cases.enlist(self._wallets.sender)

    def advert(self, issue: Issue) -> Advert:
        """What this verifier offers now: audits of any range of the model, at its price per token."""
        return Advert(
            peer=issue.peer,
            model_id=self._model.model_id,
            layer_start=0,
            layer_stop=self._model.layers,
            price_wei=self.terms.price_wei,
            prompt_price_wei=self.terms.price_wei,
            cost_ms=0.0,
            prompt_ms=0.0,
            operator=issue.operator,
            capacity=self.terms.jobs,
            free=self._places.free,
            session_tokens=self._model.context,
            max_top_k=0,
            sequence=issue.sequence,
            issued=issue.issued,
            expires=issue.expires,
            width=self._model.width,
            addrs=issue.addrs,
            role="verifier",
        )
