"""The libp2p host: TCP, Noise, yamux, and what a process that strangers may talk to needs on top.

py-libp2p 0.8.1 as it comes lets an exception in a stream handler end the process, spends an inbound slot for
ever on every connection that was once accepted, refuses a peer for a minute after one failed dial, and tries
one address only. All of that is dealt with here, once; nothing else in this package touches the swarm.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr  # type: ignore[import-untyped]
from multiaddr.exceptions import Error as MultiaddrError  # type: ignore[import-untyped]

from hypercluster.node.errors import ConnectionLost, HostError, NodeError, PeerUnreachable
from hypercluster.node.identity import keypair, peer_of_key
from hypercluster.node.network.addresses import expand, split_peer
from hypercluster.node.network.rate import Rate

log = logging.getLogger(__name__)

# It reports every peer that hangs up as an error; we say what matters. LIBP2P_DEBUG is its own switch.
if not os.environ.get("LIBP2P_DEBUG"):
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)

_CHUNK = 64 * 1024
_ADDRESS_TTL = 3600
LINGER_SECONDS = 5.0
"""how long a closing side waits for the other to have read everything"""
_HANG_UP_SECONDS = 2.0
LOST = (BaseLibp2pError, OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError)
"""what the layers below raise when a peer is gone"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What strangers may take of this process."""

    connections: int = 256
    streams: int = 1024
    """inbound and open at once"""
    streams_per_peer: int = 64
    handshake_seconds: float = 10.0
    dial_seconds: float = 5.0


class Stream:
    """One libp2p stream as node.framing wants it. `peer` is the authenticated id of the other side."""

    def __init__(self, inner: INetStream) -> None:
        self.peer: str = inner.muxed_conn.peer_id.to_base58()
        self._inner = inner
        self._closed = False

    async def read(self) -> bytes:
        """Return at least one byte, or none at the end. Raises ConnectionLost."""
        try:
            return await self._inner.read(_CHUNK)
        except EOFError:
            return b""
        except LOST as error:
            raise ConnectionLost(f"The stream to {self.peer} broke: {error}.") from None

    async def write(self, data: bytes) -> None:
        """Send all of data. Raises ConnectionLost."""
        try:
            await self._inner.write(data)
        except LOST as error:
            raise ConnectionLost(f"The stream to {self.peer} broke: {error}.") from None

    async def close(self) -> None:
        """End the stream: what was sent still arrives. Never raises for a lost peer."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._inner.close()
            with trio.move_on_after(LINGER_SECONDS):
                while await self._inner.read(_CHUNK):
                    pass
        except LOST as error:
            log.debug("closing a stream to %s: %s", self.peer, error)
        finally:
            await self.reset()

    async def reset(self) -> None:
        """End the stream at once; what the other side has not read is lost to it."""
        self._closed = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await self._inner.reset()


class Slots:
    """How many of something each peer and all peers together hold."""

    def __init__(self, total: int, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._held: Counter[str] = Counter()

    def take(self, peer: str) -> bool:
        """Take one, or return False if there is none left for this peer."""
        if self._held.total() >= self._total or self._held[peer] >= self._per_peer:
            return False
        self._held[peer] += 1
        return True

    def give_back(self, peer: str) -> None:
        """Give one back."""
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]


class _Swarm(Swarm):
    """py-libp2p's swarm, without the inbound slot and the task that it keeps for each dead connection."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        # Established connections are bounded by max_connections, handshakes by their deadline.
        self._inbound_limiter = trio.CapacityLimiter(math.inf)
        self._negative_peer_cache._ttl = 0.0

    async def _do_handle_inbound_connection(
        self, read_write_closer: ReadWriteCloser, maddr: Multiaddr, failure_event: object
    ) -> None:
        connection = RawConnection(read_write_closer, False)
        try:
            muxed = await self.upgrade_inbound_raw_conn(connection, maddr)
            assert isinstance(muxed, Yamux)
            await muxed.event_closed.wait()
        except Exception as error:  # noqa: BLE001 - a stranger's handshake may fail in any way
            log.debug("an inbound connection failed: %r", error)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await connection.close()


