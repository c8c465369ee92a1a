"""A client on the network, put together from settings, keys and a model."""

import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import coincurve
import trio

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.audit import BadBounds, Bounds
from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.auditors import Auditor, OwnAuditor, ProviderAuditor, VerifierAuditor
from hypercluster.node.client.auditing.inspection import Inspector, Policy
from hypercluster.node.client.client import Client
from hypercluster.node.client.payer import Payer
from hypercluster.node.engine.tokenizer import Tokenizer
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import TranscriptStore
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import TRANSCRIPTS, Settings
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligibility
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.latency import Latencies
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel

NOBODY = "0x" + "00" * 20

AuditorKind = Literal["auto", "verifier", "provider", "own"]
AUDITORS: tuple[AuditorKind, ...] = get_args(AuditorKind)

log = logging.getLogger(__name__)


class NoBootstrap(NodeError):
    """Nobody said through whom to join the network."""


class NoWallet(NodeError):
    """A client that only looks around was asked to pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditing:
    """How a client has its completions looked over: by whom, how often, and what it keeps for that (bytes)."""

    policy: Policy
    auditor: AuditorKind = "auto"
    threads: int = 1
    max_bytes: int = 2 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What a client pays with.

    `session_key` (32 bytes) signs vouchers and is the peer's identity; `wallet` is the account that funds the
    channels, and `unlock` makes it send, called only when money has to move.
    """

    session_key: bytes
    wallet: str
    unlock: Callable[[], Sender]


def purse_of(home: Path, chain: Chain, password: str) -> Purse:
    """The purse of the client whose keys are in `home`; the wallet stays locked until money has to move.

    Raises:
        KeystoreError: a key is missing, or the password is wrong.
    """
    return Purse(
        session_key=bytes(keys.unlock(home, Key.SESSION, password).key),
        wallet=keys.address(home, Key.WALLET),
        unlock=lambda: Sender(chain, keys.unlock(home, Key.WALLET, password)),
    )


def empty_purse() -> Purse:
    """For a client that only looks around: an identity for once, and no money."""

    def unlock() -> Sender:
        raise NoWallet("This client has no wallet, it only looks around.")

    return Purse(session_key=secrets.token_bytes(32), wallet=NOBODY, unlock=unlock)


@asynccontextmanager
async def joined(
    settings: Settings,
    chain: Chain,
    stored: StoredModel,
    purse: Purse,
    *,
    market: MarketParameters | None = None,
    wire_dtype: WireDtype = WireDtype.F32,
    deposit: int = HCT // 100,
    spread: bool = False,
    auditing: Auditing | None = None,
) -> AsyncIterator[Client]:
    """A client that has joined the network and finds providers of `stored` for as long as the block lasts.

    With `auditing` it keeps transcripts and has stages looked over.

    Raises:
        NoBootstrap: the settings name no node to join through.
        NodeError, MarketError: the vocabulary or the ledger cannot be opened.
    """
    if not settings.bootstrap and not settings.mdns:
        raise NoBootstrap(
            "No node to join the network through: give --bootstrap, set HC_BOOTSTRAP, or HC_MDNS=1 on a local network."
        )
    with open_ledger(settings) as ledger, Tokenizer(stored.vocabulary()) as tokenizer:
        payer = Payer(
            chain=chain,
            payer=purse.wallet,
            wallet=purse.unlock,
            session_key=coincurve.PrivateKey(purse.session_key),
            ledger=ledger,
        )
        book = OrderBook(stored.manifest.model_id, Eligibility(chain))
        async with running_host(purse.session_key) as host:
            discovery = Discovery(host, book, bootstrap=settings.bootstrap, mdns=settings.mdns)
            transcripts = inspector = None
            if auditing is not None:
                transcripts = client_transcripts(settings, chain, auditing.max_bytes)
                inspector = _inspector(
                    auditing,
                    host,
                    discovery,
                    payer,
                    chain,
                    stored,
                    tokenizer.n_vocab,
                    transcripts,
                    ledger,
                    purse,
                )
            async with discovery.running():
                yield Client(
                    host=host,
                    discovery=discovery,
                    latencies=Latencies(host),
                    payer=payer,
                    tokenizer=tokenizer,
                    layers=stored.manifest.layers,
                    market=market or MarketParameters(),
                    wire_dtype=wire_dtype,
                    deposit=deposit,
                    spread=spread,
                    domain=chain.disputes.domain,
                    transcripts=transcripts,
                    trust=ledger.trust,
                    inspector=inspector,
                )


def client_transcripts(settings: Settings, chain: Chain, max_bytes: int = 0) -> TranscriptStore:
    """What this client keeps of its sessions, as long as the chain may ask for it, and up to so many bytes."""
    return TranscriptStore(
        settings.home / TRANSCRIPTS / "client",
        keep_seconds=chain.disputes.keep_seconds,
        max_bytes=max_bytes,
        drop_oldest=True,
    )


def _inspector(
    auditing: Auditing,
    host: Host,
    discovery: Discovery,
    payer: Payer,
    chain: Chain,
    stored: StoredModel,
    n_vocab: int,
    transcripts: TranscriptStore,
    ledger: Ledger,
    purse: Purse,
) -> Inspector:
    manifest, domain = stored.manifest, chain.disputes.domain

    def bounds() -> Bounds:
        try:
            return Bounds.load(stored.bounds_file, manifest.model_id)
        except BadBounds as error:
            log.info("%s Auditing within wide bounds.", error)
            return Bounds.conservative(manifest.model_id)

    def distrusted() -> set[str]:
        standings = ledger.trust.reputations(datetime.now(UTC))
        return {peer for peer, standing in standings.items() if standing.reputation.distrusted}

    verifiers = VerifierAuditor(
        host,
        discovery,
        payer,
        domain,
        layers=manifest.layers,
        n_embd=manifest.n_embd,
        distrusted=distrusted,
    )
    provider = ProviderAuditor(
        host, discovery, payer, domain, bounds, layers=manifest.layers, n_vocab=n_vocab
    )
    auditors: dict[AuditorKind, Callable[[], Auditor]] = {
        "auto": lambda: verifiers,
        "verifier": lambda: verifiers,
        "provider": lambda: provider,
        "own": lambda: OwnAuditor(Replayer(stored, bounds(), threads=auditing.threads)),
    }
    return Inspector(
        policy=auditing.policy,
        secret=secrets.token_bytes(32),
        auditor=auditors[auditing.auditor](),
        verifiers=verifiers,
        accuser=Accuser(chain=chain, sender=purse.unlock, host=host, discovery=discovery),
        transcripts=transcripts,
        ledger=ledger,
        host=host,
        discovery=discovery,
        domain=domain,
        layers=manifest.layers,
        n_embd=manifest.n_embd,
    )


async def look(settings: Settings, chain: Chain, stored: StoredModel, seconds: float) -> list[Node]:
    """The adverts for a model that are found within `seconds`, full providers included; none without a way in."""
    if not settings.bootstrap and not settings.mdns:
        return []
    async with joined(settings, chain, stored, empty_purse()) as client:
        await trio.sleep(seconds)
        return await client.nodes(full=True)
