"""A provider from its home: the shard is cut, the ledger opened, and after a move the next range is served."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import trio

from hypercluster.market.chain import Chain
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.home.last_run import remember, remembered
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.running import RunningFile, running_file
from hypercluster.node.home.settings import TRANSCRIPTS, Settings
from hypercluster.node.provider.prices import resumed
from hypercluster.node.provider.process import HONEST, Provider, Ways
from hypercluster.node.provider.terms import ProviderTerms
from hypercluster.node.serving.presence import Presence
from hypercluster.node.serving.terms import Wallets
from hypercluster.node.shards.store import StoredModel

OFF = "off"
"""in place of an address: no fast listener"""
Progress = Callable[[], AbstractContextManager[Callable[[int], None]]]
"""opens a progress bar for cutting a shard, and yields what is told how many bytes were done"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """What a provider runs on: the settings of its home, the chain, the whole model, its keys, and disk in bytes."""

    settings: Settings
    chain: Chain
    stored: StoredModel
    wallets: Wallets
    transcript_bytes: int = 4 * 2**30


def run_provider(
    premises: Premises,
    terms: ProviderTerms,
    *,
    on_ready: Callable[[Presence], None],
    cutting: Progress,
    ways: Ways = HONEST,
) -> None:
    """Serve until told to stop; `on_ready` is told after each start. The home must be held.

    Raises:
        NodeError, MarketError: see Provider.run.
    """
    home, chain = premises.settings.home, premises.chain
    transcripts = TranscriptStore(
        home / TRANSCRIPTS / "provider",
        keep_seconds=chain.disputes.keep_seconds,
        max_bytes=premises.transcript_bytes,
    )
    asked = terms.price
    last = remembered(home)
    # A start that was named anew counts; the same flags as the last time, or none, go on from where the price was.
    goes_on = not asked.given or (asked.start_wei, asked.start_prompt_wei) == (
        last.price_wei,
        last.prompt_price_wei,
    )
    with open_ledger(premises.settings) as ledger:
        better: tuple[int, int] | None = (terms.start, terms.stop)
        while better:
            model_id = premises.stored.manifest.model_id
            row = ledger.history.last_price(model_id, *better) if goes_on else None
            terms = replace(terms, start=better[0], stop=better[1], price=resumed(asked, row))
            with cutting() as progress:
                shard = premises.stored.shard(terms.start, terms.stop, progress)
            provider = Provider(
                terms=terms,
                manifest=premises.stored.manifest,
                shard=shard,
                wallets=premises.wallets,
                chain=chain,
                ledger=ledger,
                transcripts=transcripts,
                ways=ways,
                source=premises.stored.source,
            )
            with running_file(home) as file:

                def ready(presence: Presence, terms: ProviderTerms = terms, file: RunningFile = file) -> None:
                    remember(
                        home,
                        listen=presence.host.listening,
                        direct=_bound(terms, presence.told.direct),
                        price_wei=asked.start_wei,
                        prompt_price_wei=asked.start_prompt_wei,
                        hct_per_coin=terms.claim.hct_per_coin,
                        claim_multiple=terms.claim.multiple,
                    )
                    presence.follow(file.write)
                    on_ready(presence)

                better = trio.run(provider.run, ready)
            # The others know it by its addresses: it keeps them when it moves.
            goes_on, now = True, remembered(home)
            terms = replace(terms, listen=now.listen, direct="" if now.direct == OFF else now.direct)


def _bound(terms: ProviderTerms, told: str) -> str:
    """The fast listener with the port that it got; `told` is what clients are told of it."""
    if not terms.direct:
        return OFF
    where, _, port = terms.direct.rpartition("/")
    if port != "0" or terms.direct_announce:
        return terms.direct
    return f"{where}/{told.rpartition('/')[2]}"
