"""Floods of the DHT: who serves this, they serve that, and where is everybody."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID

from hypercluster.node.network.host import Host
from hypercluster.node.wire.framing import encode_length
from tests.siege.hostile.connections import CONNECT_SECONDS
from tests.siege.hostile.identities import STARTED, identities, on_and_on, strangers
from tests.siege.tally import Tally
from tests.siege.target import Target

if TYPE_CHECKING:
    from trio_typing import TaskStatus


def provider_record(host: Host) -> Message:
    """`host` says that it serves a key nobody has heard of."""
    record = Message()
    record.type = Message.ADD_PROVIDER
    record.key = b"\x12\x20" + os.urandom(32)
    peer = record.providerPeers.add()
    peer.id = ID.from_base58(host.peer).to_bytes()
    peer.addrs.append(bytes.fromhex("047f000001060009"))  # /ip4/127.0.0.1/tcp/9
    return record


def value_record(host: Host) -> Message:
    """A value of 8 KiB to be stored."""
    record = Message()
    record.type = Message.PUT_VALUE
    record.key = b"/pk/" + hashlib.sha256(os.urandom(32)).digest()
    record.record.key = record.key
    record.record.value = os.urandom(8192)
    return record


def question(host: Host) -> Message:
    """Who is near here?"""
    record = Message()
    record.type = Message.FIND_NODE
    record.key = os.urandom(32)
    return record


KINDS = (provider_record, value_record, question)


async def flood_records(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Provider records, values and questions in turn, each on a stream of its own."""
    async with strangers(identities(strength)) as hosts:

        async def act(index: int) -> str:
            host, kind = hosts[index % len(hosts)], KINDS[index % len(KINDS)]
            body = kind(host).SerializeToString()
            stream = await host.open_stream(target.peer, PROTOCOL_ID, target.addrs, CONNECT_SECONDS)
            try:
                await stream.write(encode_length(len(body)) + body)
                return f"{kind.__name__} {'answered' if await stream.read() else 'dropped'}"
            finally:
                await stream.reset()

        await on_and_on(strength, act, tally, task_status)
