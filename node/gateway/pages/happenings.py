"""GET /hc/events: what happens in the market, as server-sent events for pages that look on."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from starlette.responses import Response

from hypercluster.node.gateway.pages.asking import page_route
from hypercluster.node.gateway.sse import MEDIA_TYPE, comment, event

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send

    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.traffic.happenings import Happening

PULSE_SECONDS = 15.0
"""of silence, after which a comment finds out whether anybody is there"""


def routes(gateway: Gateway) -> list[Route]:
    """The stream that all pages of the gateway share."""
    return [page_route(gateway, "/hc/events", partial(events, gateway))]


async def events(gateway: Gateway, request: Request) -> Response:
    """Objects with `kind`, such as "request_audited", and the fields of that happening of node.traffic."""
    return _Stream(gateway)


def document(happening: Happening) -> dict[str, Any]:
    """A happening as the pages read it."""
    kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(happening).__name__).lower()
    fields = {
        name: str(value) if name.endswith("_wei") else value for name, value in asdict(happening).items()
    }
    return {"kind": kind} | fields


class _Stream(Response):
    """Told as it comes, until nobody listens any more or the gateway ends."""

    media_type = MEDIA_TYPE

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        head = {"content-type": MEDIA_TYPE, "cache-control": "no-store", "x-accel-buffering": "no"}
        headers = [(name.encode(), value.encode()) for name, value in head.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        told, untold = trio.open_memory_channel[bytes](64)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_left, receive, nursery.cancel_scope)
            nursery.start_soon(self._hear, told)
            await send({"type": "http.response.body", "body": comment("hello"), "more_body": True})
            async with untold:
                while True:
                    body = comment("still here")
                    with trio.move_on_after(PULSE_SECONDS):
                        body = await untold.receive()
                    await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _hear(self, told: trio.MemorySendChannel[bytes]) -> None:
        with told, self._gateway.market.watched() as happenings:
            async for happening in happenings:
                await told.send(event(document(happening)))

    async def _until_left(self, receive: Receive, scope: trio.CancelScope) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_stopping, scope)
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

    async def _until_stopping(self, scope: trio.CancelScope) -> None:
        await self._gateway.stopping.wait()
        scope.cancel()
