"""A provider's answer to demands on chain: it shows the rows that its receipts commit to, before the deadline."""

from __future__ import annotations

import logging

from hypercluster.market.chain import Chain, Sender, Sent
from hypercluster.market.chain.disputes import Demanded, DemandStatus
from hypercluster.market.chain.logs import again_from
from hypercluster.market.errors import ChainError, Reverted
from hypercluster.market.trust import merkle
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.threads import Threads

log = logging.getLogger(__name__)

AT_ONCE = 32
"""answers under way at once: blocks have room for some, and whoever demands much must not hold up the others"""


class Demands:
    """Watches for demands upon one node and serves them; `work` is called every few seconds.

    The latest blocks are read again each time, so a demand that a reorganisation moves is seen all the same.
    """

    def __init__(self, *, chain: Chain, sender: Sender, node: str, transcripts: TranscriptStore) -> None:
        self._chain, self._sender, self._node, self._transcripts = chain, sender, node, transcripts
        self._next_block: int | None = None
        self._heard: dict[int, Demanded] = {}
        """those that may be open, by their number"""
        self.open: dict[int, Demanded] = {}
        """by their number, until they are served or lapse"""
        self._missing: set[int] = set()
        """whose rows were not here when they were looked for"""
        self._on_chain = Threads(1, abandon=True)

    async def work(self, *, within: float = 0.0) -> None:
        """Serve what is asked for, the most urgent first. `within` as in Rpc.tip.

        Raises ChainError; the next call tries again.
        """
        await self._on_chain(self._work, within)

    def _work(self, within: float) -> None:
        self._read(within)
        heard = sorted(self._heard.values(), key=lambda each: each.deadline)
        states = self._chain.disputes.demands.states([each.demand_id for each in heard])
        is_open = [state.status is DemandStatus.OPEN for state in states]
        # What is served or gone comes again with its block, as long as that can be replaced.
        self._heard = {each.demand_id: each for each, still in zip(heard, is_open, strict=True) if still}
        self.open = dict(self._heard)
        due = [*self.open.values()]
        failures: list[ChainError] = []
        for start in range(0, len(due), AT_ONCE):
            failures += self._serve(due[start : start + AT_ONCE])
        if failures:
            raise failures[0]

    def _read(self, within: float) -> None:
        disputes, first = self._chain.disputes, self._chain.deployment.block
        if self._next_block is None:
            # One may have come while we were away.
            start = self._chain.block_number() - disputes.lookback_blocks
        else:
            start = again_from(self._next_block)
        events, self._next_block = disputes.events_from(max(first, start), within=within)
        for event in events:
            if isinstance(event, Demanded) and event.node == self._node:
                self._heard[event.demand_id] = event

    def _serve(self, due: list[Demanded]) -> list[ChainError]:
        """Answer some demands in transactions that go out behind each other. Returns what went wrong, for which the
        others do not wait.
        """
        under_way: list[tuple[Demanded, Sent]] = []
        failures: list[ChainError] = []
        for each in due:
            try:
                if (sent := self._submit(each)) is not None:
                    under_way.append((each, sent))
            except ChainError as error:
                self._failed(each, error, failures)
        for each, sent in under_way:
            try:
                self._sender.wait(sent)
                log.warning("served demand %d", each.demand_id)
            except ChainError as error:
                self._failed(each, error, failures)
        return failures

    @staticmethod
    def _failed(demanded: Demanded, error: ChainError, failures: list[ChainError]) -> None:
        log.info("demand %d: %s", demanded.demand_id, error)
        if not isinstance(error, Reverted):
            failures.append(error)

    def _submit(self, demanded: Demanded) -> Sent | None:
        """Send the row that is demanded; None where it is not here. Raises ChainError."""
        try:
            step = self._transcripts.load(demanded.stage_hash, demanded.seq).steps[demanded.seq]
            data, count = (step.output, step.outputs) if demanded.output else (step.input, step.rows)
            rows = merkle.split_rows(data, count)
            row, proof = rows[demanded.row], merkle.proof(rows, demanded.row)
        except (NodeError, IndexError):
            if demanded.demand_id not in self._missing:
                self._missing.add(demanded.demand_id)
                log.error(
                    "demand %d is for step %d of stage %s, which is not here any more",
                    demanded.demand_id,
                    demanded.seq,
                    demanded.stage_hash.hex(),
                )
            return None
        return self._chain.disputes.demands.submit_serve(self._sender, demanded.demand_id, row, proof)
