"""The steps of a session with one provider: each paid for, and what comes back checked."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import trio

from hypercluster.market.advert import Advert
from hypercluster.market.errors import Overbilled
from hypercluster.market.money.voucher import charge
from hypercluster.node.client.ahead import Ahead
from hypercluster.node.client.answers import Answer, Checks
from hypercluster.node.client.exchanging import HopFailed, hearing, telling, too_slow
from hypercluster.node.client.kept import KeptSteps
from hypercluster.node.client.paid import Paid
from hypercluster.node.client.patience import Leash, TooSlow
from hypercluster.node.client.timing import Timing
from hypercluster.node.evidence.bundle import pack_step
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.rows import TopK, pack_tokens
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.links import Discard, NoRows
from hypercluster.node.wire.messages import Accept, LinkState, Open, Step, StepResult
from hypercluster.node.wire.records import StageRecord

if TYPE_CHECKING:
    from hypercluster.market.money.voucher import Quote
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.client.account import OutgoingAccount
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.stays import Stay
    from hypercluster.node.evidence.transcript_store import TranscriptStore, TranscriptWriter
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.wire.records import AuditStep, StepRoots

OPEN_SECONDS = 15.0
STEP_SECONDS = 120.0
"""for an answer, and as long as it is expected to take besides; where somebody else could go on, a leash is shorter"""


class Stepping:
    """The steps of one open session: paid for, sent, answered and checked.

    At most one is unanswered at any time, so the provider can run off with the price of one step at most.
    """

    def __init__(
        self,
        connection: "Connection",
        advert: Advert,
        account: "OutgoingAccount",
        accepted: Accept,
        opening: Open,
        is_last: bool,
        n_vocab: int,
        domain: "DisputeDomain",
        transcripts: "TranscriptStore | None",
        client: str,
        spending: "Spending",
        quote: "Quote",
        leash: Leash | None = None,
        stay: "Stay | None" = None,
        pay_ahead: int = 1,
        begun: "Sequence[AuditStep | StepRoots]" = (),
    ) -> None:
        self.advert = advert
        self.leash = leash
        self.account = account
        self.spending = spending
        self.quote, self.quote_signature = quote, accepted.quote_signature
        self.packed = bytearray()
        """the steps that were answered well, with receipts and vouchers; see node.evidence.bundle"""
        self.price_wei = accepted.price_wei
        self.prompt_price_wei = accepted.prompt_price_wei
        self.cached_price_wei = accepted.cached_price_wei
        self.capacity = accepted.capacity
        self.max_step_tokens = accepted.max_step_tokens
        self.wire_dtype = opening.wire_dtype
        self.is_last = is_last
        self.visit = opening.session
        """16 bytes that name this visit of the session; those of the session where it is the first"""
        self.cached = self.position = accepted.position
        """tokens that the session held when this visit began"""
        self._cached_due = accepted.position > 0
        self.tokens = 0
        self.generated = 0
        self.linked = 0  # steps whose rows went on to the provider after over a link
        self.opened = datetime.now(UTC)
        self.paid_wei = 0
        self.risked_wei = 0
        """of steps that never got a good answer: the provider may claim it all the same"""
        self._ahead = Ahead(account, spending, (pay_ahead - 1) * accepted.price_wei)
        self.timing = Timing()
        self.record = StageRecord(
            session=opening.resume if accepted.position and not begun else opening.session,
            nonce=accepted.nonce,
            channel_id=account.channel_id,
            model_id=opening.model_id,
            layer_start=opening.layer_start,
            layer_stop=opening.layer_stop,
            wire_dtype=opening.wire_dtype,
            profile=accepted.profile,
            peer=advert.peer,
            client=client,
            top_k=opening.top_k,
        )
        self._transcript: TranscriptWriter | None
        if stay is None or begun:
            self.receipts = ReceiptChain(self.record.stage, domain)
            self._transcript = transcripts.begin(self.record) if transcripts else None
        else:
            self.receipts, self._transcript = stay.receipts.copy(), stay.transcript
        self.first_seq, self.previous = self.receipts.next_seq, self.receipts.previous
        """number of the first step of this visit, and the hash of the receipt before it"""
        self._begun = begun
        """the steps of another session that this one begins with, as long as they are not signed for"""
        self.rows_before = stay.rows if stay else 0
        self._kept = KeptSteps(self.record, transcripts)
        self._checks = Checks(
            peer=advert.peer,
            is_last=is_last,
            width=accepted.width,
            top_k=min(opening.top_k, n_vocab),
            n_vocab=n_vocab,
            wire_dtype=opening.wire_dtype,
        )
        self._connection = connection
        self.link = LinkState.NONE  # to the provider after, as this one told last
        self.awaits = 1
        """number of the rows of the next step, where the provider before brings them"""
        self.relayed = False  # whether its rows go through us, however its link stands
        self.went_on = False  # whether the rows of the last answer went on to the provider after
        self.broken = False
        """whether a step was sent that got no good answer: nothing more can be asked of this session"""
        self._step: Paid | None = None
        self._reserved = advert.reserve_wei
        account.reserved += self._reserved

    def cost(self, rows: int) -> int:
        """Wei that a step of `rows` tokens costs here, beside what is `owed`."""
        return charge(self.price_wei, self.prompt_price_wei, rows)

    def affords(self, rows: int) -> bool:
        """Whether the channel covers the next step, of `rows` tokens."""
        return self._step is not None or self.account.channel.available >= self.cost(rows) + self.owed

    @property
    def owed(self) -> int:
        """Wei that the next step costs on top, for what the session held before this visit."""
        return self.cached_price_wei * self.position if self._cached_due else 0

    @property
    def at_risk_wei(self) -> int:
        """What the provider may claim and was not asked for, or gave no good answer for."""
        return self.risked_wei + self._ahead.wei

    @property
    def seq(self) -> int:
        """Of the next step."""
        return len(self._begun) or self.receipts.next_seq

    async def step(
        self, payload: Sequence[int] | bytes, rows: int, *, all_outputs: bool = False
    ) -> bytes | TopK:
        """Pay for and run one step of `rows` tokens: token ids at the first stage, packed activations later.

        Returns:
            The packed activations for the next stage, or the logits at the last.

        Raises:
            OverDeposit, LimitReached: the channel or a budget does not cover the step; nothing was sent.
            HopFailed: no good answer came.
        """
        self.pay(payload, rows, all_outputs=all_outputs)
        try:
            await self.send()
            answer = await self.answer()
        except BaseException:
            self.give_up()
            raise
        if answer is None or answer.output is None:
            self.give_up()
            raise HopFailed(self.advert.peer, "it answered without the rows of a step.")
        return answer.output

    def pay(
        self,
        payload: Sequence[int] | bytes | None,
        rows: int,
        *,
        all_outputs: bool = False,
        onward: int = 0,
    ) -> None:
        """Make the next step and sign for it. `payload` is None where the provider before brings the rows, numbered
        `awaits`; `onward` is the number under which the rows of output go on to the provider after, 0 if they do not.

        Raises:
            OverDeposit, LimitReached: the channel or a budget does not cover it; nothing was signed.
        """
        start = time.perf_counter()
        cost = self.cost(rows) + self.owed
        if self._step is not None and (self._step.answered or self._step.cost != cost):
            self.give_up()
        if self._step is None:
            cumulative, signature = self._ahead.voucher(cost)
        else:
            # It was not sent: its voucher is as good for the same once more.
            cumulative, signature = self._step.step.cumulative_wei, self._step.step.signature
        packed = payload if isinstance(payload, bytes) else pack_tokens(np.asarray(payload or (), np.int32))
        step = Step(
            seq=self.seq,
            position=self.position,
            rows=rows,
            cumulative_wei=cumulative,
            signature=signature,
            input=packed,
            all_outputs=all_outputs,
            awaited=self.awaits if payload is None else 0,
            onward=onward,
        )
        self._step = Paid(step, cost, start, 1000 * (time.perf_counter() - start))

    async def send(self) -> None:
        """Send the step that was paid for. Raises HopFailed."""
        assert self._step is not None
        self._step.sent = True
        self.awaits += 1
        await telling(self._connection, self.advert.peer, self._step.step, STEP_SECONDS)

    async def answer(self) -> Answer | None:
        """What comes of the step that was sent; None: its rows did not come there, and it is not billed.

        Raises HopFailed: no good answer came.
        """
        assert self._step is not None
        paid, began = self._step, time.perf_counter()
        if paid.step.rows == 1 and self.account.channel.in_flight == paid.cost:
            # The next step is most likely such a one as well, and nobody else pays meanwhile.
            self._ahead.foresee(paid.cost)
        result = await self._answer_to(paid.step)
        if isinstance(result, NoRows) and paid.step.awaited and result.seq == paid.step.seq:
            self._step = None
            self._unbilled(paid, result)
            return None
        if self._begun:
            await self._take_over(result)
        try:
            return self._taken(paid, result, began)
        finally:
            if paid.answered:
                self._step = None

    def _unbilled(self, paid: Paid, result: NoRows) -> None:
        """Have the voucher of a step without rows pay for the next ones; until then it is at risk. Raises HopFailed."""
        self._ahead.keep(paid.cost)
        try:
            self.account.dropped(paid.cost, result.billed_wei)
        except Overbilled as error:
            self.broken = True
            raise HopFailed(self.advert.peer, str(error)) from error

    def _taken(self, paid: Paid, result: Message, began: float) -> Answer:
        """What comes of a step whose answer was awaited since `began`, once it is booked. Raises HopFailed."""
        step = paid.step
        answer, record = self._checks.of(result, step, self.receipts)
        assert isinstance(result, StepResult)
        self.link = result.link
        paid.answered = True
        if self._transcript:
            self._transcript.append(record)
        self._kept.append(record)
        try:
            self.account.acknowledge(paid.cost, result.billed_wei, self.spending)
        except Overbilled as error:
            self.broken = True
            self.risked_wei += paid.cost
            raise HopFailed(self.advert.peer, str(error)) from error
        self._cached_due = False
        self._reserve_less(paid.cost)
        self.position = step.position + step.rows
        self.tokens += step.rows
        self.generated += step.rows == 1
        self.went_on = answer.output is None
        self.linked += self.went_on
        self.paid_wei += paid.cost
        assert self.receipts.last is not None
        self.packed += pack_step(self.receipts.last, result.receipt, step.cumulative_wei, step.signature)
        # Where the provider before brought the rows, its answer came a moment ago: from then on it is this one's time.
        took = 1000 * (time.perf_counter() - (began if step.awaited else paid.began))
        self.timing.add(took, result.compute_ms, paid.sign_ms, result.waited_ms)
        return answer

    def give_up(self) -> None:
        """Book the step that is under way as one without an answer, if there is one: its voucher is out."""
        if self._step is not None:
            paid, self._step = self._step, None
            self.account.release(paid.cost, self.spending)
            self.risked_wei += paid.cost if paid.sent else 0
            self.broken |= paid.sent

    @property
    def unanswered(self) -> bool:
        """Whether a step was sent that nobody has heard an answer to."""
        return self._step is not None and self._step.sent

    @property
    def forwards(self) -> bool:
        """Whether its rows go on to the provider after."""
        return self.link is LinkState.STANDS and not self.relayed

    async def discard(self) -> Answer | None:
        """Have the provider wait no longer for the rows of the step that was sent, and return what comes of it: None,
        or an answer where it has the rows by now. Raises HopFailed.
        """
        assert self._step is not None
        await telling(self._connection, self.advert.peer, Discard(self._step.step.seq), STEP_SECONDS)
        return await self.answer()

    async def _answer_to(self, step: Step) -> Message:
        """Raises HopFailed."""
        seconds = STEP_SECONDS
        watched: AbstractContextManager[None] = nullcontext()
        if self.leash is not None:
            seconds += self.leash.expected_seconds(step.rows)
            watched = self.leash.step(step.rows)
        try:
            with watched:
                return await hearing(self._connection, self.advert.peer, seconds)
        except TooSlow as slow:
            raise too_slow(self.advert.peer, slow) from None

    async def _take_over(self, result: Message) -> None:
        """Go on from the steps that this session begins with, which its first answer signs for. Raises HopFailed."""
        inherited = partial(self._checks.inherited, result, self._begun, self.receipts)
        for step in await trio.to_thread.run_sync(inherited):
            if self._transcript:
                self._transcript.append(step)
            self._kept.append(step)
        self._begun = ()
        self.first_seq, self.previous = self.receipts.next_seq, self.receipts.previous

    def _reserve_less(self, wei: int) -> None:
        less = min(self._reserved, wei)
        self._reserved -= less
        self.account.reserved -= less
