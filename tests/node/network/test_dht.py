"""What anybody can put into the DHT of a node, and what it costs to be read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import trio
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo

from hypercluster.node.identity import peer_of_key
from hypercluster.node.network import dht
from hypercluster.node.network.dht import Dht, Records
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.stream import LOST
from tests.node.helpers.offers import new_key

ANY = ["/ip4/127.0.0.1/tcp/0"]
KEY = bytes.fromhex("1220" + "ab" * 32)


def provider() -> PeerInfo:
    return PeerInfo(ID.from_base58(peer_of_key(new_key())), [])


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with running_host(new_key(), ANY) as host:
        yield host


def test_records_of_strangers_do_not_push_out_whom_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht, "MOST_PER_MODEL", 4)
    monkeypatch.setattr(dht, "MOST_RECORDS", 10)
    known = provider()
    store = ProviderStore.__new__(ProviderStore)
    store.providers = {}
    records = Records(store, lambda peer: peer == str(known.peer_id))
    records.add(KEY, known)
    for _ in range(20):
        records.add(KEY, provider())
    assert len(store.providers[KEY]) == 4
    assert str(known.peer_id) in store.providers[KEY]
    # A newcomer finds a place, and the newest are those that are left.
    newcomer = provider()
    records.add(KEY, newcomer)
    assert str(newcomer.peer_id) in store.providers[KEY]
    for number in range(50):
        records.add(number.to_bytes(34, "big"), provider())
    assert sum(map(len, store.providers.values())) <= 10
    assert list(store.providers[KEY]) == [str(known.peer_id)]
    before = store.providers[KEY][str(known.peer_id)].timestamp
    time.sleep(0.01)
    records.add(KEY, known)
    assert store.providers[KEY][str(known.peer_id)].timestamp > before


def framed(message: Message) -> bytes:
    body = message.SerializeToString()
    assert len(body) < 128
    return bytes([len(body)]) + body


async def test_one_stream_is_read_for_so_long_and_no_longer(host: Host) -> None:
    served = Dht(host)
    question = framed(Message(type=Message.MessageType.GET_PROVIDERS, key=KEY))
    async with served.running(), running_host(new_key()) as other:
        stream = await other.open_stream(host.peer, PROTOCOL_ID, host.addrs)
        got = 0
        with trio.fail_after(300):
            try:
                await stream.write(question * 500)
                while data := await stream.read():
                    got += len(data)
            except LOST:
                pass
        assert got > 0
        stream = await other.open_stream(host.peer, PROTOCOL_ID, host.addrs)
        await stream.write(question)
        assert await stream.read()
        await stream.reset()


async def test_no_values_are_kept(host: Host) -> None:
    served = Dht(host)
    with pytest.raises(ValueError, match="not kept"):
        served._dht.value_store.put_record(b"/pk/x", None)  # type: ignore[arg-type]
