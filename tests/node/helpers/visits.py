"""A client of one provider that sends what it is told to, pays for it, and checks receipts and bills."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hypercluster.market.money.voucher import charge
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.connection import Connection
from hypercluster.node.rows import pack_tokens, unpack_topk
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.messages import Accept, Close, Error, Open, Parked, Step, StepResult
from hypercluster.node.wire.records import AuditStep, StageRecord, served
from tests.node.helpers.providers import FREE, PRICE, PROMPT_PRICE, Served, opening

WAIT = 60.0
CACHED_PRICE = PROMPT_PRICE * 5 // 100


class Turned(Exception):
    """An opening was refused."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


class Session:
    """One visit; of an `earlier` one where the stage goes on, or begins with the steps of one that it branches off."""

    def __init__(
        self,
        provider: Served,
        connection: Connection,
        account: OutgoingAccount,
        open: Open,
        accepted: Accept,
        earlier: Session | None = None,
    ) -> None:
        self._connection, self._account = connection, account
        self.accepted = accepted
        self.sent: int = earlier.sent if earlier else 0
        self.cost: int = earlier.cost if earlier else 0
        self.record: StageRecord
        self._chain: ReceiptChain
        self._cached_due = accepted.position > 0
        self.steps: list[AuditStep] = []
        """with their receipts"""
        self._begun: list[AuditStep] = []
        if accepted.position and not open.branch:
            assert earlier is not None
            assert accepted.nonce == earlier.record.nonce
            self.record, self._chain, self.steps = earlier.record, earlier._chain, earlier.steps
        else:
            self.sent = 0
            if accepted.position:
                assert earlier is not None
                assert accepted.nonce != earlier.record.nonce
                self._begun, self.sent = earlier.steps[: open.branch], open.branch
            self.record = StageRecord(
                session=open.session,
                nonce=accepted.nonce,
                channel_id=account.channel_id,
                model_id=open.model_id,
                layer_start=open.layer_start,
                layer_stop=open.layer_stop,
                wire_dtype=open.wire_dtype,
                profile=accepted.profile,
                peer=provider.advert.peer,
                client=connection.peer,
                top_k=open.top_k,
            )
            self._chain = ReceiptChain(self.record.stage, provider.chain.disputes.domain)
        self._node = address_of_peer(provider.advert.peer)

    async def step(self, position: int, tokens: list[int], *, short_of: int = 0) -> int | Error:
        """The token that follows, or why not; the voucher is `short_of` so many wei."""
        cost = (
            charge(PRICE, PROMPT_PRICE, len(tokens)) + self._cached_due * CACHED_PRICE * position - short_of
        )
        cumulative, signature = self._account.authorise(cost, FREE)
        step = Step(
            seq=self.sent,
            position=position,
            rows=len(tokens),
            cumulative_wei=cumulative,
            signature=signature,
            input=pack_tokens(np.array(tokens, np.int32)),
        )
        await self._connection.send(step)
        answer = await self._connection.receive(WAIT)
        if isinstance(answer, Error):
            return answer
        assert isinstance(answer, StepResult)
        assert len(answer.inherited) == 64 * len(self._begun)
        for place, begun in enumerate(self._begun):
            receipt = answer.inherited[64 * place : 64 * (place + 1)]
            self._take(replace(begun, issued=answer.issued, receipt=receipt))
        self._begun = []
        record = served(
            step, output=answer.output, outputs=answer.rows, issued=answer.issued, receipt=answer.receipt
        )
        self._take(record)
        self.cost += cost
        self.sent += 1
        self._cached_due = False
        assert answer.billed_wei == self._account.channel.spent + cost
        self._account.acknowledge(cost, answer.billed_wei, FREE)
        return int(unpack_topk(answer.output, answer.rows).ids[0, 0])

    def _take(self, step: AuditStep) -> None:
        self._chain.accept(self._chain.next(step), step.receipt, self._node)
        self.steps.append(step)

    async def park(self) -> int:
        """End the visit; for how many seconds the stage is kept."""
        await self._connection.send(Close(park=True))
        answer = await self._connection.receive(WAIT)
        await self._connection.close()
        assert isinstance(answer, Parked)
        return answer.seconds


async def started(
    provider: Served,
    connection: Connection,
    account: OutgoingAccount,
    earlier: Session | None = None,
    position: int = 0,
    **changes: Any,
) -> Session:
    """An accepted session of 40 tokens; one that is to go on from `position` where there was an earlier visit."""
    if earlier is not None:
        changes = {
            "resume": earlier.record.session,
            "position": position,
            "max_cached_price_wei": CACHED_PRICE,
        } | changes
    open = opening(provider.advert, account, **{"capacity": 40, **changes})
    await connection.send(open)
    accepted = await connection.receive(WAIT)
    if isinstance(accepted, Error):
        raise Turned(accepted)
    assert isinstance(accepted, Accept)
    connection.raise_bound(frame_bound(accepted.max_step_tokens, accepted.width, open.top_k))
    return Session(provider, connection, account, open, accepted, earlier)
