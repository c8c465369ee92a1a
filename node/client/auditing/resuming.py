"""Cases that an earlier run of a client opened and left: they are taken up again, since a bond hangs on each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from hypercluster.market.chain.disputes import CaseOpened, CaseResolved
from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.transcript_store import NoTranscript, TranscriptStore
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.client.auditing.accuser import Accuser

log = logging.getLogger(__name__)


class OpenCases:
    """The cases of one wallet about one model, as the chain knows them.

    Args:
        wallet: address of the accuser.
        transcripts: where the evidence is, if it is still there.
    """

    def __init__(
        self, *, chain: Chain, wallet: str, model_id: str, accuser: Accuser, transcripts: TranscriptStore
    ) -> None:
        self._chain, self._wallet, self._model_id = chain, wallet, model_id
        self._accuser, self._transcripts = accuser, transcripts
        self._in_thread = Threads(1, abandon=True)
        self.found: list[int] | None = None
        """their numbers, once they were looked for"""
        self.done = trio.Event()
        """all of them are decided, or were given up"""

    async def see_through(self) -> None:
        """See all of them to their end. Never raises for chain, disk or peers; what cannot be done is logged."""
        try:
            opened = await self._in_thread(self._look)
            self.found = [case.case_id for case in opened]
            async with trio.open_nursery() as nursery:
                for case in opened:
                    nursery.start_soon(self._see_through, case)
        except MarketError as error:
            log.warning("whether a case of an earlier run is open could not be found out: %s", error)
        finally:
            self.found = self.found or []
            self.done.set()

    def _look(self) -> list[CaseOpened]:
        disputes = self._chain.disputes
        start = max(self._chain.deployment.block, self._chain.block_number() - disputes.lookback_blocks)
        events, _ = disputes.events_from(start)
        over = {event.case_id for event in events if isinstance(event, CaseResolved)}
        return [
            event
            for event in events
            if isinstance(event, CaseOpened)
            and event.accuser == self._wallet
            and event.model_id.hex() == self._model_id
            and event.case_id not in over
        ]

    async def _see_through(self, case: CaseOpened) -> None:
        log.warning("case %d of an earlier run is still open: it is seen through", case.case_id)
        try:
            transcript = await self._in_thread(self._evidence, case)
            ruling = await self._accuser.see_through(case.case_id, transcript)
        except (NodeError, MarketError) as error:
            log.warning("case %d could not be seen through: %s", case.case_id, error)
            return
        log.warning("case %d: %s, %d wei slashed", case.case_id, ruling.outcome, ruling.slashed_wei)

    def _evidence(self, case: CaseOpened) -> Transcript | None:
        try:
            return self._transcripts.load(case.stage_hash, case.seq)
        except (NoTranscript, NodeError):
            log.warning("the evidence of case %d is not here any more", case.case_id)
            return None
