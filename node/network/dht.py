"""Who serves a model: provider records in the Kademlia DHT.

py-libp2p's own `find_providers` is content with any record it holds already, so a node that knows one
provider would never hear of a second; here every lookup asks the network.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.tools.anyio_service import background_trio_service

from hypercluster.node.network.host import Host
from hypercluster.node.network.stream import LOST

log = logging.getLogger(__name__)

_QUERY_SECONDS = 5.0
_ASKED_AT_ONCE = 4
_SHA2_256 = "1220"  # multihash prefix: the model id is a SHA-256


class Dht:
    """This host's part in the DHT: a server if it listens, a client otherwise."""

    def __init__(self, host: Host) -> None:
        self._host = host
        mode = DHTMode.SERVER if host.addrs else DHTMode.CLIENT
        # The cap per subnet would keep all but a few nodes of one machine or office out.
        self._dht = KadDHT(host.basic, mode, strict_validation=True, max_peers_per_subnet=0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take part in the DHT."""
        async with background_trio_service(self._dht):
            yield

    async def join(self, peer: str) -> None:
        """Take a connected peer that serves the DHT into the routing table."""
        await self._dht.add_peer(ID.from_base58(peer), skip_server_mode_check=True)

    async def provide(self, model_id: str) -> bool:
        """Announce that this host serves the model. False while there is nobody to tell."""
        return await self._dht.provide(_SHA2_256 + model_id)

    async def providers(self, model_id: str, limit: int = 64) -> dict[str, tuple[str, ...]]:
        """Peer ids and multiaddrs of hosts that announced the model, at most `limit`, this one left out.

        What comes back is hearsay: a record outlives its provider by up to a day.
        """
        key = bytes.fromhex(_SHA2_256 + model_id)
        store = self._dht.provider_store
        found: dict[str, tuple[str, ...]] = {}

        def note(infos: list[PeerInfo]) -> None:
            for info in infos:
                peer = info.peer_id.to_base58()
                if peer != self._host.peer and (peer in found or len(found) < limit):
                    known = found.get(peer, ())
                    found[peer] = tuple(dict.fromkeys([*known, *(str(addr) for addr in info.addrs)]))[:8]

        note(store.get_providers(key))
        closest = await self._dht.peer_routing.find_closest_peers_network(key)
        limiter = trio.CapacityLimiter(_ASKED_AT_ONCE)

        async def ask(peer: ID) -> None:
            async with limiter:
                try:
                    with trio.move_on_after(_QUERY_SECONDS):
                        note((await store._get_providers_from_peer_with_closers(peer, key))[0])
                except LOST as error:
                    log.debug("asking %s for providers: %s", peer, error)

        async with trio.open_nursery() as nursery:
            for peer in closest:
                if peer.to_base58() != self._host.peer:
                    nursery.start_soon(ask, peer)
        return found
