"""How steps travel: over a direct connection where the provider offers one and answers there, else a stream."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import trio

from hypercluster.market.advert import Advert
from hypercluster.node.errors import FrameError, HostError, PeerUnreachable
from hypercluster.node.network.addresses import expand, join_tcp, parse, split_tcp
from hypercluster.node.network.connection import Connection, Handler
from hypercluster.node.network.direct import DirectServer, SecureStream, dial_direct
from hypercluster.node.network.host import Host
from hypercluster.node.network.stream import Stream
from hypercluster.node.wire.framing import decode_length
from hypercluster.node.wire.messages import INFER_PROTOCOL

log = logging.getLogger(__name__)

FIRST_SECONDS = 5.0
"""that a direct connection may take to show that it is not for steps; who is silent is told so by the handler"""
DIRECT_SECONDS = 3.0
"""how long a client tries the direct address before it falls back"""


async def serve_steps(
    host: Host,
    handler: Handler,
    *,
    direct_listen: str = "",
    direct_announce: str = "",
    announce: Sequence[str] = (),
    frame_seconds: float = 30.0,
    others: Callable[[SecureStream], Awaitable[None]] | None = None,
) -> str:
    """Run `handler` for each client of the inference protocol, over libp2p streams and direct connections.

    `direct_listen` is a TCP multiaddr (port 0 picks one), empty for streams only. Returns the address to put
    into the advert: `direct_announce` if given, else the port it got at the first host of `announce`, the addresses
    told others. What the handler raises is logged and ends that connection. `others` gets the direct connections that
    begin with a frame of JSON, as conversations about blocks do; no message of the inference protocol does.
    Raises HostError if the address is malformed or taken.
    """

    async def on_stream(stream: Stream) -> None:
        await handler(Connection(stream, frame_seconds=frame_seconds))

    host.serve(INFER_PROTOCOL, on_stream)
    if not direct_listen:
        return ""
    name, port = split_tcp(direct_listen)
    try:
        listeners = await trio.open_tcp_listeners(port, host=name)
    except OSError as error:
        raise HostError(f"Cannot listen on {direct_listen}: {error.strerror or error}.") from None

    async def on_direct(stream: SecureStream) -> None:
        if others is not None and await _begins_with_json(stream):
            await others(stream)
            return
        await handler(Connection(stream, direct=True, frame_seconds=frame_seconds))

    server = DirectServer(host, on_direct)
    host.nursery.start_soon(trio.serve_listeners, server.serve, listeners)
    bound = join_tcp(name, int(listeners[0].socket.getsockname()[1]))
    if announce and not direct_announce:
        direct_announce = str(replace(parse(announce[0]), port=parse(bound).port))
    host.direct = direct_announce or expand(bound)[0]
    return host.direct


async def _begins_with_json(stream: SecureStream) -> bool:
    """Whether the first frame says so in time; what is no frame at all is not judged here. Raises ConnectionLost."""
    first = b""
    with trio.move_on_after(FIRST_SECONDS):
        first = await stream.peek()
    try:
        length = decode_length(first)
    except FrameError:
        return False
    return length is not None and first[length[1] :].startswith(b"{")


async def dial_steps(
    host: Host, advert: Advert, timeout: float = 10.0, *, direct: bool = True, frame_seconds: float = 30.0
) -> Connection:
    """A connection for steps to the provider of `advert`, direct if it offers that and answers there.

    `timeout` (s) covers both attempts. Raises PeerUnreachable.
    """
    deadline = trio.current_time() + timeout
    if direct and advert.direct:
        try:
            secure = await dial_direct(host, advert.peer, advert.direct, min(DIRECT_SECONDS, timeout))
            return Connection(secure, direct=True, frame_seconds=frame_seconds)
        except PeerUnreachable as error:
            log.info("%s Trying a libp2p stream.", error)
    remaining = max(0.1, deadline - trio.current_time())
    fallback = await host.open_stream(advert.peer, INFER_PROTOCOL, advert.addrs, remaining)
    return Connection(fallback, frame_seconds=frame_seconds)
