"""An ASGI application on this process's trio loop, by hypercorn: slow clients cost little, the end is graceful.

Hypercorn's own worker knows no bound on connections and waits for ever on a client that does not read. So the
listeners and the end are ours, and a connection of hypercorn's gets its deadlines here.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp

from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 512
HEADER_BYTES = 32 * 1024
"""request line and headers"""
IDLE_SECONDS = 20.0
"""for the headers of the first or next request on a connection, all of them"""
SEND_SECONDS = 30.0
"""until a client that reads nothing is given up"""
BACKLOG = 128
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""an address or a kind of address that this machine does not have"""


class CannotServe(NodeError):
    """No HTTP listener can be opened at an address."""


async def serve(
    app: ASGIApp,
    binds: Sequence[str],
    *,
    graceful_s: float = 2.0,
    idle_s: float = IDLE_SECONDS,
    send_s: float = SEND_SECONDS,
    most_connections: int = MOST_CONNECTIONS,
    task_status: TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` over HTTP/1.1 at every HOST:PORT of `binds` until cancelled; then what runs has `graceful_s` to end.

    Starts with the URLs, such as http://127.0.0.1:11535; port 0 takes a free one. Where all connections are in use,
    the one that has waited longest for a request goes, and if none waits, a new one gets 503.

    Raises:
        CannotServe: an address is taken, is none, or is not of this machine.
    """
    sockets = _bound(binds)
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]
    house = _House(app, idle_s=idle_s, send_s=send_s, most=most_connections)
    async with trio.open_nursery() as connections:
        try:
            task_status.started(tuple(_url(each) for each in sockets))
            await trio.serve_listeners(house.serve, listeners, handler_nursery=connections)
        finally:
            with trio.CancelScope(shield=True):
                await house.end(graceful_s)


class _House:
    """All connections of one `serve`."""

    def __init__(self, app: ASGIApp, *, idle_s: float, send_s: float, most: int) -> None:
        self._app = ASGIWrapper(app)  # type: ignore[arg-type]
        self._context = WorkerContext(None)
        self._send_s, self._most = send_s, most
        self._open: dict[_Connection, trio.CancelScope] = {}
        self._empty = trio.Event()
        self._config = config = Config()
        config.errorlog, config.accesslog = log, None
        config.h11_max_incomplete_size = HEADER_BYTES
        config.keep_alive_timeout = idle_s
        config.include_server_header = False
        config.websocket_max_message_size = HEADER_BYTES

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end, which only `end` brings about before its time."""
        if len(self._open) >= self._most and not await self._make_room():
            with trio.move_on_after(1):
                await stream.send_all(_FULL)
            await trio.aclose_forcefully(stream)
            return
        connection = _Connection(self._app, self._config, self._context, stream, self._send_s)
        try:
            with trio.CancelScope(shield=True) as scope:
                self._open[connection] = scope
                await connection.run()
        except Exception:
            log.exception("an HTTP connection ended by a bug")
        finally:
            del self._open[connection]
            if not self._open:
                self._empty.set()

    async def end(self, graceful_s: float) -> None:
        """Let idle connections go, give the others so many seconds, and end them."""
        await self._context.terminated.set()
        with trio.move_on_after(graceful_s):
            while self._open:
                self._empty = trio.Event()
                await self._empty.wait()
        for connection, scope in list(self._open.items()):
            scope.cancel()
            await trio.aclose_forcefully(connection.stream)  # what is being sent heeds no cancelling

    async def _make_room(self) -> bool:
        for connection in self._open:  # the oldest first
            if connection.idle:
                connection.idle = False
                await trio.aclose_forcefully(connection.stream)
                return True
        return False


_BUSY = b'{"error": {"message": "All connections are in use: try again.", "type": "server_error", "code": "busy"}}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BUSY), _BUSY)
)


class _Connection(TCPServer):
    """A connection that is given up when its client does not read, and that knows whether a request is under way."""

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        send_s: float,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]
        self._send_s = send_s
        self.idle = True

    async def protocol_send(self, event: Event) -> None:
        """As hypercorn's, with a deadline for what is sent."""
        if isinstance(event, Updated):
            self.idle = event.idle
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + self._send_s) as scope:
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
                return
        if scope.cancelled_caught:
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())


def check_free(binds: Sequence[str]) -> None:
    """Find out whether `serve` could open these addresses now, before anything slow is begun. Raises CannotServe."""
    for each in _bound(binds):
        each.close()


def _bound(binds: Sequence[str]) -> list[socket.socket]:
    """A listening socket for every address that HOST:PORT stands for. Raises CannotServe."""
    if not binds:
        raise CannotServe("No address to serve at was named: give one as HOST:PORT.")
    opened: list[socket.socket] = []
    try:
        for bind in binds:
            opened += _opened(bind)
    except BaseException:
        for each in opened:
            each.close()
        raise
    return opened


def _opened(bind: str) -> list[socket.socket]:
    host, port = host_and_port(bind)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise CannotServe(f"HTTP cannot be served at {bind}: no host has the name {host}.") from None
    opened: list[socket.socket] = []
    failed: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            opened.append(_listening(family, kind, protocol, address))
        except OSError as error:
            failed = error
            if error.errno not in ABSENT:
                break
    # A name such as localhost may stand for an address of IPv6, which not every machine has.
    if failed is None or (opened and failed.errno in ABSENT):
        return opened
    for each in opened:
        each.close()
    raise CannotServe(
        f"HTTP cannot be served at {bind}: {os.strerror(failed.errno or 0).lower()}. "
        "End what listens there, or choose another address."
    )


def _listening(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def host_and_port(bind: str) -> tuple[str, int]:
    """The two parts of HOST:PORT, of which an IPv6 host stands in brackets. Raises CannotServe."""
    host, colon, port = bind.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    plain = host[1:-1] if bracketed else host
    good = colon and plain and (":" in plain) == bracketed and port.isascii() and port.isdigit()
    if not good or int(port) > 65_535:
        raise CannotServe(f"{bind!r} is no address to serve at: write it as 127.0.0.1:11535 or [::1]:11535.")
    return plain, int(port)


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - every address is one of ours, too
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
