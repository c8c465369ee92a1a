"""An audit by another provider of the same layers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from hypercluster.market.advert import Advert
from hypercluster.market.trust import merkle
from hypercluster.market.trust.audit import Bounds
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.client.auditing.opinion import NoAuditor, Opinion, asking
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.comparing import WIDER, judge_against

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.prompting import Prompter
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.network.discovery import Discovery


class ProviderAuditor:
    """Another provider of the same layers, which is paid for a prompt and does not know what it is for."""

    def __init__(
        self, prompter: Prompter, discovery: Discovery, bounds: Callable[[], Bounds], *, layers: int
    ) -> None:
        self._prompter, self._discovery = prompter, discovery
        self._bounds, self._layers = bounds, layers

    async def audit(self, transcript: Transcript, avoid: Collection[str], spending: Spending) -> Opinion:
        """Have it run by the cheapest other provider. Raises NoAuditor, AuditFailed."""
        record = transcript.record
        if len(transcript.runs) > 1:
            raise NoAuditor(
                "The stage went back to earlier tokens: no prompt gives the same, a verifier can see it."
            )
        rivals = [
            advert
            for advert in self._discovery.book.snapshot()
            if (advert.layer_start, advert.layer_stop) == (record.layer_start, record.layer_stop)
            and advert.peer != record.peer
            and not {advert.peer, advert.operator} & set(avoid)
            and record.wire_dtype.name.lower() in advert.wire_dtypes
        ]
        if not rivals:
            raise NoAuditor(f"No other provider serves layers {record.layer_start}:{record.layer_stop}.")
        rival = min(rivals, key=lambda advert: advert.prompt_price_wei)
        return await self._ask(rival, transcript, spending)

    async def _ask(self, rival: Advert, transcript: Transcript, spending: Spending) -> Opinion:
        record = transcript.record
        is_tail = record.layer_stop == self._layers
        rows = merkle.split_rows(transcript.input, transcript.tokens)
        outputs, paid = await self._prompter.ask(rival, record, rows, spending, top_k=WIDER * record.top_k)
        with asking(rival.peer):
            difference = judge_against(transcript, outputs, width=rival.width, is_tail=is_tail)
        finding = self._bounds().of("tail" if is_tail else "body", "foreign").judge(difference)
        return Opinion(finding, difference, rival.peer, paid, certain=finding is Finding.PASS)
