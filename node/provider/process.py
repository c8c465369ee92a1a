"""A provider: serves layers [start, stop) of a model to whoever pays, until it is cancelled."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import coincurve
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.chain.rpc import TOGETHER_SECONDS
from hypercluster.market.ledger import Ledger
from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.profile import profile
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.hello import ServedModel
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import serve_steps
from hypercluster.node.provider import nearness
from hypercluster.node.provider.demands import Demands
from hypercluster.node.provider.links import Links, Outlet
from hypercluster.node.provider.moving import Mover
from hypercluster.node.provider.nearness import Nearness
from hypercluster.node.provider.offers import Offer
from hypercluster.node.provider.prices import Asking, price_row
from hypercluster.node.provider.recall import hear, serve_recall
from hypercluster.node.provider.rereading import REREAD_SECONDS, ShardRereading
from hypercluster.node.provider.service import Service
from hypercluster.node.provider.sessions import serve_session
from hypercluster.node.provider.speed import Speed
from hypercluster.node.provider.terms import ProviderTerms
from hypercluster.node.provider.visits import Visits
from hypercluster.node.pulling.giving import Giver, shelf_of
from hypercluster.node.serving.collector import Collector, collector_of
from hypercluster.node.serving.jobs import Jobs
from hypercluster.node.serving.presence import OnReady, Presence
from hypercluster.node.serving.terms import Wallets
from hypercluster.node.shards.certificate import certified
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.audit import RECALL_PROTOCOL
from hypercluster.node.wire.bounds import frame_bound

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""between looks at whether the offer has changed"""

