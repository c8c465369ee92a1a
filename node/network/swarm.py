"""py-libp2p's swarm as we need it: TCP, Noise, yamux, bounded, and without what it leaks.

py-libp2p 0.8.1 spends an inbound slot for ever on every connection that was once accepted, and refuses a peer
for a minute after one failed dial.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import trio
from libp2p.abc import IMuxedConn, INetConn, IRawConnection, ISecureConn
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr  # type: ignore[import-untyped]

from hypercluster.node.errors import HostError
from hypercluster.node.identity import keypair
from hypercluster.node.network.addresses import parse
from hypercluster.node.network.budgets import BOUNDS, OverBudget
from hypercluster.node.network.descriptors import share_for
from hypercluster.node.network.gate import Gate
from hypercluster.node.network.muxing import Muxer
from hypercluster.node.network.names import resolve
from hypercluster.node.network.pace import PacedConn
from hypercluster.node.network.strangers import StrangersTime, charged_now
from hypercluster.node.network.stream import LOST

log = logging.getLogger(__name__)

_HANG_UP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What strangers may take of this process, as BOUNDS says; how long they may take for what is begun."""

    connections: int = 256
    handshakes: int = 256
    streams: int = 1024
    """inbound and open at once"""
    streams_per_peer: int = 64
    handshake_seconds: float = 10.0
    dial_seconds: float = 5.0

    def within(self, descriptors: int) -> HostLimits:
        """Fewer places where this process may not have enough descriptors for all of them."""
        share = share_for(descriptors)
        return replace(
            self,
            connections=max(4, int(share * self.connections)),
            handshakes=max(4, int(share * self.handshakes)),
            streams=max(16, int(share * self.streams)),
        )


class _NamedTcp(TCP):
    """TCP to names as well: py-libp2p asks DNS servers only, which know nothing of /etc/hosts."""

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        failure: Exception | None = None
        try:
            for address in await resolve(parse(str(maddr))):
                try:
                    return await self._dial_resolved(Multiaddr(str(address)))
                except OpenConnectionError as error:
                    failure = failure or error
        except HostError as error:
            failure = error
        raise OpenConnectionError(f"Cannot connect to {maddr}") from failure


class GatedSwarm(Swarm):
    """py-libp2p's swarm, without the inbound slot and the task that it keeps for each dead connection.

    Who connects passes the gate first; `make_room` is asked for a place before a connection counts, and what it costs
    is charged to `strangers`.
    """

    def __init__(self, gate: Gate, strangers: StrangersTime, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        # Established connections are bounded by make_room, handshakes by the gate.
        self._inbound_limiter = trio.CapacityLimiter(math.inf)
        self._negative_peer_cache._ttl = 0.0
        self.gate = gate
        self.strangers = strangers
        self.make_room: Callable[[str, bool], bool] = lambda peer, inbound: True

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        """Take a connection in. Raises SwarmException where there is no place for it."""
        peer, inbound = muxed_conn.peer_id.to_base58(), direction == "inbound"
        if not self.make_room(peer, inbound):
            await muxed_conn.close()
            raise SwarmException("no place for another connection")
        charge = charged_now()
        if inbound and charge is not None and isinstance(muxed_conn, Yamux):
            charge.peer = peer
            muxed_conn.secured_conn = cast(ISecureConn, PacedConn(muxed_conn.secured_conn, charge))
        return await super().add_conn(muxed_conn, direction)

    async def _do_handle_inbound_connection(
        self, read_write_closer: ReadWriteCloser, maddr: Multiaddr, failure_event: object
    ) -> None:
        assert isinstance(read_write_closer, TrioTCPStream)
        connection, muxed = RawConnection(read_write_closer, False), None
        stream = read_write_closer.stream
        try:
            # py-libp2p finds no address in what the socket of an IPv6 peer says.
            host, port = stream.socket.getpeername()[:2]
            read_write_closer._cached_remote_address = (str(host), int(port))
            with self.strangers.charged():
                with self.gate.entering(str(host)) as entrant:
                    # Who says nothing needs no turn.
                    await trio.lowlevel.wait_readable(stream.socket.fileno())
                    await self.gate.turn(entrant)
                    muxed = await self.upgrade_inbound_raw_conn(connection, maddr)
                if muxed is not None:
                    assert isinstance(muxed, Yamux)
                    await muxed.event_closed.wait()
        except OverBudget:
            pass
        except Exception as error:  # noqa: BLE001 - a stranger's handshake may fail in any way
            log.debug("an inbound connection failed: %r", error)
        finally:
            await trio.aclose_forcefully(stream)


def new_swarm(key: bytes, limits: HostLimits) -> GatedSwarm:
    """A swarm with the identity of the 32-byte `key` and a connection per peer."""
    keys = keypair(key)
    peer_id = ID.from_pubkey(keys.public_key)
    store = PeerStore()
    store.add_key_pair(peer_id, keys)
    noise = NoiseTransport(keys, create_x25519_key_pair().private_key)
    upgrader = TransportUpgrader({NOISE_PROTOCOL: noise}, {TProtocol(YAMUX_PROTOCOL): Muxer})
    # Who is on the way in when all places are taken is not turned away by the library: make_room decides.
    most = limits.connections + limits.handshakes
    config = ConnectionConfig(
        max_connections=most,
        high_watermark=most,
        low_watermark=0,
        min_connections=0,
        # With more, a dial waits 250 ms after its success for a second one.
        max_connections_per_peer=1,
        dial_timeout=limits.dial_seconds,
        inbound_upgrade_timeout=limits.handshake_seconds,
        outbound_upgrade_timeout=limits.dial_seconds,
    )
    retry = RetryConfig(max_retries=0)
    handshake = replace(BOUNDS["handshake"], at_once=limits.handshakes, seconds=limits.handshake_seconds)
    strangers = StrangersTime()
    gate = Gate(strangers, handshake=handshake)
    transports = [_NamedTcp()]
    return GatedSwarm(
        gate, strangers, peer_id, store, upgrader, transports, retry_config=retry, connection_config=config
    )


async def hang_up(basic: BasicHost) -> None:
    """Close all connections: the swarm would be cancelled in the middle of it and leave sockets open."""
    network = basic.get_network()
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _HANG_UP_SECONDS):
        for listener in list(network.listeners.values()):
            await listener.close()
        async with trio.open_nursery() as nursery:
            for connection in network.get_connections():
                nursery.start_soon(close_connection, connection)


def check_free(address: Multiaddr) -> None:
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


async def close_connection(connection: INetConn) -> None:
    """Close a connection; never raises for a lost peer, nor waits for one that does not read the goodbye."""
    try:
        with trio.move_on_after(_HANG_UP_SECONDS) as scope:
            await connection.close()
        muxed = connection.muxed_conn
        if scope.cancelled_caught and isinstance(muxed, Yamux):
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await muxed.secured_conn.close()
            muxed.event_closed.set()
    except LOST as error:
        log.debug("closing a connection: %s", error)
