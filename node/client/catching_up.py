"""Audits that earlier runs left, done by a client that comes for them alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import TYPE_CHECKING

import trio

from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.assembly import Auditing, client_transcripts, inspector
from hypercluster.node.client.auditing.reporter import Ruling
from hypercluster.node.client.auditing.sharing import Sharing
from hypercluster.node.client.auditing.unfinished import UnfinishedAudits
from hypercluster.node.client.bookkeeping import RequestBook
from hypercluster.node.client.joining import station
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.home.lock import Hold, HomeInUse, held
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.ledger import Ledger
    from hypercluster.market.ledger.front_tables import RequestRow
    from hypercluster.node.client.auditing.policy import Report
    from hypercluster.node.client.joining import Station
    from hypercluster.node.client.purse import Purse
    from hypercluster.node.home.settings import Settings
    from hypercluster.node.shards.store import StoredModel

log = logging.getLogger(__name__)

OPENED = "opened"
"""outcome of a case that somebody else sees to its end"""
VERIFIER_SECONDS = 30.0
"""for which somebody who audits is looked for"""
AGAIN_SECONDS = 600.0
"""after which what could not be done is tried again"""


class Opener(Accuser):
    """Opens cases and leaves them to who watches over them."""

    async def accuse(self, transcript: Transcript) -> Ruling:
        """Open a case; its outcome is OPENED. Raises MarketError."""
        return Ruling(await self.open(transcript), OPENED, 0)


class CatchingUp:
    """Finishes audits whenever nobody else spends from the home's wallet.

    Args:
        models: finds a model on this machine by its id; None where it is not here.
        tell: told of each report, and of which request it is.
    """

    def __init__(
        self,
        settings: Settings,
        chain: Chain,
        purse: Purse,
        ledger: Ledger,
        auditing: Auditing,
        models: Callable[[str], StoredModel | None],
        tell: Callable[[str, Report], None],
        program: str,
    ) -> None:
        self._settings, self._chain, self._purse, self._ledger = settings, chain, purse, ledger
        self._auditing, self._models, self._tell, self._program = auditing, models, tell, program
        self._in_thread = Threads(1)
        self._not_before: dict[str, float] = {}
        """moments (trio's clock) by request"""

    async def work(self) -> bool:
        """Do what can be done now; whether something is left for later, as another program has the wallet.

        Raises NodeError, MarketError.
        """
        rows = [
            row
            for row in await self._in_thread(self._ledger.requests.unaudited)
            if trio.current_time() >= self._not_before.get(row.request_id, 0.0)
        ]
        if not rows:
            return False
        try:
            with held(self._settings.home, Hold.WALLET, self._program, patience=0.0):
                async with station(self._settings, self._chain, self._purse) as place:
                    rows.sort(key=lambda row: row.model_id)
                    for model_id, of_model in groupby(rows, lambda row: row.model_id):
                        await self._audit(place, model_id, list(of_model))
        except HomeInUse as error:
            log.info("audits of %d requests wait: %s", len(rows), error)
            return True
        return False

    async def _audit(self, place: Station, model_id: str, rows: Sequence[RequestRow]) -> None:
        later = trio.current_time() + AGAIN_SECONDS
        self._not_before |= {row.request_id: later for row in rows}
        stored = await self._in_thread(self._models, model_id)
        if stored is None:
            log.warning("audits are left out: the model %s is not here, give it with --model", model_id[:16])
            return
        transcripts = client_transcripts(self._settings, self._chain, self._auditing.max_bytes)
        with ExitStack() as engines:
            async with place.client(stored, reading=False) as client:
                discovery = client.network.discovery
                await discovery.settle(VERIFIER_SECONDS, lambda: bool(discovery.book.snapshot("verifier")))
                if self._auditing.auditor in ("auto", "verifier") and not discovery.book.snapshot("verifier"):
                    log.warning("audits wait: nobody offers to audit the model %s", model_id[:16])
                    return
                looks = inspector(
                    self._auditing,
                    client.network,
                    place.payer,
                    self._chain,
                    stored,
                    transcripts,
                    place.ledger,
                    self._purse,
                    Sharing(self._settings.share_evidence),
                    Opener(
                        chain=self._chain,
                        sender=self._purse.unlock,
                        host=client.network.host,
                        discovery=discovery,
                    ),
                    engines=engines,
                )
                unfinished = UnfinishedAudits(
                    ledger=place.ledger,
                    payer=place.payer,
                    inspector=looks,
                    transcripts=transcripts,
                    book=discovery.book,
                    records=RequestBook(place.ledger, place.payer, ReceiptFiles(self._settings.home)),
                )
                for row in rows:
                    for report in await unfinished.finish(row.request_id):
                        self._tell(row.request_id, report)
