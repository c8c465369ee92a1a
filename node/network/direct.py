"""A TCP connection of its own under libp2p's Noise handshake, without a muxer.

The same authentication by peer id as a libp2p stream, a fraction of the time per message.
"""

from __future__ import annotations

import logging
import os
import socket as _socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.io import (
    MAX_NOISE_MESSAGE_LEN,
    MAX_PLAINTEXT_LENGTH,
    NoiseTransportReadWriter,
)
from libp2p.security.noise.patterns import PatternXX
from libp2p.security.secure_session import SecureSession
from noise.connection import NoiseConnection  # type: ignore[import-untyped]

from hypercluster.node.errors import ConnectionLost, NodeError, PeerUnreachable
from hypercluster.node.identity import keypair
from hypercluster.node.network.addresses import split_tcp
from hypercluster.node.network.budgets import OverBudget
from hypercluster.node.network.gate import Entrant
from hypercluster.node.network.host import Host
from hypercluster.node.network.places import NoPlace
from hypercluster.node.network.strangers import Charge
from hypercluster.node.network.stream import LINGER_SECONDS, LOST
from hypercluster.node.network.tickets import LENGTH, Tickets, ticket
from hypercluster.node.network.trouble import trouble_of
from hypercluster.node.wire.messages import INFER_PROTOCOL

log = logging.getLogger(__name__)

_CHUNK = 256 * 1024
"""bytes taken from the system at a time"""
_AT_ONCE = 4 * (2 + MAX_NOISE_MESSAGE_LEN)
"""bytes that are sent without giving others a turn"""
_EPHEMERAL = 32
_FIRST = 2 + _EPHEMERAL + LENGTH
"""bytes of the first message of a handshake: its length, an ephemeral key, a ticket"""


_ROOM: trio.lowlevel.RunVar[memoryview] = trio.lowlevel.RunVar("room")


def _room() -> memoryview:
    """What all connections of a loop read into, each decrypted before the next one is read."""
    try:
        return _ROOM.get()
    except LookupError:
        _ROOM.set(memoryview(bytearray(_CHUNK)))
        return _ROOM.get()


