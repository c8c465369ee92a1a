"""The steps of one accepted session: each checked, paid for, computed and answered.

The order within a step is what keeps both sides safe: everything about the message is checked before its
voucher counts, the voucher is stored before the answer leaves, and a step that fails after that is refunded.
"""

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from hypercluster.market.money.voucher import charge
from hypercluster.node.errors import ErrorCode, NodeError, WireError
from hypercluster.node.provider.awaiting import Awaiting, ClientCloses, RowsMissing
from hypercluster.node.provider.computing import Computed
from hypercluster.node.provider.incoming import Incoming
from hypercluster.node.provider.links import MOST_LINKS, Entrance, Outlet
from hypercluster.node.provider.prices import Prices
from hypercluster.node.provider.service import Service
from hypercluster.node.provider.stages import Stage
from hypercluster.node.rows import rows_root, unpack_input
from hypercluster.node.serving.refusals import SEND_SECONDS, Refused
from hypercluster.node.wire.links import Discard, Expect, Link, NoRows, Rows, Show
from hypercluster.node.wire.messages import MOST_IN_FLIGHT, Close, Open, Step, StepResult
from hypercluster.node.wire.records import served

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercluster.node.engine.steps import Outputs, StepOutput
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.provider.seats import Seat
    from hypercluster.node.rows import Payload
    from hypercluster.node.serving.accounts import IncomingAccount, Reserved

    Stored = Callable[[], Awaitable[None]]