class Host:
    """A running libp2p host, see `running_host`."""

    def __init__(self, basic: BasicHost, key: bytes, limits: Limits, nursery: trio.Nursery) -> None:
        self.basic = basic
        """py-libp2p's host, for its DHT and pubsub"""
        self.key = key
        self.peer = peer_of_key(key)
        self.limits = limits
        self.nursery = nursery
        """for what lives as long as the host; an exception in it ends the host"""
        self.addrs: tuple[str, ...] = ()
        """where others reach this host, without /p2p"""
        self.slots = Slots(limits.streams, limits.streams_per_peer)
        """inbound streams and direct connections"""
        self._refusals = Rate(1, limits.streams_per_peer)
        # Every inbound stream of every protocol passes here, libp2p's own included.
        basic.get_network().set_stream_handler(self._guard)

    @property
    def peers(self) -> list[str]:
        """Peer ids of those connected now."""
        return [peer.to_base58() for peer in self.basic.get_connected_peers()]

    def serve(self, protocol: str, handler: Callable[[Stream], Awaitable[None]]) -> None:
        """Run `handler` for each stream opened to `protocol`.

        Whatever it raises is logged and resets that stream; when it returns, the stream is closed.
        """

        async def handle(inner: INetStream) -> None:
            stream = Stream(inner)
            try:
                await handler(stream)
            except NodeError as error:
                log.debug("%s with %s ended: %s", protocol, stream.peer, error)
                await stream.reset()
            except Exception:
                log.exception("serving %s failed, the stream of %s is reset", protocol, stream.peer)
                await stream.reset()
            else:
                await stream.close()

        self.basic.set_stream_handler(TProtocol(protocol), handle)

    async def connect(self, peer: str, addrs: Sequence[str] = (), timeout: float = 10.0) -> None:
        """Be connected to `peer`; `addrs` (multiaddrs) are tried in turn unless it already is.

        Raises PeerUnreachable.
        """
        peer_id = _peer_id(peer)
        network = self.basic.get_network()
        if any(not connection.is_closed for connection in network.get_connections(peer_id)):
            return
        store = self.basic.get_peerstore()
        reasons = []
        with trio.move_on_after(timeout) as scope:
            for addr in addrs:
                try:
                    # The swarm dials one address per transport only, hence one at a time.
                    store.clear_addrs(peer_id)
                    store.add_addr(peer_id, Multiaddr(addr), _ADDRESS_TTL)
                    with trio.fail_after(self.limits.dial_seconds):
                        await network.dial_peer(peer_id)
                    return
                except (*LOST, MultiaddrError, ValueError, trio.TooSlowError) as error:
                    reasons.append(f"{addr}: {_reason(error)}")
        why = (
            f"no answer in {timeout:g} s"
            if scope.cancelled_caught
            else "; ".join(reasons) or "no address known"
        )
        raise PeerUnreachable(f"Peer {peer} cannot be reached ({why}).")

    async def open_stream(
        self, peer: str, protocol: str, addrs: Sequence[str] = (), timeout: float = 10.0
    ) -> Stream:
        """A new stream to `peer`, dialling it first if need be; `timeout` (s) covers it all.

        Raises PeerUnreachable if it cannot be reached, does not answer or does not speak `protocol`.
        """
        peer_id = _peer_id(peer)
        try:
            with trio.fail_after(timeout):
                await self.connect(peer, addrs, timeout)
                return Stream(await self.basic.new_stream(peer_id, [TProtocol(protocol)]))
        except trio.TooSlowError:
            # It may have vanished without a word: the next attempt dials afresh.
            await self.disconnect(peer)
            raise PeerUnreachable(f"Peer {peer} did not answer in {timeout:g} s.") from None
        except (*LOST, ValueError) as error:
            raise PeerUnreachable(f"Peer {peer} does not take {protocol}: {_reason(error)}.") from None

    async def disconnect(self, peer: str) -> None:
        """Drop every connection to `peer`."""
        for connection in self.basic.get_network().get_connections(_peer_id(peer)):
            # Closing takes a while, and a close that is cancelled half-way leaves the socket open.
            self.nursery.start_soon(_close, connection)

    async def _guard(self, inner: INetStream) -> None:
        stream = Stream(inner)
        if not self.slots.take(stream.peer):
            if self._refusals.allows(stream.peer):
                await stream.reset()
            else:
                log.warning("peer %s opens streams without end and is cut off", stream.peer)
                await self.disconnect(stream.peer)
            return
        try:
            await self.basic._swarm_stream_handler(inner)
        except Exception as error:  # noqa: BLE001 - one that left here would end the process
            log.debug("a stream of %s failed: %r", stream.peer, error)
            await stream.reset()
        finally:
            self.slots.give_back(stream.peer)


