"""Who gets in, and who gives way, when strangers take all the places of a node."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.testing

from hypercluster.node.errors import NodeError, PeerUnreachable
from hypercluster.node.network.budgets import BOUNDS, OverBudget
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.direct import dial_direct
from hypercluster.node.network.gate import Entrant, Gate
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.places import SETTLED_SECONDS, NoPlace, Places
from hypercluster.node.network.steps import serve_steps
from hypercluster.node.network.strangers import StrangersTime
from hypercluster.node.network.stream import Stream
from hypercluster.node.network.swarm import HostLimits, close_connection

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/test/echo/1.0.0"


def gate(*, at_once: int = 100, per_second: float = 10.0, burst: float = 2.0) -> Gate:
    return Gate(
        StrangersTime(), handshake=replace(BOUNDS["handshake"], at_once=at_once, total=(per_second, burst))
    )


async def test_blocks_take_turns_and_the_newest_of_a_block_is_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    entrance, order = gate(), list[str]()

    async def come(name: str, ip: str) -> None:
        with entrance.entering(ip) as entrant:
            await entrance.turn(entrant)
            order.append(name)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(come, f"a{number}", "8.8.8.8")
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(come, "b", "9.9.9.9")
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        porter = trio.CancelScope()

        async def run() -> None:
            with porter:
                await entrance.run()

        nursery.start_soon(run)
        while len(order) < 7:
            await trio.sleep(0.01)
        porter.cancel()
    assert order == ["a5", "b", "a4", "a3", "a2", "a1", "a0"]
    # Two at once, and ten a second from then on.
    assert trio.current_time() - start == pytest.approx(0.5, abs=0.05)
    assert len(entrance) == 0


async def test_the_oldest_of_the_block_that_holds_most_gives_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    entrance, gone = gate(at_once=4), list[str]()

    async def stay(name: str, ip: str) -> None:
        with entrance.entering(ip):
            await trio.sleep_forever()
        gone.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stay, "honest", "9.9.9.9")
        await trio.testing.wait_all_tasks_blocked()
        for number in range(10):
            nursery.start_soon(stay, f"a{number}", "8.8.8.8")
            await trio.testing.wait_all_tasks_blocked()
        assert gone == [f"a{number}" for number in range(7)]
        assert len(entrance) == 4
        # Whoever says nothing is let go after ten seconds.
        await trio.sleep(10.1)
        assert len(entrance) == 0


async def test_who_has_its_turn_stays_before_those_who_wait(autojump_clock: trio.testing.MockClock) -> None:
    entrance, gone = gate(at_once=3), list[str]()

    async def stay(name: str, *, served: bool) -> None:
        with entrance.entering("8.8.8.8") as entrant:
            if served:
                entrant.turn.set()
            await trio.sleep_forever()
        gone.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(stay, "served", served=True))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(5):
            nursery.start_soon(partial(stay, f"a{number}", served=False))
            await trio.testing.wait_all_tasks_blocked()
        assert gone == ["a0", "a1", "a2"]
        nursery.cancel_scope.cancel()


async def test_a_block_that_comes_too_often_is_turned_away(autojump_clock: trio.testing.MockClock) -> None:
    entrance = gate()
    burst = int((BOUNDS["connection"].per_block or (0, 0))[1])
    for _ in range(burst):
        with entrance.entering("8.8.8.8"):
            pass
    with pytest.raises(OverBudget), entrance.entering("8.8.8.9"):
        raise AssertionError
    with entrance.entering("9.9.9.9") as entrant:
        assert isinstance(entrant, Entrant)


async def test_places_go_from_the_lowest_and_of_them_from_who_holds_most(
    autojump_clock: trio.testing.MockClock,
) -> None:
    standing = {"payer": 2, "staked": 1}
    places, gone = Places(6, 3, lambda peer: standing.get(peer, 0)), list[str]()

    async def stay(peer: str) -> None:
        with places.holding(peer):
            await trio.sleep_forever()
        gone.append(peer)

    async def take(peer: str) -> None:
        nursery.start_soon(stay, peer)
        await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        for peer in ("payer", "quiet", "greedy", "greedy", "greedy", "staked"):
            await take(peer)
        with pytest.raises(NoPlace), places.holding("greedy"):
            raise AssertionError
        await take("new")
        assert gone == ["greedy"]
        for peer in ("payer", "payer", "staked", "staked"):
            await take(peer)
        assert sorted(gone[1:]) == ["greedy", "greedy", "new", "quiet"]
        with pytest.raises(NoPlace), places.holding("late"):
            raise AssertionError
        standing["late"] = 1
        await take("late")
        assert gone[-1] == "staked"
        assert [places.held(peer) for peer in ("payer", "staked", "late", "quiet")] == [3, 2, 1, 0]
        nursery.cancel_scope.cancel()


async def hold(host: Host, server: Host) -> Stream:
    stream = await host.open_stream(server.peer, ECHO, server.addrs)
    await stream.write(b"x")
    assert await stream.read() == b"x"
    return stream


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


async def test_silent_connections_at_the_direct_port_lock_nobody_out() -> None:
    async def handler(connection: Connection) -> None:
        with suppress(NodeError):
            await connection.receive(10)

    limits = HostLimits(handshakes=8)
    async with (
        running_host(secrets.token_bytes(32), [ANY], limits=limits) as server,
        running_host(secrets.token_bytes(32)) as client,
    ):
        direct = await serve_steps(server, handler, direct_listen=ANY)
        port = int(direct.rsplit("/", 1)[1])
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(30)]
        # Some have begun a handshake that they will not go on with.
        for stranger in silent[-4:]:
            await stranger.send_all(b"\0\x20" + secrets.token_bytes(32))
            await stranger.receive_some(1000)
        with trio.fail_after(300):
            assert await silent[0].receive_some(1) == b""
        for _ in range(3):
            await (await dial_direct(client, server.peer, direct, 5)).close()
        for stranger in silent:
            await trio.aclose_forcefully(stranger)
        with trio.fail_after(300):
            while len(server.gate):
                await trio.sleep(0.02)


async def test_silent_connections_at_the_libp2p_port_lock_nobody_out() -> None:
    async with running_host(secrets.token_bytes(32), [ANY], limits=HostLimits(handshakes=8)) as server:
        server.serve(ECHO, echo)
        port = int(server.addrs[0].rsplit("/", 1)[1])
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(30)]
        async with running_host(secrets.token_bytes(32)) as client:
            await (await hold(client, server)).close()
        with trio.fail_after(300):
            assert await silent[0].receive_some(1) == b""
        for stranger in silent:
            await trio.aclose_forcefully(stranger)


async def test_when_connections_are_full_an_idle_stranger_goes() -> None:
    limits = HostLimits(connections=4)
    async with (
        running_host(secrets.token_bytes(32), [ANY], limits=limits) as server,
        running_host(secrets.token_bytes(32), [ANY]) as contact,
        AsyncExitStack() as stack,
    ):
        server.serve(ECHO, echo)

        async def another() -> Host:
            return await stack.enter_async_context(running_host(secrets.token_bytes(32)))

        await server.connect(contact.peer, contact.addrs)
        payer, busy, idle = await another(), await another(), await another()
        server.class_of = lambda peer: 2 * (peer == payer.peer)
        await payer.connect(server.peer, server.addrs)
        kept = await hold(busy, server)
        await idle.connect(server.peer, server.addrs)
        await trio.sleep(SETTLED_SECONDS + 0.1)
        late = [await another() for _ in range(3)]
        for host in late:
            await (await hold(host, server)).close()
        assert set(server.peers) == {contact.peer, payer.peer, busy.peer, late[-1].peer}
        await kept.write(b"still there")
        assert await kept.read() == b"still there"
        # A payer gets in where all the others are known, a stranger does not.
        server.class_of = lambda peer: 2 * (peer in (payer.peer, idle.peer, busy.peer, late[-1].peer))
        await trio.sleep(1.1)
        await hold(idle, server)
        with pytest.raises(PeerUnreachable):
            await hold(await another(), server)


async def test_who_does_not_read_the_goodbye_is_cut_off_all_the_same() -> None:
    async with (
        running_host(secrets.token_bytes(32), [ANY]) as server,
        running_host(secrets.token_bytes(32)) as client,
    ):
        await client.connect(server.peer, server.addrs)
        with trio.fail_after(300):
            while not server.peers:
                await trio.sleep(0.02)
        (connection,) = server.basic.get_network().get_connections()
        # As if an earlier message waited for room in a window that the other side never opens.
        async with connection.muxed_conn._write_lock:  # type: ignore[attr-defined]
            with trio.fail_after(300):
                await close_connection(connection)
                while client.peers:
                    await trio.sleep(0.02)


def test_what_a_host_holds_is_what_the_table_says() -> None:
    limits = HostLimits()
    assert limits.connections == BOUNDS["connection"].at_once
    assert limits.handshakes == BOUNDS["handshake"].at_once
    assert limits.handshake_seconds == BOUNDS["handshake"].seconds
    assert limits.streams == BOUNDS["stream"].at_once
    assert limits.streams_per_peer == BOUNDS["stream"].at_once_per_peer
