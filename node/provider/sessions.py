"""The provider's side of one session: it is opened, and then answers steps (steps.py) until it is closed."""

import logging
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from hypercluster.market.ledger import Role, SessionRecord
from hypercluster.node.errors import ConnectionLost, ErrorCode, NodeError
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.home.logs import logged_with
from hypercluster.node.provider.incoming import Incoming
from hypercluster.node.provider.prices import Prices
from hypercluster.node.provider.service import Service
from hypercluster.node.provider.stages import Origin, Spans, Stage
from hypercluster.node.provider.steps import Steps
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
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.links import LinkOpen
from hypercluster.node.wire.messages import Accept, Open, Parked
from hypercluster.node.wire.records import StageRecord

if TYPE_CHECKING:
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.provider.seats import Seat
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
    began, asked, code, outcome, linked = time.time(), b"", None, "closed", False
    try:
        opening = await connection.receive(OPEN_SECONDS)
        if isinstance(opening, LinkOpen):
            linked = True
            await service.links.take(connection, opening)
            return
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
        if not linked:
            service.visits.on_refusal(code)
        await refuse(connection, error, account.channel.billed if account else 0)
    finally:
        await connection.close()
    if not linked and (session is None or not session.billed):
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
        earlier = self._earlier_stage() if opening.resume else None
        self._position = 0 if earlier is None else opening.position
        """that a stage holds from before: it was parked, or begins with a copy of another one"""
        self._stage = earlier or self._new_stage(service.parking.open(opening.capacity))
        service.parking.began(self._stage)
        self._steps = Steps(
            connection=connection,
            service=service,
            opening=opening,
            account=account,
            prices=prices,
            seat=seat,
            reserved=reserved,
            stage=self._stage,
            outlet=service.links.outlet(),
            cached_due=earlier is not None,
        )

    @property
    def billed(self) -> int:
        """Wei in this visit so far."""
        return self._steps.billed

    async def run(self) -> None:
        """Answer steps until the client closes the session. Raises what the client is to be told."""
        stage, books, parking = self._stage, self._stage.books, self._service.parking
        books.price_wei, books.prompt_price_wei = self._prices.price_wei, self._prices.prompt_price_wei
        kept: int | None = None
        try:
            with self._service.links.entrance(self._opening) as entrance:
                await self._accept()
                async with Incoming(self._connection) as incoming:
                    closing = await self._steps.answer(entrance, incoming)
            books.outcome = "closed"
            if closing.park:
                kept = parking.keep(stage)
        except Exception as error:
            books.outcome = str(error)[:300]
            raise
        finally:
            if kept is None:
                parking.end(stage)
            await self._steps.outlet.end()
            books.ended = datetime.now(UTC)
            if self.billed:
                with trio.CancelScope(shield=True):
                    await self._service.collector.record(books)
        if kept is not None:
            # Only now, since who hears of it may come back at once.
            await self._connection.send(Parked(kept), SEND_SECONDS)

    def _earlier_stage(self) -> Stage | None:
        """The stage that was parked, or a new one that holds what another one does; None where neither is to be had."""
        opening, service, peer = self._opening, self._service, self._connection.peer
        channel_id = self._account.channel_id
        if not opening.branch:
            return service.parking.take(opening, peer, channel_id)
        row_bytes = 2 * opening.wire_dtype.row_bytes(service.width) + 8 * opening.top_k
        found = service.parking.branch(opening, peer, channel_id, row_bytes)
        if found is None:
            return None
        slot, stage = found
        stage_hash = stage.record.stage.struct_hash()
        return self._new_stage(slot, stage.spans.first(opening.branch), Origin(stage_hash, opening.branch))

    def _new_stage(self, slot: int, spans: Spans | None = None, origin: Origin | None = None) -> Stage:
        """The stage of a slot, which is closed if that fails. Raises StoreFull."""
        opening, service = self._opening, self._service
        record = self._stage_record()
        try:
            transcript = service.transcripts.begin(record)
        except NodeError:
            service.engine.close(slot)
            raise
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
            slot=slot,
            spans=spans or Spans(),
            origin=origin,
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
