"""The libp2p host, and what a process that strangers may talk to needs on top of py-libp2p.

py-libp2p 0.8.1 as it comes lets an exception in a stream handler end the process, and tries one address only.
That is dealt with here, and what its swarm lacks in swarm.py; nothing else in this package touches the swarm.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr  # type: ignore[import-untyped]
from multiaddr.exceptions import Error as MultiaddrError  # type: ignore[import-untyped]

from hypercluster.node.errors import HostError, NodeError, PeerUnreachable, Trouble
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.addresses import expand, split_peer
from hypercluster.node.network.budgets import BOUNDS, REFUSED, Budget, OverBudget, Source, block_of
from hypercluster.node.network.descriptors import complaint, raise_limit
from hypercluster.node.network.places import NoPlace, Places
from hypercluster.node.network.rate import Rate
from hypercluster.node.network.stream import LOST, Stream
from hypercluster.node.network.swarm import (
    GatedSwarm,
    HostLimits,
    check_free,
    close_connection,
    hang_up,
    new_swarm,
)
from hypercluster.node.network.trouble import reason_of, trouble_of

log = logging.getLogger(__name__)

# It reports every peer that hangs up as an error; we say what matters. LIBP2P_DEBUG is its own switch.
if not os.environ.get("LIBP2P_DEBUG"):
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)

_ADDRESS_TTL = 3600
_ADDRESSES_SECONDS = 60.0
"""for which is believed what py-libp2p finds as this host's own: it looks for every message of DHT and gossip"""
_STANDING_SECONDS = 1.0
"""for which is believed how a peer stood: when places are full, it is asked of all who hold one"""