class SecureStream:
    """A TCP connection after the Noise handshake, as a byte stream. `peer` is authenticated."""

    def __init__(
        self, socket: trio.SocketStream, session: SecureSession, charge: Charge | None = None
    ) -> None:
        self.peer: str = session.get_remote_peer().to_base58()
        self.ip = ip_of(socket)
        """the IP address that the peer comes from, empty if the connection is gone"""
        self._socket = socket
        self._noise = cast(NoiseTransportReadWriter, session.conn).noise_state
        self._charge = charge
        self._held = bytearray()
        self._seen = b""
        self._closed = self._finishing = False

    async def write(self, data: bytes) -> None:
        """Encrypt and send all of data. Raises ConnectionLost."""
        if rest := self.begin(data):
            await self.finish(rest)

    def begin(self, data: bytes | memoryview) -> bytes:
        """Encrypt data and send what the system takes at once, with one call; returns what is left, for `finish`.

        Raises ConnectionLost.
        """
        if self._finishing:
            raise trio.BusyResourceError("another task is sending over this connection")
        # As the library's own encrypt does it, which takes no views.
        encrypt, view = self._noise.noise_protocol.cipher_state_encrypt.encrypt_with_ad, memoryview(data)
        packets, size = [], 0
        for start in range(0, len(view), MAX_PLAINTEXT_LENGTH):
            packet = encrypt(None, view[start : start + MAX_PLAINTEXT_LENGTH])
            packets += [len(packet).to_bytes(2, "big"), packet]
            size += 2 + len(packet)
        if size > _AT_ONCE or os.name != "posix":
            return b"".join(packets)
        try:
            sent = os.writev(self._socket.socket.fileno(), packets)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._broke(error) from None
        return b"" if sent == size else b"".join(packets)[sent:]

    async def finish(self, rest: bytes) -> None:
        """Send what `begin` left. Raises ConnectionLost."""
        self._finishing = True
        try:
            await self._socket.send_all(rest)
        except LOST as error:
            raise self._broke(error) from None
        finally:
            self._finishing = False

    def _broke(self, error: BaseException) -> ConnectionLost:
        return ConnectionLost(f"The connection to {self.peer} broke: {error}.")

    async def peek(self) -> bytes:
        """What `read` will return, without taking it. Raises ConnectionLost."""
        if not self._seen:
            self._seen = await self.read()
        return self._seen

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte, or none at the end. Raises ConnectionLost."""
        if self._seen:
            seen, self._seen = self._seen, b""
            return seen
        try:
            while (plain := await self._received()) == b"":
                pass
        except LOST as error:
            raise self._broke(error) from None
        return plain or b""

    async def _received(self) -> bytes | None:
        """What has come, as far as its packets are whole; None at the end."""
        if os.name != "posix":
            data = await self._socket.receive_some(_CHUNK)
            await self._turn()
            return self._decrypted(data) if data else None
        while True:
            # One turn of the event loop and one call of the system, whether something lies there or not.
            await trio.lowlevel.wait_readable(self._descriptor())
            await self._turn()
            room = _room()
            try:
                count = os.readv(self._descriptor(), [room])
            except BlockingIOError:
                continue
            return self._decrypted(room[:count]) if count else None

    async def _turn(self) -> None:
        if self._charge is not None:
            await self._charge.owner.turn(self._charge)

    def _descriptor(self) -> int:
        if (found := self._socket.socket.fileno()) < 0:
            raise trio.ClosedResourceError("it was closed here")
        return found

    def _decrypted(self, data: bytes | bytearray | memoryview) -> bytes:
        """What the packets hold that are whole now; what has come of the next one is kept."""
        held, view, plain, at = self._held, memoryview(data), [], 0
        if held:
            at = max(0, 2 - len(held))
            held += view[:at]
            if len(held) < 2:
                return b""
            stop = 2 + int.from_bytes(held[:2], "big")
            at += len(more := view[at : at + stop - len(held)])
            held += more
            if len(held) < stop:
                return b""
            plain.append(self._opened(bytes(held[2:])))
            held.clear()
        while len(view) - at >= 2:
            stop = at + 2 + int.from_bytes(view[at : at + 2], "big")
            if stop > len(view):
                break
            plain.append(self._opened(view[at + 2 : stop]))
            at = stop
        held += view[at:]
        return b"".join(plain)

    async def reset(self) -> None:
        """End the connection at once."""
        self._closed = True
        await trio.aclose_forcefully(self._socket)

    def _opened(self, packet: bytes | memoryview) -> bytes:
        try:
            # as the library's own decrypt does it, which takes no views and so wants a copy of every packet
            return bytes(self._noise.noise_protocol.cipher_state_decrypt.decrypt_with_ad(None, packet))
        except Exception:  # noqa: BLE001 - the library raises what its cipher raises
            raise ConnectionLost(f"{self.peer} sent bytes that do not decrypt.") from None

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


async def dial_direct(host: Host, peer: str, address: str, timeout: float) -> SecureStream:
    """A direct connection to `peer` at the TCP multiaddr `address`, authenticated. Raises PeerUnreachable."""
    socket: trio.SocketStream | None = None
    try:
        with trio.fail_after(timeout):
            name, port = split_tcp(address)
            socket = await trio.open_tcp_stream(name, port)
            pattern = _pattern(host.key, to=peer)
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
        raise PeerUnreachable(f"Peer {peer} is not at {address} ({reason}).", trouble_of(error)) from None


class DirectServer:
    """Takes direct connections: through the gate of the host, then a place among its streams."""

    def __init__(self, host: Host, handler: Callable[[SecureStream], Awaitable[None]]) -> None:
        self._host = host
        self._handler = handler
        self._tickets = Tickets(host.key)

    async def serve(self, socket: trio.SocketStream) -> None:
        """Serve one accepted socket to its end; never raises for anything a stranger does."""
        stream = None
        try:
            with self._host.strangers.charged() as charge:
                with self._host.gate.entering(ip_of(socket)) as entrant:
                    stream = await self._admit(socket, entrant, charge)
                if stream is not None:
                    await self._run(stream)
        except OverBudget:
            pass
        except Exception:
            log.exception("serving a direct connection failed")
        finally:
            await trio.aclose_forcefully(socket)

    async def _admit(
        self, socket: trio.SocketStream, entrant: Entrant, charge: Charge
    ) -> SecureStream | None:
        try:
            # Who says nothing needs no turn, and a payer shows its ticket instead.
            await trio.lowlevel.wait_readable(socket.socket.fileno())
            first = await socket.socket.recv(_FIRST, _socket.MSG_PEEK)
            if self._tickets.holds(first[2 + _EPHEMERAL :], first[2 : 2 + _EPHEMERAL]):
                entrant.turn.set()
            else:
                await self._host.gate.turn(entrant)
            connection = RawConnection(TrioTCPStream(socket), False)
            session = await _pattern(self._host.key).handshake_inbound(connection)
            stream = SecureStream(socket, cast(SecureSession, session), charge)
            charge.peer = stream.peer
            return stream
        except Exception as error:  # noqa: BLE001 - the handshake raises what its libraries raise
            log.debug("a handshake with %s failed: %r", entrant.block, error)
            return None

    async def _run(self, stream: SecureStream) -> None:
        try:
            with self._host.places.holding(stream.peer):
                await self._handler(stream)
                await stream.close()
        except NoPlace:
            log.debug("peer %s has too many streams", stream.peer)
        except NodeError as error:
            log.debug("a direct connection of %s ended: %s", stream.peer, error)
        finally:
            if self._host.class_of(stream.peer) > 1:
                self._tickets.learn(stream.peer)


def ip_of(socket: trio.SocketStream) -> str:
    """The IP address at the other end, empty if the connection is gone."""
    try:
        return str(socket.socket.getpeername()[0])
    except OSError:
        return ""


class _Pattern(PatternXX):
    """Noise XX of a dialler, with a ticket for `to` in its first message; whoever knows none passes over it."""

    def __init__(self, key: bytes, to: str) -> None:
        super().__init__(**_of(key))
        self._key, self._to = key, to

    def create_noise_state(self, prologue: bytes | None = None) -> NoiseConnection:
        state = super().create_noise_state(prologue=prologue)
        write = state.write_message

        def write_first(payload: bytes = b"") -> bytearray:
            noise = state.noise_protocol
            # The library would make the key while it writes; the ticket has to be over it.
            noise.handshake_state.e = noise.dh_fn.generate_keypair()
            shown = ticket(self._key, self._to, noise.handshake_state.e.public_bytes)
            message = write(payload + shown)
            # The library compares its methods to tell whose turn it is: only now may this one go.
            state.write_message = write
            return bytearray(message)

        state.write_message = write_first
        return state


def _pattern(key: bytes, to: str = "") -> PatternXX:
    """Noise XX as libp2p does it; the prologue keeps other protocols and versions out."""
    return _Pattern(key, to) if to else PatternXX(**_of(key))


def _of(key: bytes) -> dict[str, Any]:
    keys = keypair(key)
    return {
        "local_peer": ID.from_pubkey(keys.public_key),
        "libp2p_privkey": keys.private_key,
        "noise_static_key": create_x25519_key_pair().private_key,
        "prologue": INFER_PROTOCOL.encode(),
    }
