"""Nodes find each other over real connections, in one process and across several; floods do not hurt."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb.rpc_pb2 import RPC, Message

from hypercluster.node.errors import AdvertError, ConnectionLost, HostError, NodeError
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network import gossip
from hypercluster.node.network.budgets import BOUNDS
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Eligible, anyone
from hypercluster.node.network.gossip import TOPIC
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.latency import UNREACHABLE_MS, Latencies, ping
from hypercluster.node.network.membership import Pace
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.network.stream import LOST
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.framing import Frames, encode_length
from hypercluster.node.wire.messages import ADVERT_PROTOCOL, SignedAdvert
from tests.node.helpers.offers import MODEL, advert_of, new_key, offer_of

LOCAL = ["/ip4/127.0.0.1/tcp/0"]
PACE = Pace(first=0.1, steady=1.0, ask=3.0, silent=1.0)
ROOT = Path(__file__).resolve().parents[3]
TOPIC_OF_MODEL = TOPIC.format(model_id=MODEL)


@asynccontextmanager
async def node(
    key: bytes | None = None,
    bootstrap: list[str] | None = None,
    listen: bool = True,
    eligible: Eligible = anyone,
    mdns: bool = False,
) -> AsyncIterator[tuple[Host, Discovery]]:
    async with running_host(key or new_key(), LOCAL if listen else ()) as host:
        book = OrderBook(MODEL, eligible)
        discovery = Discovery.alone(host, book, bootstrap=bootstrap or [], pace=PACE, mdns=mdns)
        async with discovery.running():
            yield host, discovery


def address(host: Host) -> str:
    return f"{host.addrs[0]}/p2p/{host.peer}"


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.02)


async def test_providers_and_a_client_find_each_other() -> None:
    async with AsyncExitStack() as stack:
        first, discovery = await stack.enter_async_context(node())
        await discovery.publish(offer_of(first.key, first.addrs))
        nodes = [(first, discovery)]
        for _ in range(4):
            host, discovery = await stack.enter_async_context(node(bootstrap=[address(first)]))
            await discovery.publish(offer_of(host.key, host.addrs))
            nodes.append((host, discovery))
        client = await stack.enter_async_context(node(bootstrap=[address(first)], listen=False))
        peers = {host.peer for host, _ in nodes}
        for _, discovery in [*nodes, client]:
            await until(lambda d=discovery: {advert.peer for advert in d.book.snapshot()} == peers)  # type: ignore[misc]


async def test_a_refresh_reaches_everybody_by_gossip() -> None:
    async with (
        node() as (first, one),
        node(bootstrap=[address(first)]) as (host, two),
        node(bootstrap=[address(first)], listen=False) as (_, client),
    ):
        await one.publish(offer_of(first.key, first.addrs))
        await two.publish(offer_of(host.key, host.addrs))
        await until(lambda: len(client.book.snapshot()) == 2)
        await until(lambda: first.peer in host.peers)
        for price in (7, 8, 9):
            await trio.sleep(1.1)
            await two.publish(offer_of(host.key, host.addrs, price_wei=price))
        for discovery in (one, client):
            await until(lambda d=discovery: (a := d.book.get(host.peer)) is not None and a.price_wei == 9)  # type: ignore[misc]


async def test_a_dead_provider_vanishes_and_comes_back() -> None:
    key = new_key()
    async with node() as (first, _), node(bootstrap=[address(first)], listen=False) as (_, client):
        async with node(key, [address(first)]) as (host, provider):
            now = int(advert_of(key).issued)
            await provider.publish(offer_of(key, host.addrs, issued=now, expires=now + 4))
            await until(lambda: client.book.get(host.peer) is not None)
        await until(lambda: client.book.get(host.peer) is None)
        async with node(key, [address(first)]) as (host, provider):
            await provider.publish(offer_of(key, host.addrs))
            await until(lambda: client.book.get(host.peer) is not None)


async def test_a_bootstrap_that_comes_up_later() -> None:
    key = new_key()
    async with running_host(key, LOCAL) as reserved:
        listen = reserved.addrs
    there = f"{listen[0]}/p2p/{peer_of_key(key)}"
    async with node(bootstrap=[there], listen=False) as (_, client):
        await trio.sleep(0.3)
        async with running_host(key, listen) as host:
            discovery = Discovery.alone(host, OrderBook(MODEL, anyone), pace=PACE)
            async with discovery.running():
                await discovery.publish(offer_of(key, host.addrs))
                await until(lambda: client.book.get(host.peer) is not None)


async def test_no_stake_no_place() -> None:
    async def nobody(_node: str, _operator: str) -> None:
        return None

    async with (
        node() as (first, provider),
        node(bootstrap=[address(first)], listen=False, eligible=nobody) as (_, client),
    ):
        await provider.publish(offer_of(first.key, first.addrs))
        with pytest.raises(AdvertError, match="may not serve"):
            await client.ask(first.peer, first.addrs)
        assert client.book.snapshot() == []


async def test_asking_somebody_without_an_advert() -> None:
    async with node() as (first, _), node(listen=False) as (_, client):
        with pytest.raises(NodeError):
            await client.ask(first.peer, first.addrs)


async def test_passing_off_the_advert_of_another() -> None:
    async with running_host(new_key(), LOCAL) as liar, node(listen=False) as (_, client):

        async def lie(stream: object) -> None:
            await Frames(stream).send(encode(offer_of(new_key())))  # type: ignore[arg-type]

        liar.serve(ADVERT_PROTOCOL, lie)
        with pytest.raises(AdvertError, match="something else"):
            await client.ask(liar.peer, liar.addrs)


async def test_a_bootstrap_without_a_peer() -> None:
    async with running_host(new_key()) as host:
        with pytest.raises(HostError, match="/p2p/"):
            Discovery.alone(host, OrderBook(MODEL, anyone), bootstrap=["/ip4/127.0.0.1/tcp/4001"])


async def test_an_error_inside_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with node():
            raise KeyError("on purpose")


def rpc(*bodies: bytes) -> bytes:
    messages = [
        Message(data=body, topicIDs=[TOPIC_OF_MODEL], from_id=b"x", seqno=index.to_bytes(8, "big"))
        for index, body in enumerate(bodies)
    ]
    data = RPC(publish=messages).SerializeToString()
    return encode_length(len(data)) + data


@asynccontextmanager
async def flooder(target: Host) -> AsyncIterator[Callable[[bytes], object]]:
    """A peer that speaks GossipSub by hand and sends what it likes."""
    async with running_host(new_key()) as host:
        stream = await host.open_stream(target.peer, PROTOCOL_ID_V11, target.addrs)
        yield stream.write


async def test_forgeries_are_not_taken_and_their_sender_is_cut_off() -> None:
    async with node() as (host, discovery):
        await discovery.publish(offer_of(host.key, host.addrs))
        forged = []
        for _ in range(gossip.FORGERIES + 5):
            signed = offer_of(new_key())
            forged.append(
                encode(SignedAdvert(signed.body, bytes([signed.signature[0] ^ 1]) + signed.signature[1:]))
            )
        async with flooder(host) as write:
            await until(lambda: len(host.peers) == 1)
            await write(rpc(*forged))  # type: ignore[misc]
            await until(lambda: not host.peers)
        assert [advert.peer for advert in discovery.book.snapshot()] == [host.peer]


async def test_a_flood_of_gossip_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BOUNDS, "gossip", replace(BOUNDS["gossip"], per_peer=(1, 20)))
    async with node() as (host, discovery), node(bootstrap=[address(host)]) as (other, honest):
        await until(lambda: other.peer in host.peers)
        async with flooder(host) as write:
            adverts = [encode(offer_of(new_key())) for _ in range(200)]
            for start in range(0, 200, 20):
                await write(rpc(*adverts[start : start + 20]))  # type: ignore[misc]
            await until(lambda: len(discovery.book.snapshot()) >= 10)
            await trio.sleep(0.3)
            assert len(discovery.book.snapshot()) <= 25
            await trio.sleep(1)
            await honest.publish(offer_of(other.key, other.addrs))
            await until(lambda: discovery.book.get(other.peer) is not None)


async def test_one_provider_cannot_refresh_without_end() -> None:
    async with node() as (host, discovery):
        key = new_key()
        adverts = [encode(offer_of(key, price_wei=price)) for price in range(100)]
        async with flooder(host) as write:
            for start in range(0, 100, 10):
                await write(rpc(*adverts[start : start + 10]))  # type: ignore[misc]
            await until(lambda: discovery.book.get(peer_of_key(key)) is not None)
            await trio.sleep(0.5)
            taken = discovery.book.get(peer_of_key(key))
            assert taken is not None
            assert taken.price_wei < 20


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 50, encode_length(1 << 30) + b"x", encode_length(9) + b"\xff" * 9, rpc(b""), rpc(b"\xff" * 9)],
    ids=["no length", "1 GiB", "no rpc", "empty message", "no message"],
)
async def test_garbage_instead_of_gossip(garbage: bytes) -> None:
    async with node() as (host, discovery), node(bootstrap=[address(host)]) as (other, honest):
        async with flooder(host) as write:
            await write(garbage)  # type: ignore[misc]
            await trio.sleep(0.2)
        await honest.publish(offer_of(other.key, other.addrs))
        await until(lambda: discovery.book.get(other.peer) is not None)


GARBAGE = [b"", b"\xff" * 300, encode_length(40) + b"\xfe" * 40, encode_length(1 << 32) + b"x"]


async def test_garbage_on_every_protocol() -> None:
    async with node() as (host, discovery), running_host(new_key()) as stranger:
        await discovery.publish(offer_of(host.key, host.addrs))
        for protocol in list(host.basic.get_mux().handlers):
            for garbage in GARBAGE:
                stream = await stranger.open_stream(host.peer, str(protocol), host.addrs)
                with suppress(ConnectionLost):
                    await stream.write(garbage)
                await trio.sleep(0.01)
                await stream.reset()
        async with running_host(new_key()) as client:
            assert await ping(client, host.peer, host.addrs) > 0


async def test_garbage_after_the_handshake() -> None:
    """Frames of the muxer itself that mean nothing, or open streams without end."""
    header = struct.Struct("!BBHII")
    choice = random.Random(1)
    frames = [
        b"\xff" * 100,
        b"".join(header.pack(0, 1, 1, 2 * n + 1, 0) for n in range(300)),
        header.pack(0, 0, 1, 1, 0xFFFFFFFF) + b"x" * 100,
        *(
            b"".join(
                header.pack(
                    0, choice.randrange(5), choice.randrange(16), choice.randrange(8), choice.randrange(40)
                )
                for _ in range(30)
            )
            for _ in range(10)
        ),
    ]
    async with node() as (host, discovery):
        await discovery.publish(offer_of(host.key, host.addrs))
        for garbage in frames:
            async with running_host(new_key()) as stranger:
                await stranger.connect(host.peer, host.addrs)
                network = stranger.basic.get_network()
                (connection,) = network.get_connections(ID.from_base58(host.peer))
                with suppress(*LOST):
                    await connection.muxed_conn.secured_conn.write(garbage)  # type: ignore[attr-defined]
                await trio.sleep(0.02)
        async with running_host(new_key()) as client:
            assert await ping(client, host.peer, host.addrs) > 0


async def test_the_advert_protocol_by_hand() -> None:
    async with node() as (host, discovery), running_host(new_key()) as client:
        signed = offer_of(host.key, host.addrs)
        await discovery.publish(signed)
        stream = await client.open_stream(host.peer, ADVERT_PROTOCOL, host.addrs)
        assert decode(await Frames(stream).receive(5)) == signed
        await stream.close()


async def test_latency() -> None:
    async with node() as (host, _), running_host(new_key()) as client:
        assert 0 < await ping(client, host.peer, host.addrs) < 1000
        latencies = Latencies(client)
        near, gone = advert_of(host.key, addrs=host.addrs), advert_of(new_key())
        await latencies.measure([near, gone])
        assert 0 < await latencies.one_way_ms(near) < 500
        assert await latencies.one_way_ms(gone) == UNREACHABLE_MS


CHILD = """
import sys, trio
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.host import running_host
from hypercluster.node.network.eligibility import anyone
from hypercluster.node.network.orderbook import OrderBook
from tests.node.helpers.offers import MODEL, new_key, offer_of

