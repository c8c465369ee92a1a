"""A served application for tests, and requests byte for byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from starlette.types import ASGIApp

from hypercluster.node.web.serving import serve


@asynccontextmanager
async def served(app: ASGIApp, *binds: str, **how: Any) -> AsyncIterator[str]:
    """The URL at which `app` is served until the end of the block."""
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, app, binds or ("127.0.0.1:0",), **how))
        yield urls[0]
        nursery.cancel_scope.cancel()


async def dial(url: str) -> trio.SocketStream:
    """A connection to the host and port of a URL."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    return await trio.open_tcp_stream(host.strip("[]"), int(port))


async def exchange(url: str, request: bytes, *, seconds: float = 10) -> bytes:
    """Send bytes, and return all that comes until the other side closes; what came by then, if it does not."""
    stream = await dial(url)
    answer = b""
    async with stream:
        with trio.move_on_after(seconds):
            await stream.send_all(request)
            try:
                async for part in stream:
                    answer += part
            except trio.BrokenResourceError:
                pass
    return answer