class Steps:
    """Answers the steps of one visit to a stage.

    Args:
        outlet: the first link to the provider after.
        cached_due: the first step pays for what the stage held before.
    """

    def __init__(
        self,
        *,
        connection: "Connection",
        service: Service,
        opening: Open,
        account: "IncomingAccount",
        prices: Prices,
        seat: "Seat",
        reserved: "Reserved",
        stage: Stage,
        outlet: Outlet,
        cached_due: bool,
    ) -> None:
        self._connection, self._service, self._opening = connection, service, opening
        self._account, self._prices = account, prices
        self._seat, self._reserved, self._stage = seat, reserved, stage
        self.outlet, self._cached_due = outlet, cached_due
        self._links = MOST_LINKS
        self.billed = 0
        """wei so far"""

    async def answer(self, entrance: Entrance, incoming: Incoming) -> Close:
        """Answer until the client closes the session, and return how it did. Raises what the client is to be told.

        The provider before may bring rows at the `entrance`; the client is heard by `incoming`.
        """
        self._awaiting = Awaiting(entrance, incoming, self._seat, self._service.seconds_before)
        while True:
            message = await self._seat.receive(incoming)
            arrived = time.perf_counter()
            match message:
                case Close():
                    return message
                case Link():
                    await self._link(message)
                case Expect():
                    entrance.expect(message.ticket, message.peer)
                case Show():
                    await self._show(message)
                case Discard():
                    incoming.end(message.epoch)  # of one step: it was answered in the meantime
                case Step():
                    self._check_number(message)
                    result: StepResult | NoRows
                    if incoming.drops(message):
                        result = NoRows(message.seq, ErrorCode.OUT_OF_ORDER, self._account.channel.billed)
                    else:
                        try:
                            result = await self._step(message, arrived)
                        except ClientCloses as closes:
                            return closes.closing
                        if isinstance(result, NoRows):
                            # Those behind it stand on it.
                            incoming.end(message.epoch)
                        else:
                            incoming.computed()
                    with self._seat.clients_turn():
                        await self._connection.send(result, SEND_SECONDS)
                case _:
                    raise Refused(
                        ErrorCode.BAD_REQUEST, f"{type(message).__name__} is no message of an open session."
                    )

    async def _link(self, link: Link) -> None:
        """Have a link made, instead of the one before."""
        if not self._links:
            raise Refused(ErrorCode.BAD_REQUEST, f"A session has {MOST_LINKS} links at most.")
        self._links -= 1
        if self.outlet.asked:
            await self.outlet.end()
            self.outlet = self._service.links.outlet()
        self._service.links.make(self.outlet, link, self._connection)

    async def _show(self, asked: Show) -> None:
        """Send the client what was sent on, once."""
        last = self._stage.receipts.last
        shown = self.outlet.shown() if last is not None and asked.seq == last.seq else None
        if shown is None:
            raise Refused(ErrorCode.UNKNOWN_SESSION, "That was not sent on, or has been shown.")
        with self._seat.clients_turn():
            await self._connection.send(replace(shown, number=asked.seq), SEND_SECONDS)

    async def _step(self, step: Step, arrived: float) -> StepResult | NoRows:
        account = self._account
        self._check(step)
        awaited = step.awaited > 0
        payload = None if awaited else self._payload(step)
        cost = charge(self._prices.price_wei, self._prices.prompt_price_wei, step.rows)
        if self._cached_due:
            cost += self._prices.cached_wei(self._service.cached_percent) * step.position
        await self._service.collector.bill(account, cost, step.cumulative_wei, step.signature)
        try:
            if payload is None:
                step, output, arrived = await self._linked(step)
            else:
                output = await self._computed(step, payload)
            result = await self._result(step, output, arrived, awaited=awaited)
        except BaseException as error:
            account.channel.refund(cost)
            if awaited:
                # It was written down as billed while its rows were awaited.
                with trio.CancelScope(shield=True):
                    await self._service.collector.store_again(account)
            if isinstance(error, RowsMissing):
                return NoRows(step.seq, error.code, account.channel.billed)
            raise
        finally:
            self._stage.under_way = None
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

    async def _linked(self, step: Step) -> "tuple[Step, StepOutput, float]":
        """A step with the rows that come from the provider before, what the layers make of it, and when the rows came.

        Raises RowsMissing, ClientCloses.
        """
        # Stored while the layers before compute.
        stored = await self._service.collector.begin_storing(self._account)
        complete, arrived = step, 0.0
        running: Computed | None = None

        def begin(rows: bytes) -> None:
            """Have them computed before the session has its turn; there what is wrong with them is said."""
            nonlocal complete, running, arrived
            arrived = time.perf_counter()
            if not self._service.throttle_seconds:
                with suppress(NodeError):
                    complete, payload = self._with_rows(step, rows)
                    running = self._begin(complete, payload)

        try:
            rows = await self._awaiting.rows_of(step, begin)
            if running is None:
                try:
                    complete, payload = self._with_rows(step, rows)
                except WireError as error:
                    raise self._awaiting.missing(error.code) from None
                await self._throttled()
                running = self._begin(complete, payload)
            output = await running.output()
        finally:
            if running is not None:
                running.leave()
        await stored()
        return complete, output, arrived

    async def _computed(self, step: Step, payload: "Payload") -> "StepOutput":
        """What the layers make of a step, once its voucher is safe."""
        await self._throttled()
        running = self._begin(step, payload)
        try:
            # While the layers are computed.
            stored = await self._service.collector.begin_storing(self._account)
            output = await running.output()
        finally:
            running.leave()
        await stored()
        return output

    async def _throttled(self) -> None:
        if self._service.throttle_seconds:
            await trio.sleep(self._service.throttle_seconds)

    def _begin(self, step: Step, payload: "Payload") -> Computed:
        """Have the layers compute a step. Raises EngineError."""
        self._stage.under_way = step.position
        outputs: Outputs = "all" if step.all_outputs else "last"
        return Computed(
            self._service.engine, self._stage.slot, step.position, payload, outputs, self._opening.top_k or 1
        )

    async def _result(self, step: Step, output: "StepOutput", arrived: float, *, awaited: bool) -> StepResult:
        """The answer, with a receipt that is signed before anybody can know whether this step will be audited.

        Rows that go on to the next provider go first.
        """
        number = step.seq
        packed, rows = output.packed(self._opening.wire_dtype)
        forwarded = step.onward > 0 and await self.outlet.send(Rows(step.onward, rows, packed))
        issued, stage, key = int(time.time()), self._stage, self._service.node_key
        inherited = b""
        if stage.origin is not None:
            inherit = partial(stage.inherit, self._service.transcripts, key, issued)
            inherited = await trio.to_thread.run_sync(inherit)
        in_root, out_root = rows_root(step.input, step.rows), rows_root(packed, rows)
        receipt = stage.receipts.over(step.position, step.rows, rows, in_root, out_root, issued)
        signature = stage.receipts.sign(receipt, key)
        if step.seq != receipt.seq:
            # Steps before it were dropped: it comes earlier than its client could know.
            step = replace(step, seq=receipt.seq)
        record = served(step, output=packed, outputs=rows, issued=issued, receipt=signature)
        stage.transcript.append(record)
        stage.spans.add(record)
        return StepResult(
            seq=number,
            rows=rows,
            billed_wei=self._account.channel.billed,
            compute_ms=output.compute_ms,
            output=b"" if forwarded else packed,
            waited_ms=max(0.0, 1000 * (time.perf_counter() - arrived) - output.compute_ms),
            issued=issued,
            receipt=signature,
            in_root=in_root if awaited else b"",
            out_root=out_root if forwarded else b"",
            link=self.outlet.state,
            inherited=inherited,
        )

    def _check_number(self, step: Step) -> None:
        expected = self._stage.next_seq
        dropped = MOST_IN_FLIGHT if step.epoch else 0
        if not expected <= step.seq <= expected + dropped:
            raise Refused(ErrorCode.OUT_OF_ORDER, f"The step has number {step.seq}, not {expected}.")

    def _check(self, step: Step) -> None:
        service = self._service
        if step.awaited:
            self._awaiting.holds(step)
        if step.onward and service.is_last:
            raise Refused(ErrorCode.BAD_REQUEST, "Nobody comes after the last layers.")
        if step.rows > service.max_step_tokens:
            raise Refused(
                ErrorCode.TOO_LONG, f"A step has at most {service.max_step_tokens} tokens, not {step.rows}."
            )

    def _with_rows(self, step: Step, rows: bytes) -> "tuple[Step, Payload]":
        """A step whose rows were awaited, with them, and its payload. Raises WireError."""
        complete = replace(step, input=rows, awaited=0)
        return complete, self._payload(complete)

    def _payload(self, step: Step) -> "Payload":
        service = self._service
        return unpack_input(
            step.input,
            step.rows,
            first=service.is_first,
            width=service.width,
            reads_tokens=service.reads_tokens,
            dtype=self._opening.wire_dtype,
        )
