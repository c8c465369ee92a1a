"""The host over real connections: streams, limits, handlers that fail, peers that go away."""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from hypercluster.node.errors import ConnectionLost, HostError, PeerUnreachable, Trouble
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.stream import Stream
from hypercluster.node.network.swarm import HostLimits
from hypercluster.node.wire.framing import Frames

ECHO = "/test/echo/1.0.0"
LOCAL = ["/ip4/127.0.0.1/tcp/0"]


async def echo(stream: Stream) -> None:
    frames = Frames(stream)
    try:
        while True:
            await frames.send(await frames.receive())
    except ConnectionLost:
        pass


@asynccontextmanager
async def two(limits: HostLimits | None = None) -> AsyncIterator[tuple[Host, Host]]:
    server_key, client_key = secrets.token_bytes(32), secrets.token_bytes(32)
    async with (
        running_host(server_key, LOCAL, limits=limits) as server,
        running_host(client_key) as client,
    ):
        server.serve(ECHO, echo)
        yield server, client


async def ask(client: Host, server: Host, data: bytes = b"hello", protocol: str = ECHO) -> bytes:
    stream = await client.open_stream(server.peer, protocol, server.addrs)
    frames = Frames(stream)
    await frames.send(data)
    answer = await frames.receive(5)
    await stream.close()
    return answer


async def test_echo_and_identity() -> None:
    async with two() as (server, client):
        seen = []

        async def note(stream: Stream) -> None:
            seen.append(stream.peer)

        server.serve("/test/note/1.0.0", note)
        stream = await client.open_stream(server.peer, "/test/note/1.0.0", server.addrs)
        assert stream.peer == server.peer
        assert await stream.read() == b""
        await stream.close()
        assert seen == [client.peer]
        assert await ask(client, server, b"x" * 60_000) == b"x" * 60_000
        assert client.peers == [server.peer]


async def test_a_handler_that_raises_ends_its_stream_only() -> None:
    async with two() as (server, client):

        async def fail(stream: Stream) -> None:
            raise RuntimeError("on purpose")

        server.serve("/test/fail/1.0.0", fail)
        for _ in range(3):
            with pytest.raises((ConnectionLost, PeerUnreachable)):
                await ask(client, server, protocol="/test/fail/1.0.0")
        assert await ask(client, server) == b"hello"


async def test_an_unknown_protocol() -> None:
    async with two() as (server, client):
        with pytest.raises(PeerUnreachable, match="does not take"):
            await client.open_stream(server.peer, "/test/none/1.0.0", server.addrs)
        assert await ask(client, server) == b"hello"


async def test_too_many_streams_of_one_peer() -> None:
    async with two(HostLimits(streams_per_peer=4)) as (server, client):
        streams: list[Stream] = []

        async def hold_many() -> None:
            for _ in range(20):
                stream = await client.open_stream(server.peer, ECHO, server.addrs, timeout=5)
                frames = Frames(stream)
                await frames.send(b"x")
                await frames.receive(5)
                streams.append(stream)

        with pytest.raises((PeerUnreachable, ConnectionLost)):
            await hold_many()
        assert 1 <= len(streams) <= 4
        async with running_host(secrets.token_bytes(32)) as other:
            assert await ask(other, server) == b"hello"
        for stream in streams:
            await stream.reset()


async def test_streams_come_back_when_they_end() -> None:
    async with two(HostLimits(streams_per_peer=4)) as (server, client):
        for _ in range(30):
            assert await ask(client, server) == b"hello"


async def test_many_connections_in_turn() -> None:
    """An inbound slot is given back when its connection ends."""
    async with two(HostLimits(connections=4)) as (server, _client):
        for _ in range(12):
            async with running_host(secrets.token_bytes(32)) as other:
                assert await ask(other, server) == b"hello"
            with trio.fail_after(300):
                while server.peers:
                    await trio.sleep(0.02)


async def test_reconnects_after_the_peer_restarts() -> None:
    key = secrets.token_bytes(32)
    async with running_host(secrets.token_bytes(32)) as client:
        addrs: tuple[str, ...] = ()
        for _ in range(3):
            async with running_host(key, addrs or LOCAL) as server:
                server.serve(ECHO, echo)
                addrs = server.addrs
                assert await ask(client, server) == b"hello"
            with pytest.raises(PeerUnreachable):
                await client.open_stream(server.peer, ECHO, addrs, timeout=3)


async def test_the_next_address_is_tried() -> None:
    async with two() as (server, client):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            dead = f"/ip4/127.0.0.1/tcp/{closed.getsockname()[1]}"
        await client.connect(server.peer, ["garbage", dead, *server.addrs])
        assert await ask(client, server) == b"hello"


