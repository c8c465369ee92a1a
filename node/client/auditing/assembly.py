"""A client's auditing, put together from what it has."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, get_args

from hypercluster.market.trust.audit import BadBounds, Bounds
from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.inspection import Inspector
from hypercluster.node.client.auditing.opinion import Auditor
from hypercluster.node.client.auditing.planting import Planter
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.auditing.prompting import Prompter
from hypercluster.node.client.auditing.provider import ProviderAuditor
from hypercluster.node.client.auditing.sharing import Sharer, Sharing
from hypercluster.node.client.auditing.verifier import VerifierAuditor
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.home.settings import TRANSCRIPTS, Settings
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.ledger import Ledger
    from hypercluster.market.trust.standing import Standing
    from hypercluster.node.client.client import Network
    from hypercluster.node.client.payer import Payer
    from hypercluster.node.client.purse import Purse
    from hypercluster.node.shards.store import StoredModel

AuditorKind = Literal["auto", "verifier", "provider", "own"]
AUDITORS: tuple[AuditorKind, ...] = get_args(AuditorKind)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditing:
    """How a client has its completions looked over: by whom, how often, and what it keeps for that (bytes)."""

    policy: Policy
    auditor: AuditorKind = "auto"
    threads: int = 1
    max_bytes: int = 2 * 2**30


async def know_terms(chain: Chain) -> None:
    """Read the terms of disputes, which are kept from then on, in a thread: whoever ends meanwhile leaves it alone.

    Raises ChainError.
    """
    await Threads(1, abandon=True)(lambda: chain.disputes.terms)


def client_transcripts(settings: Settings, chain: Chain, max_bytes: int = 0) -> TranscriptStore:
    """What this client keeps of its sessions, as long as the chain may ask for it, and up to so many bytes."""
    return TranscriptStore(
        settings.home / TRANSCRIPTS / "client",
        keep_seconds=chain.disputes.terms.longest_seconds,
        max_bytes=max_bytes,
        drop_oldest=True,
    )


def inspector(
    auditing: Auditing,
    network: Network,
    payer: Payer,
    chain: Chain,
    stored: StoredModel,
    transcripts: TranscriptStore,
    ledger: Ledger,
    purse: Purse,
    sharing: Sharing = Sharing.NONE,
    accuser: Accuser | None = None,
    *,
    engines: ExitStack,
) -> Inspector:
    """The inspector that `auditing` asks for, which tells others of faults as far as `sharing` goes; faults go to the
    chain by `accuser`, which sees its cases to their ends if none is given. What it loads itself ends with `engines`.
    """
    manifest, domain = stored.manifest, chain.disputes.domain
    host, discovery = network.host, network.discovery

    def bounds() -> Bounds:
        try:
            return Bounds.load(stored.bounds_file, manifest.model_id)
        except BadBounds as error:
            log.info("%s Auditing within wide bounds.", error)
            return Bounds.conservative(manifest.model_id)

    def standings() -> dict[str, Standing]:
        return ledger.trust.standings(datetime.now(UTC))

    verifiers = VerifierAuditor(
        host,
        discovery,
        payer,
        domain,
        layers=manifest.layers,
        width=manifest.width,
        standings=standings,
    )
    prompter = Prompter(host, payer, domain, manifest.layers, manifest.n_vocab)
    provider = ProviderAuditor(prompter, discovery, bounds, layers=manifest.layers)

    def own() -> Auditor:
        from hypercluster.node.client.auditing.own import OwnAuditor  # the only ones with an engine
        from hypercluster.node.replay.replayer import Replayer

        replayer = Replayer(stored, bounds(), threads=auditing.threads)
        return OwnAuditor(engines.enter_context(closing(replayer)))

    auditors: dict[AuditorKind, Callable[[], Auditor]] = {
        "auto": lambda: verifiers,
        "verifier": lambda: verifiers,
        "provider": lambda: provider,
        "own": own,
    }
    return Inspector(
        policy=auditing.policy,
        secret=secrets.token_bytes(32),
        auditor=auditors[auditing.auditor](),
        verifiers=verifiers,
        planter=Planter(prompter, bounds, manifest.width),
        own=own,
        accuser=accuser or Accuser(chain=chain, sender=purse.unlock, host=host, discovery=discovery),
        sharer=Sharer(sharing, discovery, domain, verifiers),
        transcripts=transcripts,
        ledger=ledger,
        host=host,
        discovery=discovery,
        domain=domain,
        layers=manifest.layers,
        width=manifest.width,
    )