class Host:
    """A running libp2p host, see `running_host`."""

    def __init__(self, basic: BasicHost, key: bytes, limits: HostLimits, nursery: trio.Nursery) -> None:
        self.basic = basic
        """py-libp2p's host, for its DHT and pubsub"""
        self.key = key
        self.peer = peer_of_key(key)
        self.limits = limits
        self.nursery = nursery
        """for what lives as long as the host; an exception in it ends the host"""
        self.addrs: tuple[str, ...] = ()
        """where others reach this host, without /p2p"""
        self.listening: tuple[str, ...] = ()
        """what it is bound to, wildcards as they are, with the ports that were drawn"""
        self.direct = ""
        """where others reach its direct listener, empty if there is none"""
        self.announced: tuple[str, ...] = ()
        """those of them that were given instead of found out"""
        self.class_of: Callable[[str], int] = lambda peer: 0
        """how a peer stands: 0 for a stranger, 1 with a channel, 2 for who has paid"""
        self.is_familiar: Callable[[str], bool] = lambda peer: False
        """whether a peer has stake behind it, as far as is known without asking"""
        self._standings: dict[str, int] = {}
        self._standings_at = -math.inf
        self.places = Places(limits.streams, limits.streams_per_peer, self.standing)
        """inbound streams and direct connections"""
        swarm = basic.get_network()
        assert isinstance(swarm, GatedSwarm)
        self._swarm = swarm
        self.gate = swarm.gate
        # What strangers use up is not what those have who are known.
        self._budgets = {
            (name, known): Budget(bound) for name, bound in BOUNDS.items() for known in (False, True)
        }
        self._dials: dict[str, trio.Lock] = {}
        self._refusals = Rate(1, limits.streams_per_peer)
        # Every inbound stream of every protocol passes here, libp2p's own included.
        swarm.set_stream_handler(self._guard)
        swarm.make_room = self._make_room
        self.strangers = swarm.strangers
        self.strangers.is_stranger = lambda peer: not self.standing(peer)
        nursery.start_soon(self.strangers.run)
        nursery.start_soon(self.gate.run)

    @property
    def peers(self) -> list[str]:
        """Peer ids of those connected now."""
        return [peer.to_base58() for peer in self.basic.get_connected_peers()]

    def standing(self, peer: str) -> int:
        """How a peer stands when not all find a place: as `class_of` says, 1 at least with stake behind it."""
        now = trio.current_time()
        if now > self._standings_at + _STANDING_SECONDS:
            self._standings, self._standings_at = {}, now
        if peer not in self._standings:
            self._standings[peer] = max(self.class_of(peer), int(self.is_familiar(peer)))
        return self._standings[peer]

    @contextmanager
    def within(self, name: str, peer: str, ip: str) -> Iterator[None]:
        """Room for one act of a peer, of those that BOUNDS calls `name`; the block is cancelled when its time is up.

        Raises OverBudget.
        """
        with (
            self._budget(name, peer).holding(Source(peer, block_of(ip))),
            trio.move_on_after(BOUNDS[name].seconds),
        ):
            yield

    def _budget(self, name: str, peer: str) -> Budget:
        """That of strangers, or that of peers which we know."""
        return self._budgets[name, self.knows(peer)]

    def knows(self, peer: str) -> bool:
        """Whether a peer has paid or has stake behind it: what strangers do leaves its share as it is."""
        return self.class_of(peer) > 1 or self.is_familiar(peer)

    def serve(self, protocol: str, handler: Callable[[Stream], Awaitable[None]], bound: str = "") -> None:
        """Run `handler` for each stream opened to `protocol`, within the budget of BOUNDS that is named, if one is.

        Whatever it raises is logged and resets that stream; when it returns, the stream is closed.
        """

        async def handle(inner: INetStream) -> None:
            stream = Stream(inner)
            try:
                if bound:
                    with self.within(bound, stream.peer, stream.ip):
                        await handler(stream)
                else:
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
        # The swarm keeps one set of addresses for a peer: two dials at once would try each other's.
        turn = self._dials.setdefault(peer, trio.Lock())
        try:
            async with turn:
                await self._connect(peer, addrs, timeout)
        finally:
            if not turn.locked():  # nobody has got it from us
                self._dials.pop(peer, None)

    async def _connect(self, peer: str, addrs: Sequence[str], timeout: float) -> None:
        peer_id = _peer_id(peer)
        network = self.basic.get_network()
        if any(not connection.is_closed for connection in network.get_connections(peer_id)):
            return
        store = self.basic.get_peerstore()
        reasons: list[str] = []
        troubles: list[Trouble] = []
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
                    reasons.append(f"{addr}: {reason_of(error)}")
                    troubles.append(trouble_of(error))
        why = (
            f"no answer in {timeout:g} s"
            if scope.cancelled_caught
            else "; ".join(reasons) or "no address known"
        )
        # The first address is the one that its owner put first.
        trouble = Trouble.TIMEOUT if scope.cancelled_caught or not troubles else troubles[0]
        raise PeerUnreachable(f"Peer {peer} cannot be reached ({why}).", trouble)

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
            raise PeerUnreachable(f"Peer {peer} did not answer in {timeout:g} s.", Trouble.TIMEOUT) from None
        except (*LOST, ValueError) as error:
            raise PeerUnreachable(f"Peer {peer} does not take {protocol}: {reason_of(error)}.") from None

    async def disconnect(self, peer: str) -> None:
        """Drop every connection to `peer`."""
        for connection in self.basic.get_network().get_connections(_peer_id(peer)):
            # Closing takes a while, and a close that is cancelled half-way leaves the socket open.
            self.nursery.start_soon(close_connection, connection)

    async def _guard(self, inner: INetStream) -> None:
        stream = Stream(inner)
        try:
            self._budget("stream", stream.peer).take(Source(stream.peer, block_of(stream.ip)))
            with self.places.holding(stream.peer):
                await self.basic._swarm_stream_handler(inner)
                return
            await stream.reset()  # it had to give way
        except (NoPlace, OverBudget):
            if self._refusals.allows(stream.peer):
                await stream.reset()
            else:
                log.info("peer %s opens streams without end and is cut off", stream.peer)
                await self.disconnect(stream.peer)
        except Exception as error:  # noqa: BLE001 - one that left here would end the process
            log.debug("a stream of %s failed: %r", stream.peer, error)
            await stream.reset()

    def _make_room(self, peer: str, inbound: bool) -> bool:
        """Whether there is a place for a connection of `peer`; a stranger's idle one gives way if need be.

        Whom this host dialled, who has paid and who has stake behind it stays.
        """
        connections = [each for each in self._swarm.get_connections() if not each.is_closed]
        if len(connections) < self.limits.connections:
            return True
        REFUSED["connection", "total"] += 1
        losers = {
            each: each.muxed_conn.peer_id.to_base58()
            for each in connections
            if isinstance(each, SwarmConn) and each.direction is Direction.INBOUND
        }
        losers = {each: stranger for each, stranger in losers.items() if not self.standing(stranger)}
        if not losers:
            # The swarm's own limit is left, for those who are known.
            return not inbound or self.standing(peer) > 0
        settled, held = self.places.settled(), self.places.held
        # Idle ones first, the oldest of them; where all do something, who does most.
        loser = min(losers, key=lambda each: (losers[each] in settled, -held(losers[each]), each._created_at))
        self._swarm.remove_conn(loser)
        self.nursery.start_soon(close_connection, loser)
        return True