async def test_the_addresses_of_one_peer_are_dialled_one_at_a_time() -> None:
    """Also by who comes when the first has ended and the second is at it: the swarm would mix what they dial."""
    held, most = 0, 0

    async def hold(stream: trio.SocketStream) -> None:
        nonlocal held, most
        held += 1
        most = max(most, held)
        async with stream:
            await trio.sleep(0.1)
        held -= 1

    async def dial(times: int) -> None:
        for _ in range(times):
            with pytest.raises(PeerUnreachable):
                await client.connect(peer, [f"/ip4/127.0.0.1/tcp/{port}"])

    peer = peer_of_key(secrets.token_bytes(32))
    async with running_host(secrets.token_bytes(32)) as client, trio.open_nursery() as serving:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        serving.start_soon(trio.serve_listeners, hold, listeners)
        async with trio.open_nursery() as dialling:
            dialling.start_soon(dial, 3)
            dialling.start_soon(dial, 3)
        assert not client._dials
        serving.cancel_scope.cancel()
    assert most == 1


async def test_an_impostor_is_noticed() -> None:
    async with two() as (server, client), running_host(secrets.token_bytes(32)) as other:
        with pytest.raises(PeerUnreachable):
            await client.connect(other.peer, server.addrs)


async def test_unreachable() -> None:
    async with (
        running_host(secrets.token_bytes(32)) as client,
        running_host(secrets.token_bytes(32)) as other,
    ):
        with pytest.raises(PeerUnreachable, match="no address known"):
            await client.connect(other.peer)
        with pytest.raises(PeerUnreachable, match="nonsense"):
            await client.connect("nonsense")


async def test_a_taken_port_is_refused() -> None:
    async with running_host(secrets.token_bytes(32), LOCAL) as first:
        with pytest.raises(HostError, match="Cannot listen"):
            async with running_host(secrets.token_bytes(32), first.addrs):
                pass


@pytest.mark.parametrize("address", ["nonsense", "/ip4/1.2.3.4", "/ip4/127.0.0.1/tcp/99999"])
async def test_a_bad_listen_address(address: str) -> None:
    with pytest.raises(HostError):
        async with running_host(secrets.token_bytes(32), [address]):
            pass


async def test_an_error_inside_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with running_host(secrets.token_bytes(32), LOCAL):
            raise KeyError("on purpose")


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0" * 100, b"GET / HTTP/1.0\r\n\r\n", random.Random(1).randbytes(5000)],
    ids=["silence", "zeros", "http", "noise"],
)
async def test_garbage_before_any_handshake(garbage: bytes) -> None:
    async with two(HostLimits(handshake_seconds=1)) as (server, client):
        port = int(server.addrs[0].rsplit("/", 1)[1])
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(8)]
        for stream in streams:
            await stream.send_all(garbage)
        assert await ask(client, server) == b"hello"
        with trio.fail_after(300):
            for stream in streams:
                try:
                    while await stream.receive_some(4096):
                        pass
                except trio.BrokenResourceError:
                    pass
        assert await ask(client, server) == b"hello"


@pytest.mark.parametrize("listen", ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"])
async def test_i1_a_node_is_dialled_by_name(listen: str) -> None:
    """I1: localhost stands in /etc/hosts only; IPv6 alone is enough."""
    async with running_host(secrets.token_bytes(32), [listen]) as server:
        port = server.addrs[0].rpartition("/")[2]
        names = [f"/dns4/localhost/tcp/{port}", f"/dns/localhost/tcp/{port}"] if "ip4" in listen else []
        for address in [*names, server.addrs[0]]:
            async with running_host(secrets.token_bytes(32)) as client:
                await client.connect(server.peer, [address])
                assert client.peers == [server.peer]


async def test_a1_why_a_dial_failed() -> None:
    """A1: refused, another peer, an unknown host and somebody else's port are told apart."""
    async with (
        running_host(secrets.token_bytes(32), LOCAL) as server,
        running_host(secrets.token_bytes(32)) as client,
    ):
        other = peer_of_key(secrets.token_bytes(32))
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def hang_up(stream: trio.SocketStream) -> None:
            await stream.send_all(b"220 mail.example.org ESMTP\r\n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, hang_up, listeners)
            stranger = listeners[0].socket.getsockname()[1]
            for address, trouble in (
                ("/ip4/127.0.0.1/tcp/9", Trouble.REFUSED),
                (server.addrs[0], Trouble.WRONG_PEER),
                ("/dns4/no-such-host.invalid/tcp/4001", Trouble.UNKNOWN_HOST),
                (f"/ip4/127.0.0.1/tcp/{stranger}", Trouble.NO_NODE),
            ):
                with pytest.raises(PeerUnreachable) as failed:
                    await client.connect(other, [address])
                assert failed.value.trouble is trouble, failed.value
            nursery.cancel_scope.cancel()
