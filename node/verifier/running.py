"""A verifier from its home: its ledger, the evidence that it keeps, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable

import trio

from hypercluster.market.chain import Chain
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.home.last_run import remember
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.running import running_file
from hypercluster.node.home.settings import EVIDENCE, Settings
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.serving.presence import Presence
from hypercluster.node.serving.terms import Wallets
from hypercluster.node.verifier.process import Verifier
from hypercluster.node.verifier.service import Judge
from hypercluster.node.verifier.terms import VerifierTerms

EVIDENCE_BYTES = 16 * 2**30


def run_verifier(
    settings: Settings,
    chain: Chain,
    terms: VerifierTerms,
    *,
    replayer: Replayer,
    wallets: Wallets,
    on_ready: Callable[[Presence], None],
    judge: Judge | None = None,
) -> None:
    """Audit and judge until told to stop; `on_ready` is told after the start. The home must be held.

    Raises:
        NodeError, MarketError: see Verifier.run.
    """
    evidence = TranscriptStore(
        settings.home / EVIDENCE, keep_seconds=chain.disputes.keep_seconds, max_bytes=EVIDENCE_BYTES
    )
    with open_ledger(settings) as ledger, running_file(settings.home) as file:
        verifier = Verifier(
            terms=terms,
            replayer=replayer,
            wallets=wallets,
            chain=chain,
            ledger=ledger,
            evidence=evidence,
            judge=judge,
        )

        def ready(presence: Presence) -> None:
            remember(
                settings.home,
                listen=presence.host.listening,
                hct_per_coin=terms.claim.hct_per_coin,
                claim_multiple=terms.claim.multiple,
            )
            presence.follow(file.write)
            on_ready(presence)

        trio.run(verifier.run, ready)
