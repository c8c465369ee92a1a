"""A fault for a transcript, had from who served it: see traps.py for why it takes somebody who computes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from hypercluster.market.trust import merkle
from hypercluster.node.client.auditing.opinion import AuditFailed, NoAuditor
from hypercluster.node.client.auditing.traps import LEAST_ROWS, Planted, plant, reordered
from hypercluster.node.rows import TopK, pack_topk

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.trust.audit import Bounds
    from hypercluster.node.client.auditing.prompting import Prompter
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.evidence.transcript import Transcript

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planter:
    """Has faults computed.

    Attributes:
        bounds: within which verifiers are expected to pass; a fault is beyond them.
    """

    prompter: Prompter
    bounds: Callable[[], Bounds]
    width: int

    async def plant(
        self, transcript: Transcript, provider: Advert, spending: Spending
    ) -> tuple[Planted | None, int]:
        """The transcript with a fault that `provider`, who served it, is paid for computing, and wei paid.

        None instead of a fault where the provider does not answer, or what it answers makes none.
        """
        if transcript.outputs < LEAST_ROWS:
            return None, 0
        record = transcript.record
        rows = merkle.split_rows(transcript.input, transcript.tokens)
        order = reordered(len(rows))
        before = spending.spent_wei
        try:
            answers, paid = await self.prompter.ask(
                provider, record, [rows[at] for at in order], spending, top_k=record.top_k
            )
        except (NoAuditor, AuditFailed) as error:
            log.info("no fault can be planted: %s", error)
            return None, spending.spent_wei - before
        data = b"".join(pack_topk(each) if isinstance(each, TopK) else each for each in answers)
        again = dict(zip(order, merkle.split_rows(data, len(rows)), strict=True))
        is_tail = record.layer_stop == self.prompter.layers
        planting = partial(plant, transcript, again, self.bounds(), width=self.width, is_tail=is_tail)
        return await trio.to_thread.run_sync(planting), paid
