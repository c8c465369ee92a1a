"""A provider from its home: shards are cut, ledgers opened, and after a move the next range is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from hypercluster.market.chain import Chain
from hypercluster.market.errors import MarketError
from hypercluster.market.ledger import Ledger
from hypercluster.node.engine.engine import Engine
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.home.last_run import remember, remembered
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.running import RunningFile, running_file
from hypercluster.node.home.settings import TRANSCRIPTS, Settings
from hypercluster.node.provider.prices import resumed
from hypercluster.node.provider.process import HONEST, Provider, Ways
from hypercluster.node.provider.readying import Readying
from hypercluster.node.provider.speed import Speed
from hypercluster.node.provider.terms import ProviderTerms
from hypercluster.node.serving.presence import Presence
from hypercluster.node.serving.stopping import until_signal
from hypercluster.node.serving.terms import Wallets
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.threads import Threads, first_cause

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """One shard that a provider serves: where its keys and books are, and how. Its home must be held.

    `readying` is what has begun to load it.
    """

    premises: Premises
    terms: ProviderTerms
    readying: Readying | None = None


def run_provider(
    stands: Sequence[Stand],
    *,
    on_ready: Callable[[Presence], None],
    cutting: Progress,
    ways: Ways = HONEST,
) -> None:
    """Serve every stand's shard, each under an advert of its own, until told to stop.

    The later ones join the network through the first as well. `on_ready` is told after each start. When one of them
    fails all end.

    Raises:
        NodeError, MarketError: see Provider.run.
    """
    with ExitStack() as stack:
        shards = []
        for stand in stands:
            with cutting() as progress:
                if stand.readying is None:
                    shard = stand.premises.stored.shard(stand.terms.start, stand.terms.stop, progress)
                else:
                    shard = stand.readying.shard(progress)
                shards.append(shard)
        kept = [
            _Kept(
                stand.premises,
                stand.terms,
                stack.enter_context(open_ledger(stand.premises.settings)),
                on_ready,
                ways,
                stand.readying.ready if stand.readying else None,
            )
            for stand in stands
        ]

        async def main() -> None:
            async with until_signal(), trio.open_nursery() as nursery:
                through: tuple[str, ...] = ()
                for each, shard in zip(kept, shards, strict=True):
                    first = await nursery.start(each.serve, shard, through)
                    through = through or first

        try:
            trio.run(main)
        except BaseExceptionGroup as error:
            raise first_cause(error, NodeError, MarketError) from None


class _Kept:
    """One stand while it is served: after a move it goes on with other layers."""

    def __init__(
        self,
        premises: Premises,
        terms: ProviderTerms,
        ledger: Ledger,
        on_ready: Callable[[Presence], None],
        ways: Ways,
        ready: Callable[[], tuple[Engine, Speed]] | None,
    ) -> None:
        self._premises, self._asked, self._ledger = premises, terms, ledger
        self._readied = ready
        self._on_ready, self._ways = on_ready, ways
        self._home = premises.settings.home
        self._transcripts = TranscriptStore(
            self._home / TRANSCRIPTS / "provider",
            keep_seconds=premises.chain.disputes.keep_seconds,
            max_bytes=premises.transcript_bytes,
        )

    async def serve(
        self,
        shard: Path,
        through: tuple[str, ...],
        *,
        task_status: Any = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; `through` are nodes to join through beside those of the terms.

        Starts with the addresses that others join through.
        """
        asked = self._asked.price
        terms = replace(self._asked, bootstrap=(*self._asked.bootstrap, *through))
        last = remembered(self._home)
        # A start that was named anew counts; the same flags as the last time, or none, go on from where the price was.
        goes_on = not asked.given or (asked.start_wei, asked.start_prompt_wei) == (
            last.price_wei,
            last.prompt_price_wei,
        )
        stored = self._premises.stored
        while True:
            layers = terms.start, terms.stop
            row = self._ledger.history.last_price(stored.manifest.model_id, *layers) if goes_on else None
            terms = replace(terms, price=resumed(asked, row))
            provider = Provider(
                terms=terms,
                stored=stored,
                shard=shard,
                wallets=self._premises.wallets,
                chain=self._premises.chain,
                ledger=self._ledger,
                transcripts=self._transcripts,
                ways=self._ways,
                ready=self._readied,
            )
            self._readied = None
            with running_file(self._home) as file:
                better = await provider.run(partial(self._ready, terms, file, task_status))
            if better is None:
                return
            shard = await Threads(1, abandon=True)(stored.shard, *better)
            # The others know it by its addresses: it keeps them when it moves.
            goes_on, now, task_status = True, remembered(self._home), trio.TASK_STATUS_IGNORED
            terms = replace(
                terms,
                start=better[0],
                stop=better[1],
                listen=now.listen,
                direct="" if now.direct == OFF else now.direct,
            )

    def _ready(self, terms: ProviderTerms, file: RunningFile, task_status: Any, presence: Presence) -> None:
        asked = self._asked.price
        remember(
            self._home,
            listen=presence.host.listening,
            direct=_bound(terms, presence.told.direct),
            price_wei=asked.start_wei,
            prompt_price_wei=asked.start_prompt_wei,
            hct_per_coin=terms.claim.hct_per_coin,
            claim_multiple=terms.claim.multiple,
        )
        presence.follow(file.write)
        self._on_ready(presence)
        task_status.started(presence.running_node().addresses)


def _bound(terms: ProviderTerms, told: str) -> str:
    """The fast listener with the port that it got; `told` is what clients are told of it."""
    if not terms.direct:
        return OFF
    where, _, port = terms.direct.rpartition("/")
    if port != "0" or terms.direct_announce:
        return terms.direct
    return f"{where}/{told.rpartition('/')[2]}"
