"""The provider's side of one session: open, then steps, each checked, paid for, computed and answered.

The order within a step is what keeps both sides safe: everything about the message is checked before its
voucher counts, the voucher is stored before the answer leaves, and a step that fails after that is refunded.
"""

import logging
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from hypercluster.market.ledger import Role, SessionRecord
from hypercluster.market.money.voucher import charge
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.home.logs import logged_with
from hypercluster.node.provider.parking import Stage
from hypercluster.node.provider.prices import Prices
from hypercluster.node.provider.service import Service
from hypercluster.node.rows import unpack_input
from hypercluster.node.serving.classes import Class
from hypercluster.node.serving.refusals import (
    OPEN_SECONDS,
    QUOTE_SECONDS,
    SEND_SECONDS,
    Refused,
    check_payer,
    code_of,
    refuse,
)
from hypercluster.node.threads import completed
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.messages import Accept, Close, Open, Parked, Step, StepResult
from hypercluster.node.wire.records import StageRecord, served

if TYPE_CHECKING:
    from hypercluster.node.engine.steps import Outputs, StepOutput
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.provider.seats import Seat
    from hypercluster.node.rows import Payload
    from hypercluster.node.serving.accounts import IncomingAccount, Reserved


log = logging.getLogger(__name__)


async def serve_session(connection: "Connection", service: Service) -> None:
    """Serve one session until the client closes it, is idle for too long, or breaks the protocol.

    Never raises for anything that a peer does: it is answered with a coded Error and the connection ends.
    """
    with logged_with(peer=connection.peer):
        await _serve(connection, service)


async def _serve(connection: "Connection", service: Service) -> None:
    account: IncomingAccount | None = None
    session: Session | None = None
    began, asked, code, outcome = time.time(), b"", None, "closed"
    try:
        opening = await connection.receive(OPEN_SECONDS)
        if not isinstance(opening, Open):
            raise Refused(ErrorCode.UNKNOWN_SESSION, "The first message of a session is Open.")
        asked = opening.session
        check_payer(connection.peer, opening.channel)
        reserve = service.reserve()
        with service.asking(connection, opening):
            prices = service.check(opening)
            account = await service.collector.admit_channel(opening.channel, connection.source, reserve)
        with account.reserving(reserve) as reserved:
            paid_before = service.collector.accounts.paid_by(account.payer)
            class_ = Class.PAYER if paid_before else Class.NEWCOMER
            async with service.seats.seat(account.payer, class_, prices.price_wei, paid_before) as seat:
                session = Session(connection, service, opening, prices, account, seat, reserved)
                with logged_with(session=opening.session.hex()):
                    await session.run()
    except ConnectionLost:
        outcome = "the client left"
    except Exception as error:  # noqa: BLE001 - whatever it is, the peer gets its code and the node lives on
        code, outcome = code_of(error), str(error)
        service.visits.on_refusal(code)
        await refuse(connection, error, account.channel.billed if account else 0)
    finally:
        await connection.close()
    if session is None or not session.billed:
        service.visits.for_nothing(asked, connection.peer, began, code, outcome)


