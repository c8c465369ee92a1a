"""The seam of the step exchange: messages over one connection, whichever kind it is.

Two kinds give the same `Connection`. A libp2p stream goes wherever libp2p goes, but each message costs yamux
frames, locks and scheduler ticks. A direct connection is a TCP connection of its own under libp2p's Noise
handshake, without a muxer: the same authentication by peer id, a fraction of the time per message. Clients
try the direct one and fall back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import trio
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter
from libp2p.security.noise.patterns import PatternXX
from libp2p.security.secure_session import SecureSession

from hypercluster.market.advert import Advert
from hypercluster.node.errors import ConnectionLost, HostError, NodeError, PeerUnreachable
from hypercluster.node.identity import keypair
from hypercluster.node.network.addresses import expand, join_tcp, split_tcp
from hypercluster.node.network.host import LINGER_SECONDS, LOST, Host, Slots, Stream
from hypercluster.node.wire.audit import AnyMessage, decode, encode
from hypercluster.node.wire.framing import ByteStream, Frames
from hypercluster.node.wire.messages import INFER_PROTOCOL

log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
HANDSHAKES = 128
HANDSHAKES_PER_ADDRESS = 32
DIRECT_SECONDS = 3.0
"""how long a client tries the direct address before it falls back"""


class _Closable(ByteStream, Protocol):
    peer: str

    async def close(self) -> None: ...


class Connection:
    """Messages to and from one authenticated peer. One task may receive while another sends."""

    def __init__(self, stream: _Closable, *, frame_seconds: float = 30.0) -> None:
        self.peer = stream.peer
        self.direct = isinstance(stream, SecureStream)
        """whether this is a TCP connection of its own"""
        self._stream = stream
        self._frames = Frames(stream, frame_seconds=frame_seconds)

    def raise_bound(self, max_frame: int) -> None:
        """Allow frames of `max_frame` bytes, see node.wire.frame_bound; never lowers the bound."""
        self._frames.max_frame = max(self._frames.max_frame, max_frame)

    async def send(self, message: AnyMessage, timeout: float | None = None) -> None:
        """Send one message within `timeout` seconds. Raises FrameTooLong, FrameTimeout, ConnectionLost."""
        await self._frames.send(encode(message), timeout)

    async def receive(self, timeout: float | None = None) -> AnyMessage:
        """The next message, which must begin within `timeout` seconds.

        Raises WireError, FrameTooLong, FrameTimeout, FrameError, ConnectionLost. Close it after any of them.
        """
        return decode(await self._frames.receive(timeout))

    async def close(self) -> None:
        """End the connection; what was sent still arrives. Never raises for a lost peer."""
        await self._stream.close()


Handler = Callable[[Connection], Awaitable[None]]


class SecureStream:
    """A TCP connection after the Noise handshake, as a byte stream. `peer` is authenticated."""

    def __init__(self, socket: trio.SocketStream, session: SecureSession) -> None:
        self.peer: str = session.get_remote_peer().to_base58()
        self._socket = socket
        self._noise = cast(NoiseTransportReadWriter, session.conn).noise_state
        self._received = bytearray()
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Encrypt and send all of data with one system call. Raises ConnectionLost."""
        packets = []
        for start in range(0, len(data), MAX_PLAINTEXT_LENGTH):
            packet = self._noise.encrypt(data[start : start + MAX_PLAINTEXT_LENGTH])
            packets += [len(packet).to_bytes(2, "big"), packet]
        try:
            await self._socket.send_all(b"".join(packets))
        except LOST as error:
            raise ConnectionLost(f"The connection to {self.peer} broke: {error}.") from None

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte, or none at the end. Raises ConnectionLost."""
        while True:
            if plain := self._decrypted():
                return plain
            try:
                data = await self._socket.receive_some(_CHUNK)
            except LOST as error:
                raise ConnectionLost(f"The connection to {self.peer} broke: {error}.") from None
            if not data:
                return b""
            self._received += data

    def _decrypted(self) -> bytes:
        received, plain, start = self._received, [], 0
        while len(received) - start >= 2:
            stop = start + 2 + int.from_bytes(received[start : start + 2], "big")
            if stop > len(received):
                break
            try:
                plain.append(self._noise.decrypt(bytes(received[start + 2 : stop])))
            except Exception:  # noqa: BLE001 - the library raises what its cipher raises
                raise ConnectionLost(f"{self.peer} sent bytes that do not decrypt.") from None
            start = stop
        del received[:start]
        return b"".join(plain)

    async def close(self) -> None:
        """End the connection: what was sent still arrives. Never raises for a lost peer."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._socket.send_eof()
            with trio.move_on_after(LINGER_SECONDS):
                while await self._socket.receive_some(_CHUNK):
                    pass
        except (*LOST, trio.BusyResourceError) as error:
            log.debug("closing the connection to %s: %s", self.peer, error)
        finally:
            await trio.aclose_forcefully(self._socket)


