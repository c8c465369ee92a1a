"""A provider's answer to demands on chain: it shows the rows that its receipts commit to, before the deadline."""

from __future__ import annotations

import logging
from functools import partial

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.chain.disputes import Demanded, DemandStatus
from hypercluster.market.errors import Reverted
from hypercluster.market.trust import merkle
from hypercluster.node.evidence.transcript_store import NoTranscript, TranscriptStore
from hypercluster.node.threads import Threads

log = logging.getLogger(__name__)


class Demands:
    """Watches for demands upon one node and serves them; `work` is called every few seconds."""

    def __init__(self, *, chain: Chain, sender: Sender, node: str, transcripts: TranscriptStore) -> None:
        self._chain, self._sender, self._node, self._transcripts = chain, sender, node, transcripts
        self._next_block: int | None = None
        self.open: dict[int, Demanded] = {}
        """by their number, until they are served or lapse"""
        self._on_chain = Threads(1, abandon=True)

    async def work(self) -> None:
        """Serve what is asked for. Raises ChainError; the next call tries again."""
        await self._on_chain(self._work)

    def _work(self) -> None:
        disputes = self._chain.disputes
        start = self._next_block
        if start is None:
            # One may have come while we were away.
            head = self._chain.block_number()
            start = max(self._chain.deployment.block, head - disputes.lookback_blocks)
        events, next_block = disputes.events_from(start)
        for event in events:
            if isinstance(event, Demanded) and event.node == self._node:
                self.open[event.demand_id] = event
                self._serve(event)
        for demand_id in list(self.open):
            if disputes.demands.state(demand_id).status is not DemandStatus.OPEN:
                del self.open[demand_id]
        self._next_block = next_block

    def _serve(self, demanded: Demanded) -> None:
        state = self._chain.disputes.demands.state(demanded.demand_id)
        if state.status is not DemandStatus.OPEN:
            return
        try:
            load = partial(self._transcripts.load, demanded.stage_hash, demanded.seq)
            step = load().steps[demanded.seq]
        except (NoTranscript, IndexError):
            log.error(
                "demand %d is for step %d of stage %s, which is not here any more",
                demanded.demand_id,
                demanded.seq,
                demanded.stage_hash.hex(),
            )
            return
        data, count = (step.output, step.outputs) if demanded.output else (step.input, step.rows)
        rows = merkle.split_rows(data, count)
        try:
            self._chain.disputes.demands.serve(
                self._sender, demanded.demand_id, rows[demanded.row], merkle.proof(rows, demanded.row)
            )
            log.warning("served demand %d", demanded.demand_id)
        except Reverted as error:
            log.info("demand %d: %s", demanded.demand_id, error)
