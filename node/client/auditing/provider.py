"""An audit by another provider of the same layers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from hypercluster.market.advert import Advert
from hypercluster.market.trust.audit import Bounds
from hypercluster.market.trust.receipt import DisputeDomain, Finding
from hypercluster.node.client.account import Recipient
from hypercluster.node.client.auditing.opinion import NoAuditor, Opinion, asking, funded
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.pipeline import Pipeline
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.replay.comparing import WIDER, judge_against
from hypercluster.node.rows import TopK, unpack_tokens

if TYPE_CHECKING:
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.payer import Payer
    from hypercluster.node.network.discovery import Discovery
    from hypercluster.node.network.host import Host

MOST_CANDIDATES = 1024
"""that a provider gives"""


class ProviderAuditor:
    """Another provider of the same layers, which is paid for a prompt and does not know what it is for."""

    def __init__(
        self,
        host: Host,
        discovery: Discovery,
        payer: Payer,
        domain: DisputeDomain,
        bounds: Callable[[], Bounds],
        *,
        layers: int,
        n_vocab: int,
    ) -> None:
        self._host, self._discovery, self._payer, self._domain = host, discovery, payer, domain
        self._bounds, self._layers, self._n_vocab = bounds, layers, n_vocab

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
        with asking(rival.peer):
            return await self._ask(rival, transcript, spending)

    async def _ask(self, rival: Advert, transcript: Transcript, spending: Spending) -> Opinion:
        record = transcript.record
        is_tail = record.layer_stop == self._layers
        payee = Recipient(rival.operator, address_of_peer(rival.peer))
        need = sum(
            step.rows * max(rival.prompt_price_wei, rival.price_wei if step.rows == 1 else 0)
            for step in transcript.steps
        )
        account = await funded(self._payer, payee, need, spending)
        connection = await dial_steps(self._host, rival)
        hop = await Hop.open(
            connection,
            rival,
            account,
            wire_dtype=record.wire_dtype,
            capacity=transcript.tokens,
            top_k=min(self._n_vocab, MOST_CANDIDATES, WIDER * record.top_k),
            n_vocab=self._n_vocab,
            is_last=is_tail,
            domain=self._domain,
            spending=spending,
        )
        outputs: list[bytes | TopK] = []
        async with Pipeline([hop]) as pipeline:
            at = 0
            # All of it is set aside at once: half an audit would be paid for nothing.
            with spending.step(pipeline.cost(transcript.tokens)):
                for rows in pipeline.chunks(transcript.tokens):
                    payload = _rows(transcript, at, rows)
                    outputs.append(await hop.step(payload, rows, all_outputs=is_tail))
                    at += rows
        difference = judge_against(transcript, outputs, width=rival.width, is_tail=is_tail)
        finding = self._bounds().of("tail" if is_tail else "body", "foreign").judge(difference)
        return Opinion(finding, difference, rival.peer, hop.paid_wei, certain=finding is Finding.PASS)


def _rows(transcript: Transcript, at: int, rows: int) -> list[int] | bytes:
    """Input rows [at, at + rows) as a Hop takes them."""
    data = transcript.input
    width = len(data) // transcript.tokens
    part = data[at * width : (at + rows) * width]
    if transcript.record.layer_start == 0:
        return [int(token) for token in unpack_tokens(part, rows)]
    return part