RecallHandler = Callable[[Connection, TranscriptStore, DisputeDomain, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ways:
    """How a provider computes, how it answers a client that asks to see a step again, and how it sends rows on.

    `engine` takes the arguments of Engine; `recall` those of serve_recall and the node key (32 bytes). Others than
    the usual ones are there to see them found out.
    """

    engine: Callable[..., Engine]
    recall: RecallHandler
    outlet: Callable[[int], Outlet] = Outlet


async def _recall(
    connection: Connection, transcripts: TranscriptStore, domain: DisputeDomain, _node_key: bytes
) -> None:
    await serve_recall(connection, transcripts, domain)


HONEST = Ways(Engine, _recall)


class Provider:
    """One provider; `run` serves until it is cancelled.

    Args:
        shard: GGUF file of the layers of `terms`.
        stored: the model, to see which layers else it could serve.
        ready: gives its engine and how fast that is, where they are not to be made now.
    """

    def __init__(
        self,
        *,
        terms: ProviderTerms,
        stored: StoredModel,
        shard: Path,
        wallets: Wallets,
        chain: Chain,
        ledger: Ledger,
        transcripts: TranscriptStore,
        ways: Ways = HONEST,
        ready: Callable[[], tuple[Engine, Speed]] | None = None,
    ) -> None:
        self._ready = self._load if ready is None else ready
        self.terms, self.manifest, self.transcripts = terms, stored.manifest, transcripts
        self.asking = Asking(terms.price, terms.market, self.manifest.layers)
        self._shard, self._wallets, self._chain, self._ledger = shard, wallets, chain, ledger
        self._ways, self._stored = ways, stored
        self._visits = Visits()

    async def run(self, on_ready: OnReady = lambda presence: None) -> tuple[int, int] | None:
        """Load the shard, join the network, and serve; `on_ready` is told when the first advert is out.

        What is worth its gas is claimed before this returns. Returns the layers that this provider should rather serve
        from now on, or None.

        Raises:
            NodeError, MarketError: the shard does not load, an address is taken, the chain cannot be reached.
        """
        engine, speed = await trio.to_thread.run_sync(self._ready)
        try:
            return await self._serve(engine, speed, on_ready)
        finally:
            engine.stop()

    def _load(self) -> tuple[Engine, Speed]:
        loader = self.terms.loader(self._ways.engine)
        engine = loader.load(self._shard, self.manifest)
        try:
            return engine, loader.timed(engine)
        except BaseException:
            engine.stop()
            raise

    def _giver(self) -> Giver:
        """Gives others what is here of the model."""
        shelf = shelf_of(self._stored, [(self.terms.start, self.terms.stop)])
        return Giver([shelf], self.terms.give_bytes)

    async def _serve(self, engine: Engine, speed: Speed, on_ready: OnReady) -> tuple[int, int] | None:
        terms = self.terms
        offer = Offer(
            terms=terms,
            manifest=self.manifest,
            engine=engine,
            asking=self.asking,
            speed=speed,
            certified=await trio.to_thread.run_sync(certified, self._stored),
        )
        offer.blocked = lambda: self.transcripts.full
        speed.parked = lambda: len(offer.parking)
        collector = collector_of(self._wallets, self._chain, self._ledger, terms)
        await collector.load()
        await collector.watch()
        # Asks the disk for every file, once.
        await trio.to_thread.run_sync(self.transcripts.size)
        async with (
            collector.claiming_at_the_end(),
            running_host(self._wallets.node_key, terms.listen, announce=terms.announce) as host,
        ):

            async def show(connection: Connection) -> None:
                domain = self._chain.disputes.domain
                await self._ways.recall(connection, self.transcripts, domain, self._wallets.node_key)

            host.class_of = collector.class_of
            host.serve(RECALL_PROTOCOL, partial(hear, host, show))
            giver = await trio.to_thread.run_sync(self._giver) if terms.give_bytes else None
            links = Links(host, frame_bound(terms.step_tokens, engine.width), self._ways.outlet)
            direct = await serve_steps(
                host,
                partial(serve_session, service=self._service(offer, collector, links)),
                direct_listen=terms.direct,
                direct_announce=terms.direct_announce,
                announce=terms.announce,
                frame_seconds=terms.frame_seconds,
                others=giver.open_at(host) if giver else None,
            )
            presence = Presence(
                host,
                chain=self._chain,
                terms=terms,
                wallets=self._wallets,
                model_id=self.manifest.model_id,
                layers=self.manifest.layers,
                served=ServedModel(self.manifest.model_id, self.manifest.summary, self.manifest.layers),
                offer=partial(offer.advert, direct=direct),
            )
            presence.computes = terms.backend.document()
            presence.troubles = lambda: [each for each in (offer.blocked(), engine.trouble) if each]
            async with presence.running(collector, self._ledger) as jobs:
                demands = self._schedule(jobs, offer, presence)
                rereading = ShardRereading(self._stored, self._shard, terms.start, terms.stop)
                jobs.every(REREAD_SECONDS, "reading the shard again", rereading.look)
                mover = Mover(terms.move, offer, presence, self._ledger) if terms.move else None
                if mover and terms.move:
                    jobs.every(terms.move.every_seconds, "looking for better layers", mover.look_around)
                async with self._shown(offer, presence, collector, demands, jobs):
                    on_ready(presence)
                    with offer.parking, trio.CancelScope() as serving:
                        rereading.on_rot = serving.cancel
                        if mover is None:
                            await trio.sleep_forever()
                            return None
                        await mover.moved_out()
                        return mover.better
                    raise rereading.rot

    @asynccontextmanager
    async def _shown(
        self, offer: Offer, presence: Presence, collector: Collector, demands: Demands, jobs: Jobs
    ) -> AsyncIterator[None]:
        if self.terms.http is None:
            yield
            return
        from hypercluster.node.provider.http import Showing, shown
        from hypercluster.node.provider.metrics import counted
        from hypercluster.node.provider.prospects import Prospects
        from hypercluster.node.serving.standing import Standings

        wallets = self._wallets
        standings = Standings(
            chain=self._chain,
            ledger=self._ledger,
            collector=collector,
            wallets=wallets,
            rule=self.terms.claim,
        )
        showing = Showing(
            offer=offer,
            presence=presence,
            standings=standings,
            ledger=self._ledger,
            demands=demands,
            visits=self._visits,
            prospects=Prospects(
                ledger=self._ledger,
                offer=offer,
                presence=presence,
                transcripts=self.transcripts,
                shard=self._shard,
                stored=self._stored,
            ),
            node=wallets.sender.address,
            operator=wallets.operator,
        )
        metrics = counted(showing, collector, jobs)
        if self.terms.http.link_file is not None:
            metrics.stores(self.terms.http.link_file.parent)
        async with shown(showing, self.terms.http, metrics, jobs):
            yield

    def _service(self, offer: Offer, collector: Collector, links: Links) -> Service:
        terms = self.terms
        return Service(
            model_id=self.manifest.model_id,
            layer_start=terms.start,
            layer_stop=terms.stop,
            layers=self.manifest.layers,
            width=offer.engine.width,
            reads_tokens=offer.engine.reads_tokens,
            max_top_k=offer.max_top_k,
            max_step_tokens=terms.step_tokens,
            wire_dtypes=offer.wire_dtypes,
            accepting=lambda: not offer.leaving.is_set(),
            blocked=offer.blocked,
            crowded=lambda: offer.crowded,
            seats=offer.seats,
            parking=offer.parking,
            cached_percent=terms.cached_percent,
            reserve=lambda: offer.reserve_wei,
            throttle_seconds=terms.throttle_ms / 1000,
            engine=offer.engine,
            collector=collector,
            prices=lambda: self.asking.prices,
            domain=collector.domain,
            disputes=self._chain.disputes.domain,
            node_key=coincurve.PrivateKey(self._wallets.node_key),
            peer=peer_of_key(self._wallets.node_key),
            profile=profile(terms.backend, threads=terms.threads, chunk=terms.step_tokens),
            transcripts=self.transcripts,
            links=links,
            seconds_before=offer.seconds_before,
            visits=self._visits,
        )

    def _schedule(self, jobs: Jobs, offer: Offer, presence: Presence) -> Demands:
        terms = self.terms
        demands = Demands(
            chain=self._chain,
            sender=self._wallets.sender,
            node=self._wallets.sender.address,
            transcripts=self.transcripts,
        )

        near = Nearness(presence.host, terms.start, terms.stop, presence.others, presence.stake_of)
        offer.neighbours = lambda: near.packed

        async def tell_changes() -> None:
            if offer.changed():
                await presence.publish()

        async def measure() -> None:
            if offer.speed.due:
                await trio.to_thread.run_sync(offer.speed.look)

        async def reprice() -> None:
            step = offer.reprice(presence)
            if step is None:
                return
            row = price_row(step, self.manifest.model_id)
            await trio.to_thread.run_sync(self._ledger.history.save_price, row)
            self._visits.on_price(step.price_wei, step.next_price_wei)
            if step.next_price_wei != step.price_wei:
                log.info("price %d -> %d wei a token", step.price_wei, step.next_price_wei)
                await presence.publish()

        async def forget() -> None:
            offer.parking.expire()
            await trio.to_thread.run_sync(self.transcripts.prune)

        jobs.every(nearness.LOOK_SECONDS, "measuring delays", near.look, first_after=nearness.FIRST_SECONDS)
        jobs.every(LOOK_SECONDS, "telling what has changed", tell_changes)
        jobs.every(terms.watch_seconds, "serving demands", partial(demands.work, within=TOGETHER_SECONDS))
        jobs.every(2 * LOOK_SECONDS, "measuring the speed", measure)
        jobs.every(60, "forgetting old transcripts", forget)
        if terms.price.adapt:
            jobs.every(terms.price_seconds, "price update", reprice)
        return demands
