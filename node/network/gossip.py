"""Adverts and rumours by GossipSub, a topic of each for every model, with every message checked before it goes any
further.

The envelope is unsigned and named by its content: adverts are signed themselves, and so the same advert is
the same message whoever sends it. Peers that pass on forgeries are cut off, and of peers that send too much
the rest is dropped.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb.rpc_pb2 import Message
from libp2p.pubsub.pubsub import ContentAddressedMessageIDGenerator, Pubsub
from libp2p.tools.anyio_service import background_trio_service

from hypercluster.node.errors import ErrorCode, ForgedAdvert, ForgedRumour, NodeError, WireError
from hypercluster.node.network.host import Host
from hypercluster.node.network.rate import Rate

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 3
"""between looks at the mesh; with each a node tells its neighbours what it has: most of what an idle one does"""
FORGERIES = 10
"""a peer that passed on so many is cut off"""
_MOST_CUT_OFF = 10_000
_MAX_BYTES = 8 * 1024

Accept = Callable[[bytes], Awaitable[None]]
"""Takes a message in, or raises NodeError if it must not be passed on."""


TOPIC = "/hypercluster/adverts/3/{model_id}"
RUMOURS = "/hypercluster/evidence/1/{model_id}"
_TOPICS = re.compile("|".join(topic.format(model_id="[0-9a-f]{64}") for topic in (TOPIC, RUMOURS)))


class _ModelTopics(frozenset[str]):
    """The topics of all models: those of a peer are remembered, for the model may be taken up later."""

    def __contains__(self, topic: object) -> bool:
        return isinstance(topic, str) and _TOPICS.fullmatch(topic) is not None


class Gossip:
    """Adverts of the models that are followed, and rumours about who serves them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._accept: dict[str, Accept] = {}
        self._nursery: trio.Nursery | None = None
        self._forgeries = Rate(1 / 3600, FORGERIES - 1)
        self._cut_off: deque[ID] = deque()
        # Its own spam protection counts our messages too and drops beyond 10/s; its scores are all neutral.
        self._router = GossipSub(
            [PROTOCOL_ID_V11],
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=HEARTBEAT_SECONDS,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self._pubsub = Pubsub(
            host.basic,
            self._router,
            strict_signing=False,
            msg_id_constructor=ContentAddressedMessageIDGenerator(),
            max_inbound_rpc_size=256 * 1024,
        )
        self._pubsub.allowed_topics = _ModelTopics()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Subscribe, listen and pass on."""
        async with (
            background_trio_service(self._pubsub),
            background_trio_service(self._router),
            trio.open_nursery() as nursery,
        ):
            await self._pubsub.wait_until_ready()
            self._nursery = nursery
            for topic in self._accept:
                await self._subscribe(nursery, topic)
            for peer in self._host.peers:
                nursery.start_soon(self._pubsub.ensure_peer_stream, ID.from_base58(peer))
            try:
                yield
            finally:
                self._nursery = None
            nursery.cancel_scope.cancel()

    async def follow(self, model_id: str, accept: Accept, topic: str = TOPIC) -> None:
        """Hear of a model's adverts, or of RUMOURS, from now on: `accept` sees each new message of others once."""
        topic = topic.format(model_id=model_id)
        self._accept[topic] = accept
        self._pubsub.set_topic_validator(topic, partial(self._validate, topic), True)
        if self._nursery is not None:
            await self._subscribe(self._nursery, topic)

    async def publish(self, model_id: str, data: bytes, topic: str = TOPIC) -> None:
        """Send a message to everybody who follows the model."""
        await self._pubsub.publish(topic.format(model_id=model_id), data)

    async def _subscribe(self, nursery: trio.Nursery, topic: str) -> None:
        subscription = await self._pubsub.subscribe(topic)

        async def drain() -> None:
            # The validator has seen them all; an unread subscription would fill up.
            async for _ in subscription:
                pass

        nursery.start_soon(drain)

    async def _validate(self, topic: str, forwarder: ID, message: Message) -> bool:
        peer = forwarder.to_base58()
        accept = self._accept.get(topic)
        if peer == self._host.peer:
            return True
        if accept is None or len(message.data) > _MAX_BYTES:
            return False
        taken = False
        try:
            rumour = topic.startswith(RUMOURS.format(model_id=""))
            with self._host.within("rumour" if rumour else "gossip", peer, ""):
                await accept(message.data)
                taken = True
        except NodeError as error:
            log.debug("a message from %s is not taken: %s", peer, error)
            if (
                isinstance(error, (ForgedAdvert, ForgedRumour, WireError))
                and error.code is not ErrorCode.UNSUPPORTED_VERSION
            ):
                self._strike(forwarder, peer)
            return False
        except Exception as error:  # noqa: BLE001 - whatever the chain raises: not now
            log.warning("a message could not be checked: %s", error)
            return False
        return taken

    def _strike(self, forwarder: ID, peer: str) -> None:
        if self._forgeries.allows(peer) or forwarder in self._cut_off:
            return
        log.info("peer %s passes on forgeries and is cut off", peer)
        self._pubsub.add_to_blacklist(forwarder)
        self._cut_off.append(forwarder)
        if len(self._cut_off) > _MOST_CUT_OFF:
            self._pubsub.remove_from_blacklist(self._cut_off.popleft())
        self._host.nursery.start_soon(self._host.disconnect, peer)
