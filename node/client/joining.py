"""A client on the network, put together from settings, keys and a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from hypercluster.market.chain import Chain
from hypercluster.market.money.signing import NOBODY
from hypercluster.node.client.auditing.afterwards import Audits
from hypercluster.node.client.auditing.assembly import Auditing, client_transcripts, inspector, know_terms
from hypercluster.node.client.auditing.inspection import Inspector
from hypercluster.node.client.auditing.resuming import OpenCases
from hypercluster.node.client.auditing.sharing import Sharing, into
from hypercluster.node.client.bookkeeping import RequestBook
from hypercluster.node.client.client import Client, Network, Records
from hypercluster.node.client.experience import Experience
from hypercluster.node.client.model import Model
from hypercluster.node.client.purse import Purse
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.recovery import Wallet, opened_wallet
from hypercluster.node.client.request import Wishes
from hypercluster.node.errors import NodeError
from hypercluster.node.home.settings import PEERS, Settings
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.latency import Latencies
from hypercluster.node.network.membership import Membership
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.network.rumours import Rumours
from hypercluster.node.shards.certificate import certified
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.node.client.draft_model import Drafting, DraftModel
    from hypercluster.node.client.own_layers import Ends, OwnLayers


class Unseen(NodeError):
    """Who serves a model could not be found out."""


class NoBootstrap(NodeError):
    """Nobody said through whom to join the network."""


def check_way_in(settings: Settings) -> None:
    """Raise NoBootstrap where the settings name no node to join through."""
    if not settings.bootstrap and not settings.mdns:
        raise NoBootstrap(
            "No node to join the network through: use a profile that names one, give --bootstrap or set HC_BOOTSTRAP, "
            "or HC_MDNS=1 on a local network."
        )


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks end with the block; what the block raises comes out as it is."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001 - raised again below, outside of the nursery
            failure = error
        nursery.cancel_scope.cancel()
    if failure:
        raise failure


class Station:
    """A place in the network from which completions of any model are run: one host, one wallet, one ledger.

    See `station`.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        chain: Chain,
        purse: Purse,
        wallet: Wallet,
        host: Host,
        wishes: Wishes | None,
        auditing: Auditing | None,
        drafting: Drafting | None,
        own: Ends | None,
        seed: int | None,
    ) -> None:
        self.settings, self.chain = settings, chain
        self.payer, self.ledger = wallet.payer, wallet.ledger
        on_chain = Threads(1, abandon=True)

        async def chain_time() -> float:
            return await on_chain(chain.timestamp)

        self.membership = Membership(
            host,
            bootstrap=settings.bootstrap,
            mdns=settings.mdns,
            memory=Memory(settings.home / PEERS),
            chain_time=chain_time,
        )
        self._book = RequestBook(self.ledger, self.payer, ReceiptFiles(settings.home))
        wishes = wishes or Wishes(shares=settings.shares)
        ahead = wishes.pay_ahead if settings.pay_ahead == 1 else settings.pay_ahead
        in_flight = settings.in_flight if wishes.in_flight is None else wishes.in_flight
        linked = wishes.chain and settings.chain
        spare = wishes.spare or settings.spare
        self._wishes = replace(wishes, chain=linked, pay_ahead=ahead, in_flight=in_flight, spare=spare)
        self._purse, self._auditing, self._drafting, self._seed = purse, auditing, drafting, seed
        self._own = own
        self._experience = Experience()
        self._eligible = Eligibility(chain)
        self._latencies = Latencies(host)
        self._transcripts = client_transcripts(settings, chain, auditing.max_bytes) if auditing else None

    @asynccontextmanager
    async def client(self, stored: StoredModel, *, reading: bool = True) -> AsyncIterator[Client]:
        """A client for one model, for as long as the block lasts; not `reading`, it loads no vocabulary until it must.

        Audits that are not done at the end of the block are given up. Raises TokenizerError, ShardError.
        """
        manifest = stored.manifest
        model = Model(
            model_id=manifest.model_id,
            layers=manifest.layers,
            n_vocab=manifest.n_vocab,
            starts=manifest.starts,
            reads_tokens=manifest.reads_tokens,
            vocabulary=stored.vocabulary,
            certified=await trio.to_thread.run_sync(certified, stored),
        )
        with (
            closing(model),
            await self._draft_model(stored) as draft_model,
            await self._own_layers(stored) as own_layers,
            ExitStack() as engines,
        ):
            if reading:
                # Loaded here, as it takes its time.
                await trio.to_thread.run_sync(lambda: model.tokenizer)
            book = OrderBook(manifest.model_id, self._eligible, name=manifest.summary, layers=manifest.layers)
            domain = self.chain.disputes.domain
            rumours = Rumours(book, self._eligible, domain, into(self.ledger))
            discovery = Discovery(self.membership, book, rumours)
            client = Client(
                network=Network(host=self.membership.host, discovery=discovery, latencies=self._latencies),
                model=model,
                payer=self.payer,
                records=Records(
                    domain=domain,
                    transcripts=self._transcripts,
                    trust=self.ledger.trust,
                    requests=self._book,
                ),
                wishes=self._wishes,
                seed=self._seed,
                experience=self._experience,
                draft_model=draft_model,
                own_layers=own_layers,
            )
            await self.membership.follow(discovery)
            async with discovery.following(), background() as nursery:
                nursery.start_soon(client.wakefulness.watch)
                nursery.start_soon(client.patience.watch)
                client.background = nursery
                if self._auditing is not None and self._transcripts is not None:
                    looks = inspector(
                        self._auditing,
                        client.network,
                        self.payer,
                        self.chain,
                        stored,
                        self._transcripts,
                        self.ledger,
                        self._purse,
                        Sharing(self.settings.share_evidence),
                        engines=engines,
                    )
                    client.audits = Audits(looks, nursery, client.audited, self._open_cases(looks, stored))
                try:
                    yield client
                finally:
                    client.stays.close()
                    client.background = None
                    if client.audits is not None:
                        client.audits.over = True

    async def _draft_model(self, stored: StoredModel) -> AbstractContextManager[DraftModel | None]:
        """Who guesses for a model, loaded; nobody where its tokens are others. Raises ShardError, LlamaError."""
        drafting = self._drafting
        if drafting is None or not await trio.to_thread.run_sync(drafting.fits, stored):
            return nullcontext()
        from hypercluster.node.client.draft_model import DraftModel  # an engine, which few need

        return closing(await trio.to_thread.run_sync(DraftModel, drafting))

    async def _own_layers(self, stored: StoredModel) -> AbstractContextManager[OwnLayers | None]:
        """What of a model is computed here, loaded. Raises BadLayers, ModelMissing, ShardError, LlamaError."""
        if self._own is None:
            return nullcontext()
        from hypercluster.node.client.own_layers import OwnLayers  # an engine, which few need

        return closing(await trio.to_thread.run_sync(OwnLayers, self._own, stored))

    def _open_cases(self, looks: Inspector, stored: StoredModel) -> OpenCases | None:
        """Those of an earlier run, where disputes are wanted and there is a wallet for them."""
        if looks.accuser is None or self._transcripts is None or not looks.policy.disputes:
            return None
        return OpenCases(
            chain=self.chain,
            wallet=self._purse.wallet,
            model_id=stored.manifest.model_id,
            accuser=looks.accuser,
            transcripts=self._transcripts,
        )


