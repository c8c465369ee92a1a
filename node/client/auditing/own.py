"""An audit on the client's own shard."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from hypercluster.market.errors import MarketError
from hypercluster.node.client.auditing.opinion import AuditFailed, NoAuditor, Opinion
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.threads import Threads

if TYPE_CHECKING:
    from hypercluster.node.client.limits import Spending


class OwnAuditor:
    """The client's own shard: costs nothing but time, and needs nobody's word."""

    def __init__(self, replayer: Replayer) -> None:
        self._replayer = replayer
        self._in_thread = Threads(1)

    async def audit(self, transcript: Transcript, avoid: Collection[str], spending: Spending) -> Opinion:
        """Run it here. Raises NoAuditor, AuditFailed."""
        record = transcript.record
        if not self._replayer.has(record.layer_start, record.layer_stop):
            raise NoAuditor(
                f"There is no shard of layers {record.layer_start}:{record.layer_stop} here to audit with."
            )
        try:
            judgement = await self._in_thread(self._replayer.judge, transcript)
        except (NodeError, MarketError) as error:
            raise AuditFailed("own", str(error)) from error
        return Opinion(judgement.finding, judgement.difference, "own")
