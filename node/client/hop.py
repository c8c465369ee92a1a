"""The client's side of one session with one provider: open, pay for each step, check what comes back."""

import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from hypercluster.market.advert import Advert
from hypercluster.market.errors import Overbilled
from hypercluster.market.money.voucher import charge
from hypercluster.node.client.exchanging import (
    HopFailed,
    How,
    candidates_of,
    check_quote,
    exchange,
    rows_of,
    too_slow,
)
from hypercluster.node.client.patience import Leash, TooSlow
from hypercluster.node.client.stays import Stay
from hypercluster.node.client.timing import Timing
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.evidence.bundle import pack_step
from hypercluster.node.evidence.receipts import CLOCK_SKEW, ReceiptChain
from hypercluster.node.identity import address_of_peer, peer_of_public_key
from hypercluster.node.rows import (
    TopK,
    WireDtype,
    pack_tokens,
)
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Accept, Close, Open, Parked, Step, StepResult
from hypercluster.node.wire.records import StageRecord, served

if TYPE_CHECKING:
    from hypercluster.market.money.voucher import Quote
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.client.account import OutgoingAccount
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.evidence.transcript_store import TranscriptStore, TranscriptWriter
    from hypercluster.node.network.connection import Connection

OPEN_SECONDS = 15.0
STEP_SECONDS = 120.0
"""for an answer, and as long as it is expected to take besides; where somebody else could go on, a leash is shorter"""