@asynccontextmanager
async def running_host(
    key: bytes, listen: Sequence[str] = (), *, announce: Sequence[str] = (), limits: HostLimits | None = None
) -> AsyncIterator[Host]:
    """A libp2p host with the identity of the 32-byte `key`, listening on the multiaddrs `listen` (TCP).

    `announce` replaces the addresses it tells others. Without `listen` it only dials.
    Raises HostError if an address is malformed or taken.
    """
    descriptors = raise_limit()
    if listen and (words := complaint(descriptors)):
        log.warning("%s", words)
    limits = (limits or HostLimits()).within(descriptors)
    try:
        addresses = [Multiaddr(text) for text in listen]
        for address in addresses:
            check_free(address)
    except (MultiaddrError, ValueError) as error:
        raise HostError(f"A listen address is malformed, give /ip4/0.0.0.0/tcp/4001: {error}.") from None
    basic = BasicHost(
        new_swarm(key, limits),
        disable_identify_address_discovery=True,
        # What libp2p tells others of itself: never a wildcard, which nobody can dial.
        addrs_factory=lambda bound: [Multiaddr(text) for text in announce or _reachable(bound)],
    )
    failure: Exception | None = None
    async with basic.run(addresses), trio.open_nursery() as nursery:
        host = Host(basic, key, limits, nursery)
        bound = basic.get_transport_addrs()
        host.addrs = tuple(announce or _reachable(bound))
        host.listening = tuple(split_peer(str(address))[1] for address in bound)
        host.announced = tuple(announce)
        basic.get_addrs = _kept(basic.get_addrs)  # type: ignore[method-assign]
        if len(bound) < len(addresses):
            failure = HostError(f"Cannot listen on {', '.join(listen)}: is another process there?")
        else:
            try:
                yield host
            except Exception as error:  # noqa: BLE001
                # Raised again outside of the nurseries, so that they do not wrap it into a group.
                failure = error
        await hang_up(basic)
        nursery.cancel_scope.cancel()
    if failure:
        raise failure


def _reachable(bound: Sequence[Multiaddr]) -> list[str]:
    plain = [split_peer(str(address))[1] for address in bound]
    return list(dict.fromkeys(address for text in plain for address in expand(text)))


def _kept(find: Callable[[], list[Multiaddr]]) -> Callable[[], list[Multiaddr]]:
    found, at = find(), trio.current_time()

    def kept() -> list[Multiaddr]:
        nonlocal found, at
        if trio.current_time() > at + _ADDRESSES_SECONDS:
            found, at = find(), trio.current_time()
        return list(found)

    return kept


def _peer_id(peer: str) -> ID:
    try:
        return ID.from_string(peer)
    except ValueError as error:
        raise PeerUnreachable(f"{peer[:64]!r} is no peer id: {error}.") from None