async def main():
    async with running_host(new_key(), ["/ip4/127.0.0.1/tcp/0"]) as host:
        discovery = Discovery.alone(host, OrderBook(MODEL, anyone), bootstrap=sys.argv[1:])
        async with discovery.running():
            await discovery.publish(offer_of(host.key, host.addrs))
            print(host.peer, flush=True)
            await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.slow
async def test_across_processes() -> None:
    async with node() as (host, discovery):
        children = []
        try:
            for _ in range(3):
                children.append(
                    await trio.lowlevel.open_process(
                        [sys.executable, "-c", CHILD, address(host)], stdout=subprocess.PIPE, cwd=ROOT
                    )
                )
            peers = set()
            with trio.fail_after(300):
                for child in children:
                    assert child.stdout is not None
                    peers.add((await child.stdout.receive_some(200)).decode().strip())
            await until(lambda: peers <= {advert.peer for advert in discovery.book.snapshot()}, 60)
        finally:
            for child in children:
                child.kill()
                await child.wait()
        await until(lambda: not set(host.peers) & peers)


async def test_by_multicast_dns() -> None:
    async with node(mdns=True) as (first, one), node(mdns=True) as (second, two):
        await one.publish(offer_of(first.key, first.addrs))
        await two.publish(offer_of(second.key, second.addrs))
        with trio.move_on_after(15):
            await until(lambda: one.book.get(second.peer) is not None)
            return
        pytest.skip("this machine has no multicast")


def test_peer_ids_agree_with_libp2p() -> None:
    key = new_key()
    assert ID.from_base58(peer_of_key(key)).to_base58() == peer_of_key(key)
