"""Who serves a model: provider records in the Kademlia DHT.

py-libp2p's own `find_providers` is content with any record it holds already, so a node that knows one
provider would never hear of a second; here every lookup asks the network. It also keeps whatever anybody puts,
and reads from a stream for as long as something comes; here both are bounded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
from libp2p.abc import INetStream
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.provider_store import ProviderRecord, ProviderStore
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.tools.anyio_service import background_trio_service

from hypercluster.node.network.host import Host
from hypercluster.node.network.stream import LOST, Stream

log = logging.getLogger(__name__)

_QUERY_SECONDS = 5.0
_ASKED_AT_ONCE = 4
MOST_RECORDS = 4096
"""of providers, of all models"""
MOST_PER_MODEL = 64
_MOST_READS = 24
"""in one stream: a request takes three, and a node of this network sends one"""
_MOST_BYTES = 64 * 1024
_SHA2_256 = "1220"  # multihash prefix: the model id is a SHA-256


class Records:
    """Keeps what a provider store of py-libp2p holds within bounds.

    When there are too many, the oldest goes whose provider has no stake as far as `is_familiar` knows, and of all of
    them the oldest if there is none. Providers announce themselves again before long.
    """

    def __init__(self, store: ProviderStore, is_familiar: Callable[[str], bool]) -> None:
        self._store = store
        self._is_familiar = is_familiar
        self._order: dict[tuple[bytes, str], None] = {}
        """oldest first; what py-libp2p let expire may still be in it"""
        store.add_provider = self.add  # type: ignore[method-assign]

    def add(self, key: bytes, provider: PeerInfo) -> None:
        """Keep or refresh a record."""
        peer, held = str(provider.peer_id), self._store.providers
        self._order.pop((key, peer), None)
        records = held.get(key, {})
        if peer not in records and len(records) >= MOST_PER_MODEL:
            self._drop_one(
                [(key, each) for each in sorted(records, key=lambda each: records[each].timestamp)]
            )
        elif len(self._order) >= MOST_RECORDS:
            self._drop_one(self._order)
        self._order[key, peer] = None
        held.setdefault(key, {})[peer] = ProviderRecord(provider_info=provider, timestamp=time.time())

    def _drop_one(self, oldest_first: Collection[tuple[bytes, str]]) -> None:
        strangers = (each for each in oldest_first if not self._is_familiar(each[1]))
        key, peer = next(strangers, next(iter(oldest_first)))
        self._order.pop((key, peer), None)
        records = self._store.providers.get(key, {})
        records.pop(peer, None)
        if not records:
            self._store.providers.pop(key, None)


class _Short:
    """A stream of which so much is read and no more; for the rest the stream itself."""

    def __init__(self, inner: INetStream) -> None:
        self._inner = inner
        self._reads = 0
        self._bytes = 0

    async def read(self, n: int | None = None) -> bytes:
        self._reads += 1
        if self._reads > _MOST_READS or self._bytes > _MOST_BYTES:
            return b""
        data = await self._inner.read(n)
        self._bytes += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _keep_no_value(key: bytes, record: object) -> None:
    raise ValueError("values are not kept here")


class Dht:
    """This host's part in the DHT: a server if it listens, a client otherwise."""

    def __init__(self, host: Host) -> None:
        self._host = host
        mode = DHTMode.SERVER if host.addrs else DHTMode.CLIENT
        # The cap per subnet would keep all but a few nodes of one machine or office out.
        self._dht = KadDHT(host.basic, mode, strict_validation=True, max_peers_per_subnet=0)
        self._records = Records(self._dht.provider_store, lambda peer: host.is_familiar(peer))
        self._dht.value_store.put_record = _keep_no_value  # type: ignore[method-assign]
        if mode is DHTMode.SERVER:
            host.basic.set_stream_handler(PROTOCOL_ID, self._answer)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take part in the DHT."""
        async with background_trio_service(self._dht):
            yield

    async def _answer(self, inner: INetStream) -> None:
        stream = Stream(inner)
        with self._host.within("dht", stream.peer, stream.ip):
            await self._dht.handle_stream(cast(INetStream, _Short(inner)))

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
