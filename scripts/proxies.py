"""Proxies that hand on every byte after a delay, in a process of their own: a network that is far away."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import trio


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody has now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def proxies(pairs: Sequence[tuple[int, int]], delay: float) -> Iterator[Callable[[], int]]:
    """Listen on the first port of each pair and hand on to the second, every byte `delay` s later.

    They are to listen before what stands behind them asks others whether it can be reached. Yields what says how many
    connections there were.
    """
    spawn = multiprocessing.get_context("spawn")
    passed, ready = spawn.Value("q", 0), spawn.Event()
    process = spawn.Process(target=_run, args=(list(pairs), delay, passed, ready), daemon=True)
    process.start()
    try:
        if not ready.wait(60):
            raise RuntimeError("The proxies do not listen.")
        yield lambda: passed.value
    finally:
        # It has nothing to finish, and where this process was started with SIGTERM ignored it would ignore it as well.
        process.kill()
        process.join()


def _run(pairs: list[tuple[int, int]], delay: float, passed: Any, ready: Any) -> None:
    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            for listen, to in pairs:
                handler = partial(_between, to=to, delay=delay, passed=passed)
                await nursery.start(partial(trio.serve_tcp, handler, listen, host="127.0.0.1"))
            ready.set()

    trio.run(serve)


async def _between(client: trio.SocketStream, *, to: int, delay: float, passed: Any) -> None:
    """One connection, until either side ends it."""
    passed.value += 1
    try:
        async with (
            client,
            await trio.open_tcp_stream("127.0.0.1", to) as server,
            trio.open_nursery() as nursery,
        ):

            async def one_way(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                send, receive = trio.open_memory_channel[tuple[float, bytes]](1 << 12)

                async def late() -> None:
                    async for due, data in receive:
                        await trio.sleep_until(due)
                        await sink.send_all(data)

                nursery.start_soon(late)
                async for data in source:
                    await send.send((trio.current_time() + delay, bytes(data)))
                nursery.cancel_scope.cancel()

            nursery.start_soon(one_way, client, server)
            nursery.start_soon(one_way, server, client)
    except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass
