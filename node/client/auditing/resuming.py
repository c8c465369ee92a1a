"""What an earlier run of a client took to the chain and left there: it is taken up again, since bonds hang on it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from hypercluster.market.chain.disputes import CaseOpened, CaseResolved, Demanded, Served, Withheld
from hypercluster.market.chain.logs import again_from
from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.transcript_store import NoTranscript, TranscriptStore
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.client.auditing.accuser import Accuser

log = logging.getLogger(__name__)


class LeftOpen:
    """What `account` opened on chain within the last `seconds`, or since the first look, and nobody has closed."""

    def __init__(self, chain: Chain, account: str, seconds: float) -> None:
        self._chain, self._account, self._seconds = chain, account, seconds
        self._next_block: int | None = None
        self.cases: dict[int, CaseOpened] = {}
        self.demands: dict[int, Demanded] = {}

    def look(self) -> None:
        """Read what happened since the last time, the last blocks again. Raises ChainError."""
        disputes = self._chain.disputes
        if self._next_block is None:
            start = self._chain.block_number() - disputes.blocks_of(self._seconds)
        else:
            start = again_from(self._next_block)
        events, self._next_block = disputes.events_from(max(self._chain.deployment.block, start))
        # What stood in a block that is read again may be gone with it.
        self.cases = {number: each for number, each in self.cases.items() if each.block < start}
        self.demands = {number: each for number, each in self.demands.items() if each.block < start}
        for event in events:
            if isinstance(event, CaseOpened) and event.accuser == self._account:
                self.cases[event.case_id] = event
            elif isinstance(event, Demanded) and event.demander == self._account:
                self.demands[event.demand_id] = event
            elif isinstance(event, CaseResolved):
                self.cases.pop(event.case_id, None)
            elif isinstance(event, Served | Withheld):
                self.demands.pop(event.demand_id, None)


def evidence_of(case: CaseOpened, transcripts: TranscriptStore) -> Transcript | None:
    """The transcript that a case is about, as far as its receipt goes; None where it is not here any more."""
    try:
        return transcripts.load(case.stage_hash, case.seq)
    except (NoTranscript, NodeError):
        log.warning("the evidence of case %d is not here any more", case.case_id)
        return None


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
        found = LeftOpen(self._chain, self._wallet, self._chain.disputes.terms.case_seconds)
        found.look()
        return [case for case in found.cases.values() if case.model_id.hex() == self._model_id]

    async def _see_through(self, case: CaseOpened) -> None:
        log.warning("case %d of an earlier run is still open: it is seen through", case.case_id)
        try:
            transcript = await self._in_thread(evidence_of, case, self._transcripts)
            ruling = await self._accuser.go_on(case.case_id, transcript)
        except (NodeError, MarketError) as error:
            log.warning("case %d could not be seen through: %s", case.case_id, error)
            return
        log.warning("case %d: %s, %d wei slashed", case.case_id, ruling.outcome, ruling.slashed_wei)