async def serve_steps(
    host: Host,
    handler: Handler,
    *,
    direct_listen: str = "",
    direct_announce: str = "",
    frame_seconds: float = 30.0,
) -> str:
    """Run `handler` for each client of the inference protocol, over libp2p streams and direct connections.

    `direct_listen` is a TCP multiaddr (port 0 picks one), empty for streams only. Returns the address to put
    into the advert, `direct_announce` if given. What the handler raises is logged and ends that connection.
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
    server = _DirectServer(host, handler, frame_seconds)
    host.nursery.start_soon(trio.serve_listeners, server.serve, listeners)
    bound = join_tcp(name, int(listeners[0].socket.getsockname()[1]))
    return direct_announce or expand(bound)[0]


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
            return Connection(secure, frame_seconds=frame_seconds)
        except PeerUnreachable as error:
            log.info("%s Trying a libp2p stream.", error)
    remaining = max(0.1, deadline - trio.current_time())
    fallback = await host.open_stream(advert.peer, INFER_PROTOCOL, advert.addrs, remaining)
    return Connection(fallback, frame_seconds=frame_seconds)


async def dial_direct(host: Host, peer: str, address: str, timeout: float) -> SecureStream:
    """A direct connection to `peer` at the TCP multiaddr `address`, authenticated. Raises PeerUnreachable."""
    socket: trio.SocketStream | None = None
    try:
        with trio.fail_after(timeout):
            name, port = split_tcp(address)
            socket = await trio.open_tcp_stream(name, port)
            pattern = _pattern(host.key)
            connection = RawConnection(TrioTCPStream(socket), True)
            session = await pattern.handshake_outbound(connection, ID.from_base58(peer))
            return SecureStream(socket, cast(SecureSession, session))
    except BaseException as error:
        if socket is not None:
            await trio.aclose_forcefully(socket)
        # The handshake raises whatever its libraries raise; only what is no error goes on.
        if not isinstance(error, Exception):
            raise
        reason = f"no answer in {timeout:g} s" if isinstance(error, trio.TooSlowError) else error
        raise PeerUnreachable(f"Peer {peer} is not at {address} ({reason}).") from None


class _DirectServer:
    """Takes direct connections: a bounded number of handshakes at once, then the slots of the host."""

    def __init__(self, host: Host, handler: Handler, frame_seconds: float) -> None:
        self._host = host
        self._handler = handler
        self._frame_seconds = frame_seconds
        self._handshakes = Slots(HANDSHAKES, HANDSHAKES_PER_ADDRESS)

    async def serve(self, socket: trio.SocketStream) -> None:
        """Serve one accepted socket to its end; never raises for anything a stranger does."""
        try:
            stream = await self._admit(socket)
            if stream is not None:
                await self._run(stream)
        except Exception:
            log.exception("serving a direct connection failed")
        finally:
            await trio.aclose_forcefully(socket)

    async def _admit(self, socket: trio.SocketStream) -> SecureStream | None:
        address = str(socket.socket.getpeername()[0])
        if not self._handshakes.take(address):
            log.warning("too many handshakes from %s", address)
            return None
        try:
            with trio.fail_after(self._host.limits.handshake_seconds):
                connection = RawConnection(TrioTCPStream(socket), False)
                session = await _pattern(self._host.key).handshake_inbound(connection)
            return SecureStream(socket, cast(SecureSession, session))
        except Exception as error:  # noqa: BLE001 - the handshake raises what its libraries raise
            log.debug("a handshake with %s failed: %r", address, error)
            return None
        finally:
            self._handshakes.give_back(address)

    async def _run(self, stream: SecureStream) -> None:
        if not self._host.slots.take(stream.peer):
            log.warning("peer %s has too many streams", stream.peer)
            return
        try:
            await self._handler(Connection(stream, frame_seconds=self._frame_seconds))
            await stream.close()
        except NodeError as error:
            log.debug("a direct connection of %s ended: %s", stream.peer, error)
        finally:
            self._host.slots.give_back(stream.peer)


def _pattern(key: bytes) -> PatternXX:
    """Noise XX as libp2p does it; the prologue keeps other protocols and versions out."""
    keys = keypair(key)
    noise_key = create_x25519_key_pair().private_key
    return PatternXX(
        ID.from_pubkey(keys.public_key), keys.private_key, noise_key, prologue=INFER_PROTOCOL.encode()
    )