@asynccontextmanager
async def running_host(
    key: bytes, listen: Sequence[str] = (), *, announce: Sequence[str] = (), limits: Limits | None = None
) -> AsyncIterator[Host]:
    """A libp2p host with the identity of the 32-byte `key`, listening on the multiaddrs `listen` (TCP).

    `announce` replaces the addresses it tells others. Without `listen` it only dials.
    Raises HostError if an address is malformed or taken.
    """
    limits = limits or Limits()
    try:
        addresses = [Multiaddr(text) for text in listen]
        for address in addresses:
            _check_free(address)
    except (MultiaddrError, ValueError) as error:
        raise HostError(f"A listen address is malformed, give /ip4/0.0.0.0/tcp/4001: {error}.") from None
    basic = BasicHost(
        _swarm(key, limits),
        disable_identify_address_discovery=True,
        # What libp2p tells others of itself: never a wildcard, which nobody can dial.
        addrs_factory=lambda bound: [Multiaddr(text) for text in announce or _reachable(bound)],
    )
    failure: Exception | None = None
    async with basic.run(addresses), trio.open_nursery() as nursery:
        host = Host(basic, key, limits, nursery)
        bound = basic.get_transport_addrs()
        host.addrs = tuple(announce or _reachable(bound))
        if len(bound) < len(addresses):
            failure = HostError(f"Cannot listen on {', '.join(listen)}: is another process there?")
        else:
            try:
                yield host
            except Exception as error:  # noqa: BLE001
                # Raised again outside of the nurseries, so that they do not wrap it into a group.
                failure = error
        await _hang_up(basic)
        nursery.cancel_scope.cancel()
    if failure:
        raise failure


async def _hang_up(basic: BasicHost) -> None:
    """Close all connections: the swarm would be cancelled in the middle of it and leave sockets open."""
    network = basic.get_network()
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _HANG_UP_SECONDS):
        for listener in list(network.listeners.values()):
            await listener.close()
        async with trio.open_nursery() as nursery:
            for connection in network.get_connections():
                nursery.start_soon(_close, connection)


def _reachable(bound: Sequence[Multiaddr]) -> list[str]:
    plain = [split_peer(str(address))[1] for address in bound]
    return list(dict.fromkeys(address for text in plain for address in expand(text)))


def _swarm(key: bytes, limits: Limits) -> Swarm:
    keys = keypair(key)
    peer_id = ID.from_pubkey(keys.public_key)
    store = PeerStore()
    store.add_key_pair(peer_id, keys)
    noise = NoiseTransport(keys, create_x25519_key_pair().private_key)
    upgrader = TransportUpgrader({NOISE_PROTOCOL: noise}, {TProtocol(YAMUX_PROTOCOL): Yamux})
    config = ConnectionConfig(
        max_connections=limits.connections,
        high_watermark=limits.connections,
        low_watermark=0,
        min_connections=0,
        # With more, a dial waits 250 ms after its success for a second one.
        max_connections_per_peer=1,
        dial_timeout=limits.dial_seconds,
        inbound_upgrade_timeout=limits.handshake_seconds,
        outbound_upgrade_timeout=limits.dial_seconds,
    )
    retry = RetryConfig(max_retries=0)
    return _Swarm(peer_id, store, upgrader, [TCP()], retry_config=retry, connection_config=config)


def _check_free(address: Multiaddr) -> None:
    """Raise HostError if a TCP port is taken: py-libp2p would share it and get every other connection."""
    host, port = (
        address.value_for_protocol("ip6" if "/ip6/" in str(address) else "ip4"),
        address.value_for_protocol("tcp"),
    )
    family = socket.AF_INET6 if ":" in str(host) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(host), int(port or 0)))
        except OSError as error:
            raise HostError(f"Cannot listen on {address}: {error.strerror}.") from None


async def _close(connection: INetConn) -> None:
    try:
        await connection.close()
    except LOST as error:
        log.debug("closing a connection: %s", error)


def _peer_id(peer: str) -> ID:
    try:
        return ID.from_string(peer)
    except ValueError as error:
        raise PeerUnreachable(f"{peer[:64]!r} is no peer id: {error}.") from None


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
