"""Measure what a libp2p stream costs: the processor time of a message there and back, and of a stream for one question.

    python scripts/bench_streams.py [--rounds 5]

Two hosts in this process, so the time is that of both ends together; the fastest round counts.
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Awaitable, Callable

import trio

from hypercluster.node.errors import ConnectionLost
from hypercluster.node.network.host import running_host
from hypercluster.node.network.stream import Stream
from hypercluster.node.wire.framing import Frames

PROTOCOL = "/hypercluster/bench/1.0.0"
MESSAGE = b"x" * 300
MESSAGES, STREAMS = 200, 15
PAUSE_SECONDS = 0.06
"""between streams, of which a peer gets some in a second only"""


async def main(rounds: int) -> None:
    """Measure and print."""
    listen = ["/ip4/127.0.0.1/tcp/0"]
    async with (
        running_host(secrets.token_bytes(32), listen) as server,
        running_host(secrets.token_bytes(32)) as client,
    ):
        # Of strangers only so much would be read.
        server.class_of = client.class_of = lambda peer: 2
        server.serve(PROTOCOL, echo)
        frames = Frames(await client.open_stream(server.peer, PROTOCOL, server.addrs))

        async def one_message() -> None:
            await frames.send(MESSAGE)
            await frames.receive()

        async def one_stream() -> None:
            stream = await client.open_stream(server.peer, PROTOCOL)
            asked = Frames(stream)
            await asked.send(MESSAGE)
            await asked.receive()
            await stream.close()
            await trio.sleep(PAUSE_SECONDS)

        message = await fastest(one_message, MESSAGES, rounds)
        stream = await fastest(one_stream, STREAMS, rounds)
    print(f"a message there and back: {message:.2f} ms of the processor")
    print(f"a stream opened, asked one thing and closed: {stream:.2f} ms")


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    frames = Frames(stream)
    try:
        while True:
            await frames.send(await frames.receive())
    except ConnectionLost:
        pass


async def fastest(act: Callable[[], Awaitable[None]], times: int, rounds: int) -> float:
    """Milliseconds of the processor that one act takes, in the fastest round."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            await act()
        found.append(1e3 * (time.process_time() - began) / times)
    return min(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    trio.run(main, parser.parse_args().rounds)