@asynccontextmanager
async def station(
    settings: Settings,
    chain: Chain,
    purse: Purse,
    *,
    wishes: Wishes | None = None,
    auditing: Auditing | None = None,
    drafting: Drafting | None = None,
    own: Ends | None = None,
    seed: int | None = None,
) -> AsyncIterator[Station]:
    """A place in the network for as long as the block lasts.

    With `auditing` its clients keep transcripts and have stages looked over, with `drafting` a model guesses for those
    of the same tokens, `own` layers are computed here; `wishes` and `seed` are theirs.

    Raises:
        NoBootstrap: the settings name no node to join through.
        NodeError, MarketError: the ledger or the wallet's policy cannot be read, or another process pays from it.
    """
    check_way_in(settings)
    if auditing is not None or purse.wallet != NOBODY:
        await know_terms(chain)
    with opened_wallet(settings, chain, purse) as wallet:
        async with running_host(purse.session_key) as host:
            place = Station(
                settings=settings,
                chain=chain,
                purse=purse,
                wallet=wallet,
                host=host,
                wishes=wishes,
                auditing=auditing,
                drafting=drafting,
                own=own,
                seed=seed,
            )
            async with place.membership.running():
                yield place


@asynccontextmanager
async def joined(
    settings: Settings,
    chain: Chain,
    stored: StoredModel,
    purse: Purse,
    *,
    wishes: Wishes | None = None,
    auditing: Auditing | None = None,
    drafting: Drafting | None = None,
    own: Ends | None = None,
    seed: int | None = None,
    reading: bool = True,
) -> AsyncIterator[Client]:
    """A client that has joined the network and finds providers of `stored` for as long as the block lasts.

    As `station` with one model. Raises what that and its `client` raise.
    """
    async with (
        station(
            settings,
            chain,
            purse,
            wishes=wishes,
            auditing=auditing,
            drafting=drafting,
            own=own,
            seed=seed,
        ) as place,
        place.client(stored, reading=reading) as client,
    ):
        yield client