class Session:
    """One accepted session: a slot of the engine, frozen prices, and the account that pays."""

    def __init__(
        self,
        connection: "Connection",
        service: Service,
        opening: Open,
        prices: Prices,
        account: "IncomingAccount",
        seat: "Seat",
        reserved: "Reserved",
    ) -> None:
        self._connection = connection
        self._service = service
        self._opening = opening
        self._prices = prices
        self._account = account
        self._seat, self._reserved = seat, reserved
        self.billed = 0
        """wei in this visit so far"""
        parking = service.parking
        parked = parking.take(opening, connection.peer, account.channel_id) if opening.resume else None
        self._position = 0 if parked is None else opening.position
        """from which a stage that was parked goes on"""
        self._cached_due = parked is not None
        self._stage = parked or self._new_stage()

    async def run(self) -> None:
        """Answer steps until the client closes the session. Raises what the client is to be told."""
        stage, books, parking = self._stage, self._stage.books, self._service.parking
        books.price_wei, books.prompt_price_wei = self._prices.price_wei, self._prices.prompt_price_wei
        kept: int | None = None
        try:
            await self._accept()
            closing = await self._answer_steps()
            books.outcome = "closed"
            if closing.park:
                kept = parking.keep(stage)
        except Exception as error:
            books.outcome = str(error)[:300]
            raise
        finally:
            if kept is None:
                parking.end(stage)
            books.ended = datetime.now(UTC)
            if self.billed:
                with trio.CancelScope(shield=True):
                    await self._service.collector.record(books)
        if kept is not None:
            # Only now, since who hears of it may come back at once.
            await self._connection.send(Parked(kept), SEND_SECONDS)

    def _new_stage(self) -> Stage:
        """Raises StoreFull, and what Engine.open does."""
        opening, service = self._opening, self._service
        record = self._stage_record()
        transcript = service.transcripts.begin(record)
        books = SessionRecord(
            session_id=opening.session,
            peer=self._connection.peer,
            layer_start=opening.layer_start,
            layer_stop=opening.layer_stop,
            role=Role.PROVIDER,
            model_id=opening.model_id,
            channel_id=self._account.channel_id,
            price_wei=self._prices.price_wei,
            prompt_price_wei=self._prices.prompt_price_wei,
        )
        return Stage(
            record=record,
            receipts=ReceiptChain(record.stage, service.disputes),
            transcript=transcript,
            books=books,
            payer=self._account.payer,
            slot=service.parking.open(opening.capacity),
        )

    def _stage_record(self) -> StageRecord:
        opening = self._opening
        return StageRecord(
            session=opening.session,
            nonce=secrets.token_bytes(16),
            channel_id=self._account.channel_id,
            model_id=opening.model_id,
            layer_start=opening.layer_start,
            layer_stop=opening.layer_stop,
            wire_dtype=opening.wire_dtype,
            profile=self._service.profile,
            peer=self._service.peer,
            client=self._connection.peer,
            top_k=opening.top_k if self._service.is_last else 0,
        )

    async def _accept(self) -> None:
        service, opening, prices = self._service, self._opening, self._prices
        cached_wei = prices.cached_wei(service.cached_percent)
        channel = self._account.channel
        expires = int(time.time()) + QUOTE_SECONDS
        quote = opening.quote(
            channel.channel_id,
            price_wei=prices.price_wei,
            prompt_price_wei=prices.prompt_price_wei,
            capacity=opening.capacity,
            expires=expires,
            cached_price_wei=cached_wei,
            goes_on=self._position > 0,
        )
        self._connection.raise_bound(frame_bound(service.max_step_tokens, service.width))
        accept = Accept(
            price_wei=prices.price_wei,
            prompt_price_wei=prices.prompt_price_wei,
            capacity=opening.capacity,
            expires=expires,
            quote_signature=service.domain.sign_quote(service.node_key, quote),
            paid_wei=channel.best,
            paid_signature=channel.signature,
            billed_wei=channel.billed,
            max_step_tokens=service.max_step_tokens,
            width=service.width,
            nonce=self._stage.record.nonce,
            profile=service.profile,
            cached_price_wei=cached_wei,
            position=self._position,
        )
        with self._seat.clients_turn():
            await self._connection.send(accept, SEND_SECONDS)

    async def _answer_steps(self) -> Close:
        expected = self._stage.receipts.next_seq
        while True:
            message = await self._seat.receive(self._connection)
            arrived = time.perf_counter()
            if isinstance(message, Close):
                return message
            if not isinstance(message, Step):
                raise Refused(
                    ErrorCode.BAD_REQUEST, f"{type(message).__name__} is no message of an open session."
                )
            if message.seq != expected:
                raise Refused(ErrorCode.OUT_OF_ORDER, f"The step has number {message.seq}, not {expected}.")
            result = await self._step(message, arrived)
            with self._seat.clients_turn():
                await self._connection.send(result, SEND_SECONDS)
            expected += 1

    async def _step(self, step: Step, arrived: float) -> StepResult:
        opening, prices, account = self._opening, self._prices, self._account
        payload = self._payload(step)
        cost = charge(prices.price_wei, prices.prompt_price_wei, step.rows)
        if self._cached_due:
            cost += prices.cached_wei(self._service.cached_percent) * step.position
        await self._service.collector.bill(account, cost, step.cumulative_wei, step.signature)
        try:
            if self._service.throttle_seconds:
                await trio.sleep(self._service.throttle_seconds)
            outputs: Outputs = "all" if step.all_outputs else "last"
            running = self._service.engine.submit(
                self._stage.slot, step.position, payload, outputs, opening.top_k or 1
            )
            # Stored while the layers are computed, and before the answer leaves.
            await self._service.collector.store(account)
            output = await completed(running)
            result = self._result(step, output, arrived)
        except BaseException:
            account.channel.refund(cost)
            raise
        self._stage.books.billed += cost
        self.billed += cost
        self._cached_due = False
        self._reserved.pay(cost)
        self._seat.paid = True
        self._service.visits.stepped(step.rows, output.compute_ms)
        if step.rows > 1:
            self._stage.books.prompt_tokens += step.rows
        else:
            self._stage.books.tokens += 1
        return result

    def _result(self, step: Step, output: "StepOutput", arrived: float) -> StepResult:
        """The answer, with a receipt that is signed before anybody can know whether this step will be audited."""
        packed, rows = output.packed(self._opening.wire_dtype)
        record = served(step, output=packed, outputs=rows, issued=int(time.time()))
        signature = self._stage.receipts.sign(self._stage.receipts.next(record), self._service.node_key)
        self._stage.transcript.append(replace(record, receipt=signature))
        return StepResult(
            seq=step.seq,
            rows=rows,
            billed_wei=self._account.channel.billed,
            compute_ms=output.compute_ms,
            output=packed,
            waited_ms=max(0.0, 1000 * (time.perf_counter() - arrived) - output.compute_ms),
            issued=record.issued,
            receipt=signature,
        )

    def _payload(self, step: Step) -> "Payload":
        service = self._service
        if step.rows > service.max_step_tokens:
            raise Refused(
                ErrorCode.TOO_LONG, f"A step has at most {service.max_step_tokens} tokens, not {step.rows}."
            )
        return unpack_input(
            step.input,
            step.rows,
            first=service.is_first,
            width=service.width,
            reads_tokens=service.reads_tokens,
            dtype=self._opening.wire_dtype,
        )
