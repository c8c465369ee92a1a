"""Steps that are sent to a provider while others of the same session are unanswered.

The provider takes them in turn. Of those that have not begun it drops what the client discards, and what stands on rows
that never came; a dropped step costs nothing, and what was signed for it pays for the next ones. Until then it is at
risk, as the price of every unanswered step is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hypercluster.node.client.exchanging import telling
from hypercluster.node.client.paid import Paid
from hypercluster.node.client.stepping import Stepping
from hypercluster.node.client.timing import Timing
from hypercluster.node.rows import pack_tokens
from hypercluster.node.wire.links import Discard, NoRows
from hypercluster.node.wire.messages import FLIGHT, StepResult
from hypercluster.node.wire.messages import Step as StepMessage

if TYPE_CHECKING:
    from hypercluster.node.client.answers import Answer
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.patience import Leash

SEND_SECONDS = 10.0
"""for a provider to take in a step that is small and does not stand alone"""


class Flying(Stepping):
    """A session some of whose steps are sent before others are answered."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._out: deque[Paid] = deque()
        self.stands_by = False
        """whether it only stands by for another, so that its steps are large ones, now and then"""
        self._aside = 0

    def take_over(self, spending: Spending, leash: Leash) -> None:
        """Be part of the path that it stood by for, paid within `spending` as the others are. For one at rest."""
        self._aside = self.receipts.next_seq - self.first_seq
        self.stands_by, self.leash, self.timing = False, leash, Timing()
        self.spending = spending
        self._ahead.pay_within(spending)

    @property
    def aside(self) -> int:
        """Of its steps, how many were taken while it stood by; 1 where it does and took none."""
        return max(1, self.receipts.next_seq - self.first_seq) if self.stands_by else self._aside

    @property
    def flies(self) -> bool:
        """Whether the provider takes steps before it has answered others."""
        return FLIGHT in self.advert.features and self._connection.direct and not self.unsigned

    @property
    def unsigned(self) -> bool:
        """Whether it begins with steps of another session that are not signed for yet: nobody is shown these."""
        return bool(self._begun)

    @property
    def out(self) -> int:
        """Steps that are on their way, discarded ones included."""
        return len(self._out)

    @property
    def unearned(self) -> int:
        """Wei that the provider could claim and has not earned."""
        return sum(paid.cost for paid in self._out) + self.credit

    @property
    def credit(self) -> int:
        """Wei that are set aside and signed for: of dropped steps, or paid ahead. The next steps are paid with it."""
        return self._ahead.wei

    @property
    def oldest_epoch(self) -> int:
        """That of the step which is answered next."""
        return self._out[0].step.epoch

    async def launch(
        self,
        payload: Sequence[int] | None,
        rows: int,
        *,
        position: int,
        epoch: int,
        onward: int,
    ) -> None:
        """Pay for and send a step of `rows` tokens from `position` on; see `pay` for `payload` and `onward`.

        Raises:
            OverDeposit, LimitReached: see `pay`; HopFailed: it was not taken in.
        """
        start = time.perf_counter()
        cost = self.cost(rows)
        cumulative, signature = self._ahead.voucher(cost)
        step = StepMessage(
            seq=self.seq + len(self._out),
            position=position,
            rows=rows,
            cumulative_wei=cumulative,
            signature=signature,
            input=b"" if payload is None else pack_tokens(np.asarray(payload, np.int32)),
            all_outputs=rows > 1,
            awaited=self.awaits if payload is None else 0,
            onward=onward,
            epoch=epoch,
        )
        self._out.append(Paid(step, cost, start, 1000 * (time.perf_counter() - start), sent=True))
        self.awaits += 1
        await telling(self._connection, self.advert.peer, step, SEND_SECONDS)

    async def landed(self) -> Answer | None:
        """What comes of the oldest step that is out; None: it was dropped, or had no rows, and is not billed.

        Raises HopFailed: no good answer came.
        """
        paid, began = self._out[0], time.perf_counter()
        result = await self._answer_to(paid.step)
        if isinstance(result, NoRows) and result.seq == paid.step.seq:
            self._out.popleft()
            self._unbilled(paid, result)
            return None
        if isinstance(result, StepResult) and result.seq == paid.step.seq:
            # What was dropped before it has no receipt.
            number = self.receipts.next_seq
            paid.step, result = replace(paid.step, seq=number), replace(result, seq=number)
        try:
            return self._taken(paid, result, began)
        finally:
            if paid.answered:
                self._out.popleft()

    async def drop(self, epoch: int) -> None:
        """Have the provider begin none of the steps up to that epoch any more. Raises HopFailed."""
        await telling(self._connection, self.advert.peer, Discard(0, epoch), SEND_SECONDS)

    def give_up(self) -> None:
        """As that of Stepping, of all steps that are out."""
        super().give_up()
        while self._out:
            paid = self._out.popleft()
            self.account.release(paid.cost, self.spending)
            self.risked_wei += paid.cost
            self.broken = True
