"""Rows of input given to a provider as a prompt of its own: it is paid for them and does not know what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.node.client.account import Recipient
from hypercluster.node.client.auditing.opinion import asking, funded
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.pipeline import Pipeline
from hypercluster.node.client.request import MOST_CANDIDATES
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.rows import TopK, unpack_tokens

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.payer import Payer
    from hypercluster.node.network.host import Host
    from hypercluster.node.wire.records import StageRecord

LEAST_PIECE = 16
"""rows that any provider takes in one step, to know what a prompt costs before it says how many it takes"""


@dataclass(frozen=True, slots=True)
class Prompter:
    """Opens sessions for prompts that belong to no completion."""

    host: Host
    payer: Payer
    domain: DisputeDomain
    layers: int
    n_vocab: int

    async def ask(
        self,
        provider: Advert,
        record: StageRecord,
        rows: Sequence[bytes],
        spending: Spending,
        *,
        top_k: int = 0,
    ) -> tuple[list[bytes | TopK], int]:
        """Have a provider run these rows of input, packed as those of the stage of `record`, in one session.

        Returns:
            What it answered to all of them, in pieces, with `top_k` candidates a row from the last stage; and wei paid.

        Raises:
            NoAuditor, AuditFailed: it cannot be paid, refuses, or does not answer.
        """
        with asking(provider.peer):
            return await self._ask(provider, record, rows, spending, top_k)

    async def _ask(
        self,
        provider: Advert,
        record: StageRecord,
        rows: Sequence[bytes],
        spending: Spending,
        top_k: int,
    ) -> tuple[list[bytes | TopK], int]:
        is_tail = record.layer_stop == self.layers
        payee = Recipient(provider.operator, address_of_peer(provider.peer))
        # Each piece costs what a generated token does at least.
        pieces = 1 + len(rows) // LEAST_PIECE
        need = len(rows) * provider.prompt_price_wei + pieces * provider.price_wei
        account = await funded(self.payer, payee, need, spending)
        connection = await dial_steps(self.host, provider)
        hop = await Hop.open(
            connection,
            provider,
            account,
            wire_dtype=record.wire_dtype,
            capacity=len(rows),
            top_k=min(self.n_vocab, MOST_CANDIDATES, top_k),
            n_vocab=self.n_vocab,
            is_last=is_tail,
            domain=self.domain,
            spending=spending,
        )
        outputs: list[bytes | TopK] = []
        async with Pipeline([hop]) as pipeline:
            at = 0
            # All of it is set aside at once: half a prompt would be paid for nothing.
            with spending.step(pipeline.cost(len(rows))):
                for count in pipeline.chunks(len(rows)):
                    data = b"".join(rows[at : at + count])
                    payload = data if record.layer_start else [int(i) for i in unpack_tokens(data, count)]
                    outputs.append(await hop.step(payload, count, all_outputs=is_tail))
                    at += count
        return outputs, hop.paid_wei