class Hop:
    """An open session with the provider of layers [start, stop).

    At most one step is unanswered at any time, so the provider can run off with the price of one step at most.
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
        stay: Stay | None = None,
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
        self.opened = datetime.now(UTC)
        self.paid_wei = 0
        self.risked_wei = 0
        """of steps that never got a good answer: the provider may claim it all the same"""
        self.timing = Timing()
        self.record = StageRecord(
            session=opening.resume if accepted.position else opening.session,
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
        if stay is None:
            self.receipts = ReceiptChain(self.record.stage, domain)
            self._transcript = transcripts.begin(self.record) if transcripts else None
        else:
            self.receipts, self._transcript = stay.receipts.copy(), stay.transcript
        self.first_seq, self.previous = self.receipts.next_seq, self.receipts.previous
        """number of the first step of this visit, and the hash of the receipt before it"""
        self.rows_before = stay.rows if stay else 0
        self._width = accepted.width
        self._top_k = opening.top_k
        self._n_vocab = n_vocab
        self._connection = connection
        self._seq = self.first_seq
        self._reserved = advert.reserve_wei
        account.reserved += self._reserved

    @classmethod
    async def open(
        cls,
        connection: "Connection",
        advert: Advert,
        account: "OutgoingAccount",
        *,
        wire_dtype: WireDtype,
        capacity: int,
        top_k: int,
        n_vocab: int,
        is_last: bool,
        domain: "DisputeDomain",
        spending: "Spending",
        transcripts: "TranscriptStore | None" = None,
        leash: Leash | None = None,
        stay: Stay | None = None,
        position: int = 0,
    ) -> "Hop":
        """Open a session of `capacity` tokens at the advertised prices or better, paid within `spending`.

        Receipts are checked in `domain`; what is sent and answered is kept in `transcripts` if given. With a `leash`
        its steps have limits of their own. A session that the provider keeps goes on from `position` with its `stay`,
        which is the hop's then; where it is gone a new one begins, see `cached`.

        Raises:
            HopFailed: the provider refuses, does not answer, or its quote does not hold.
        """
        opening = Open(
            session=secrets.token_bytes(16),
            model_id=advert.model_id,
            layer_start=advert.layer_start,
            layer_stop=advert.layer_stop,
            channel=account.descriptor,
            wire_dtype=wire_dtype,
            capacity=capacity,
            max_price_wei=advert.price_wei,
            max_prompt_price_wei=advert.prompt_price_wei,
            top_k=top_k if is_last else 0,
            resume=stay.record.session if stay else b"",
            position=position if stay else 0,
            max_cached_price_wei=advert.cached_price_wei,
        )
        try:
            accepted = await exchange(connection, advert.peer, opening, OPEN_SECONDS)
        except HopFailed as failure:
            if failure.code is ErrorCode.OVER_DEPOSIT:
                account.too_little(failure.billed_wei)
            raise
        if not isinstance(accepted, Accept):
            raise HopFailed(advert.peer, f"it answered Open with {type(accepted).__name__}.")
        quote = check_quote(accepted, opening, advert, account)
        if not accepted.position:
            stay = None
        elif stay is None or (accepted.nonce, accepted.profile) != (stay.record.nonce, stay.record.profile):
            raise HopFailed(advert.peer, "it goes on with another session than the one that it kept.")
        try:
            account.resume(accepted.billed_wei, accepted.paid_wei, accepted.paid_signature)
        except Overbilled as error:
            raise HopFailed(advert.peer, str(error)) from error
        connection.raise_bound(frame_bound(accepted.max_step_tokens, accepted.width, top_k if is_last else 0))
        client = peer_of_public_key(account.session_key.public_key)
        return cls(
            connection, advert, account, accepted, opening, is_last, n_vocab,
            domain, transcripts, client, spending, quote, leash, stay,
        )  # fmt: skip

    def cost(self, rows: int) -> int:
        """Wei that a step of `rows` tokens costs here, beside what is `owed`."""
        return charge(self.price_wei, self.prompt_price_wei, rows)

    @property
    def owed(self) -> int:
        """Wei that the next step costs on top, for what the session held before this visit."""
        return self.cached_price_wei * self.position if self._cached_due else 0

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
        start = time.perf_counter()
        cost = self.cost(rows) + self.owed
        cumulative, signature = self.account.authorise(cost, self.spending)
        signed = time.perf_counter()
        step = Step(
            seq=self._seq,
            position=self.position,
            rows=rows,
            cumulative_wei=cumulative,
            signature=signature,
            input=payload if isinstance(payload, bytes) else pack_tokens(np.asarray(payload, dtype=np.int32)),
            all_outputs=all_outputs,
        )
        try:
            result = await self._answer_to(step)
            output = self._output(result, rows, all_outputs)
            self._check_receipt(step, result)
        except BaseException:
            self.account.release(cost, self.spending)
            self.risked_wei += cost
            raise
        assert isinstance(result, StepResult)
        try:
            self.account.acknowledge(cost, result.billed_wei, self.spending)
        except Overbilled as error:
            self.risked_wei += cost
            raise HopFailed(self.advert.peer, str(error)) from error
        self._seq += 1
        self._cached_due = False
        self._reserve_less(cost)
        self.position += rows
        self.tokens += rows
        self.generated += rows == 1
        self.paid_wei += cost
        assert self.receipts.last is not None
        self.packed += pack_step(self.receipts.last, result.receipt, cumulative, signature)
        self.timing.total.append(1000 * (time.perf_counter() - start))
        self.timing.compute.append(result.compute_ms)
        self.timing.sign.append(1000 * (signed - start))
        self.timing.waited.append(result.waited_ms)
        return output

    async def _answer_to(self, step: Step) -> Message:
        """Raises HopFailed."""
        seconds = STEP_SECONDS
        watched: AbstractContextManager[None] = nullcontext()
        if self.leash is not None:
            seconds += self.leash.expected_seconds(step.rows)
            watched = self.leash.step(step.rows)
        try:
            with watched:
                return await exchange(self._connection, self.advert.peer, step, seconds)
        except TooSlow as slow:
            raise too_slow(self.advert.peer, slow) from None

    async def park(self) -> Stay | None:
        """End the visit, and have the provider keep what the session holds; None where it does not.

        What is returned has the session's transcript: it is to be closed.
        """
        stay: Stay | None = None
        try:
            answer = await exchange(self._connection, self.advert.peer, Close(park=True), OPEN_SECONDS)
            if isinstance(answer, Parked) and answer.seconds:
                rows = self.rows_before + self.tokens
                stay = Stay(self.record, self.receipts, self._transcript, rows, answer.seconds)
        except HopFailed:
            pass
        finally:
            await self._left(keeping=stay is not None)
        return stay

    async def close(self) -> None:
        """Tell the provider that the session is over; a lost connection says it as well."""
        try:
            await self._connection.send(Close(), OPEN_SECONDS)
        except NodeError:
            pass
        finally:
            await self._left(keeping=False)

    async def _left(self, *, keeping: bool) -> None:
        self._reserve_less(self._reserved)
        if self._transcript and not keeping:
            self._transcript.close()
        await self._connection.close()

    def _reserve_less(self, wei: int) -> None:
        less = min(self._reserved, wei)
        self._reserved -= less
        self.account.reserved -= less

    def _check_receipt(self, step: Step, result: Message) -> None:
        """Both roots are taken of what went over the wire, and what the stage before answered is what was sent here:
        so the receipts of a path are one chain from the tokens to the logits.
        """
        assert isinstance(result, StepResult)
        peer = self.advert.peer
        if abs(result.issued - time.time()) > CLOCK_SKEW:
            raise HopFailed(
                peer,
                "its receipt is dated wrongly; is a clock wrong?",
                ErrorCode.BAD_SIGNATURE,
                How.DATED,
            )
        record = served(
            step, output=result.output, outputs=result.rows, issued=result.issued, receipt=result.receipt
        )
        try:
            receipt = self.receipts.next(record)
            self.receipts.accept(receipt, result.receipt, address_of_peer(peer))
        except NodeError as error:
            raise HopFailed(peer, str(error), error.code) from None
        if self._transcript:
            self._transcript.append(record)

    def _output(self, result: Message, rows: int, all_outputs: bool) -> bytes | TopK:
        if not isinstance(result, StepResult) or result.seq != self._seq:
            raise HopFailed(self.advert.peer, "it answered something else than this step.")
        if not self.is_last:
            return rows_of(result, self.advert.peer, rows, self._width, self.wire_dtype)
        wanted = rows if all_outputs else 1
        return candidates_of(result, self.advert.peer, wanted, min(self._top_k, self._n_vocab), self._n_vocab)
