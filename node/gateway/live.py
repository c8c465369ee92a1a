"""The answer to one call over HTTP: whole or as a stream, and ended at once when nobody reads it any more."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import trio
from starlette.responses import Response

from hypercluster.node.gateway.answering import Answering
from hypercluster.node.gateway.chunks import Chunk, PathKnown, Waiting
from hypercluster.node.gateway.errors import ApiError, api_error_of
from hypercluster.node.gateway.whole import Whole, gathered
from hypercluster.node.home.logs import logged_with

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from hypercluster.node.gateway.asking import Asked
    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.gateway.keyring import Visit
    from hypercluster.node.traffic.entries import ModelEntry

HOLD_SECONDS = 10.0
"""the status line waits so long for the first token, since an error after it can only be told inside the stream"""
PULSE_SECONDS = 10.0
"""of silence, after which a comment keeps the connection"""


class Flavour(Protocol):
    """How an API writes things; one object for each call."""

    media_type: str
    """of streams"""

    def begin(self, request_id: str, entry: ModelEntry, choices: int) -> bytes:
        """The first bytes of a stream. Called before `whole` as well, whose bytes then are of no use."""

    def write(self, chunk: Chunk) -> bytes:
        """A chunk of a stream; nothing where the API has no word for it."""

    def wait(self, comment: str) -> bytes:
        """What keeps a stream open and says why nothing comes; nothing where the API has no such thing."""

    def fail(self, error: ApiError) -> bytes:
        """The end of a stream that has begun and fails."""

    def whole(self, whole: Whole) -> bytes:
        """The JSON of an answer in one piece."""

    def refuse(self, error: ApiError) -> bytes:
        """The JSON of an error in the answer's place."""


class Live:
    """An ASGI application that runs what was asked and answers it."""

    def __init__(self, gateway: Gateway, visit: Visit, asked: Asked, flavour: Flavour) -> None:
        self._gateway, self._visit, self._asked, self._flavour = gateway, visit, asked, flavour

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a client that leaves ends the choices, and what they cost, at their next step."""

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            await self._answer(scope, receive, send)
            nursery.cancel_scope.cancel()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        flavour, request_id = self._flavour, new_request_id()
        try:
            with self._gateway.keyring.running(self._visit):
                answering = Answering(self._gateway, self._visit, self._asked)
                request_id = answering.request_id
                opening = flavour.begin(request_id, answering.entry, self._asked.choices)
                with logged_with(request_id=request_id):
                    async with answering.running() as chunks:
                        if self._asked.stream:
                            await self._stream(answering, chunks, opening, send)
                            return
                        whole = await gathered(chunks, self._asked.choices)
                if whole is None:
                    raise answering.error or _silent()
                response = json_response(flavour.whole(whole), 200, request_id)
        except Exception as error:  # noqa: BLE001 - told to the caller, and logged where it is a bug
            response = refusal(flavour, api_error_of(error), request_id)
        await response(scope, receive, send)

    async def _stream(
        self,
        answering: Answering,
        chunks: trio.MemoryReceiveChannel[Chunk],
        opening: bytes,
        send: Send,
    ) -> None:
        """Send chunks as they come. Raises ApiError where nothing was sent yet."""
        flavour = self._flavour
        begun, told = False, opening
        until = trio.current_time() + HOLD_SECONDS
        error: ApiError | None = None
        try:
            while True:
                chunk: Chunk | None = None
                with trio.move_on_at(until):
                    chunk = await chunks.receive()
                if isinstance(chunk, Waiting):
                    told += flavour.write(chunk) or flavour.wait(chunk.comment)
                elif chunk is not None:
                    told += flavour.write(chunk)
                elif begun:
                    told += flavour.wait("still at it")
                if not begun and isinstance(chunk, Waiting | PathKnown):
                    continue
                if not begun:
                    await send(_head(flavour.media_type, answering.request_id))
                    begun = True
                if told:
                    await send({"type": "http.response.body", "body": told, "more_body": True})
                told = b""
                until = trio.current_time() + PULSE_SECONDS
        except trio.EndOfChannel:
            error = answering.error
        except Exception as bug:  # noqa: BLE001 - a stream that has begun ends as one
            error = api_error_of(bug, spent=True)
        if not begun:
            raise error or _silent()
        last = b"" if error is None else flavour.fail(error)
        await send({"type": "http.response.body", "body": last, "more_body": False})


def new_request_id() -> str:
    """For a call that has no row in the ledger."""
    return secrets.token_hex(8)


def json_response(
    body: bytes, status: int, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A whole answer."""
    return Response(
        body, status, {"x-request-id": request_id, **(headers or {})}, media_type="application/json"
    )


def refusal(flavour: Flavour, error: ApiError, request_id: str) -> Response:
    """An error in the place of an answer."""
    return json_response(flavour.refuse(error), error.status, request_id, error.headers)


def _head(media_type: str, request_id: str) -> dict[str, object]:
    headers = {
        "content-type": media_type,
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "x-request-id": request_id,
    }
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def _silent() -> ApiError:
    return ApiError(500, "internal_error", "The answer ended without an end.", type="server_error")
