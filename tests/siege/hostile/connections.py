"""Sockets, handshakes and streams: all that a stranger can take before it has said who it is, and just after."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from hypercluster.node.network.addresses import split_tcp
from hypercluster.node.network.direct import dial_direct
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.wire.messages import INFER_PROTOCOL
from tests.siege.hostile.identities import STARTED, identities, on_and_on, strangers
from tests.siege.tally import Tally
from tests.siege.target import Target, advert_of

if TYPE_CHECKING:
    from trio_typing import TaskStatus

DRIP_SECONDS = 3.0
"""between two bytes of somebody who is slow on purpose"""
MULTISTREAM = b"\x13/multistream/1.0.0\n\x07/noise\n"
"""with which a libp2p connection begins that goes on with Noise"""
CONNECT_SECONDS = 10.0


async def direct_of(target: Target) -> str:
    """The address of its fast listener."""
    async with running_host(secrets.token_bytes(32)) as host:
        return (await advert_of(host, target)).direct


@asynccontextmanager
async def socket_to(address: str) -> AsyncIterator[trio.SocketStream]:
    """A bare TCP connection to a multiaddr, cut at the end."""
    name, port = split_tcp(address)
    with trio.fail_after(CONNECT_SECONDS):
        stream = await trio.open_tcp_stream(name, port)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def until_cut(stream: trio.SocketStream) -> str:
    """How long the other side kept a connection on which nothing comes any more."""
    since = trio.current_time()
    while await stream.receive_some(65_536):
        pass
    return f"cut after {5 * round((trio.current_time() - since) / 5)} s"


async def _to_both(
    target: Target,
    strength: int,
    tally: Tally,
    started: TaskStatus[None],
    act: Callable[[trio.SocketStream, bool], Awaitable[str]],
) -> None:
    """`act` on bare sockets, every other one to the fast listener."""
    direct = await direct_of(target)

    async def once(index: int) -> str:
        fast = bool(index % 2 and direct)
        async with socket_to(direct if fast else target.addrs[0]) as stream:
            tally.answered("connected")
            return await act(stream, fast)

    await on_and_on(strength, once, tally, started)


async def connect_and_wait(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """TCP connections that never say a word."""
    await _to_both(target, strength, tally, task_status, lambda stream, _fast: until_cut(stream))


async def half_open_handshakes(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Noise handshakes of which the first message comes and the last one does not."""

    async def act(stream: trio.SocketStream, fast: bool) -> str:
        if not fast:
            await stream.send_all(MULTISTREAM)
            await stream.receive_some(65_536)
        # The first message of XX is a fresh public key; any 32 bytes are one.
        await stream.send_all((32).to_bytes(2, "big") + os.urandom(32))
        return await until_cut(stream)

    await _to_both(target, strength, tally, task_status, act)


async def dripping_handshakes(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """The beginning of a handshake, a byte now and then."""

    async def act(stream: trio.SocketStream, fast: bool) -> str:
        start = (32).to_bytes(2, "big") + os.urandom(32)
        since = trio.current_time()
        for byte in start if fast else MULTISTREAM + start:
            await stream.send_all(bytes([byte]))
            with trio.move_on_after(DRIP_SECONDS):
                if not await stream.receive_some(65_536):
                    break
        return f"cut after {5 * round((trio.current_time() - since) / 5)} s"

    await _to_both(target, strength, tally, task_status, act)


async def garbage(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Random bytes instead of a handshake."""

    async def act(stream: trio.SocketStream, fast: bool) -> str:
        await stream.send_all(os.urandom(2_000))
        return await until_cut(stream)

    await _to_both(target, strength, tally, task_status, act)


async def churn_handshakes(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Whole handshakes with the fast listener, and the connection cut: the node computes for each."""
    async with strangers(identities(strength)) as hosts:
        direct = (await advert_of(hosts[0], target)).direct

        async def act(index: int) -> str:
            secure = await dial_direct(hosts[index % len(hosts)], target.peer, direct, CONNECT_SECONDS)
            await trio.aclose_forcefully(secure._socket)
            return "handshake"

        await on_and_on(strength, act, tally, task_status)


async def churn_connections(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Whole libp2p connections under a new name each, dropped at once."""

    async def act(index: int) -> str:
        async with running_host(secrets.token_bytes(32)) as host:
            await host.connect(target.peer, target.addrs, CONNECT_SECONDS)
        return "connection"

    # Each holds a host of its own: a tenth as many do.
    await on_and_on(identities(strength), act, tally, task_status)


async def sit_on_connections(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Direct connections that hold their place with an authenticated name and say nothing."""
    async with strangers(identities(strength)) as hosts:
        direct = (await advert_of(hosts[0], target)).direct

        async def act(index: int) -> str:
            since = trio.current_time()
            secure = await dial_direct(hosts[index % len(hosts)], target.peer, direct, CONNECT_SECONDS)
            tally.answered("handshake")
            try:
                while await secure.read():
                    pass
            finally:
                await trio.aclose_forcefully(secure._socket)
            return f"cut after {5 * round((trio.current_time() - since) / 5)} s"

        await on_and_on(strength, act, tally, task_status)


async def crowd_of_names(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """libp2p connections that stay, each under a name of its own: as many names as connections, 300 at most."""

    async def act(index: int) -> str:
        async with running_host(secrets.token_bytes(32)) as host:
            await host.connect(target.peer, target.addrs, CONNECT_SECONDS)
            tally.answered("connection")
            while host.peers:
                await trio.sleep(1)
        return "dropped"

    await on_and_on(min(300, strength), act, tally, task_status)


async def streams_without_end(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Streams of the inference protocol on which nothing comes, as many as a peer gets."""
    async with strangers(identities(strength)) as hosts:

        async def act(index: int) -> str:
            return await _stream_held(hosts[index % len(hosts)], target, INFER_PROTOCOL, tally)

        await on_and_on(strength, act, tally, task_status)


async def _stream_held(host: Host, target: Target, protocol: str, tally: Tally) -> str:
    since = trio.current_time()
    stream = await host.open_stream(target.peer, protocol, target.addrs, CONNECT_SECONDS)
    tally.answered("stream")
    try:
        while await stream.read():
            pass
    finally:
        await stream.reset()
    return f"cut after {5 * round((trio.current_time() - since) / 5)} s"
