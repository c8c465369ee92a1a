"""The small protocols that answer anybody: adverts, greetings, dial-backs, recalls; and half a frame on each."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from hypercluster.node.network import dialback, hello
from hypercluster.node.network.host import Host
from hypercluster.node.wire.audit import RECALL_PROTOCOL, Recall
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.framing import Frames, encode_length
from hypercluster.node.wire.messages import ADVERT_PROTOCOL, INFER_PROTOCOL
from tests.siege.hostile.connections import CONNECT_SECONDS, DRIP_SECONDS
from tests.siege.hostile.identities import STARTED, identities, on_and_on, said, strangers
from tests.siege.tally import Tally
from tests.siege.target import Target

if TYPE_CHECKING:
    from trio_typing import TaskStatus

ANSWER_SECONDS = 30.0
PROTOCOLS = (INFER_PROTOCOL, ADVERT_PROTOCOL, hello.PROTOCOL, dialback.PROTOCOL, RECALL_PROTOCOL)
"""what every provider answers strangers on"""


async def _asking(
    target: Target,
    strength: int,
    tally: Tally,
    started: TaskStatus[None],
    protocol: str,
    question: Callable[[Host], bytes],
    read: Callable[[bytes], str] = lambda answer: "answer",
) -> None:
    """Send `question` on a new stream of `protocol` and take the answer, again and again."""
    async with strangers(identities(strength)) as hosts:

        async def act(index: int) -> str:
            host = hosts[index % len(hosts)]
            stream = await host.open_stream(target.peer, protocol, target.addrs, CONNECT_SECONDS)
            try:
                frames = Frames(stream)
                if asked := question(host):
                    await frames.send(asked, ANSWER_SECONDS)
                return read(await frames.receive(ANSWER_SECONDS))
            finally:
                await stream.reset()

        await on_and_on(strength, act, tally, started)


async def ask_adverts(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """What do you offer? What do you offer?"""
    await _asking(target, strength, tally, task_status, ADVERT_PROTOCOL, lambda host: b"")


async def greet(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Greetings that name models nobody serves."""

    def greeting(host: Host) -> bytes:
        models = [{"model_id": secrets.token_hex(32), "name": "x" * 64, "layers": 4} for _ in range(17)]
        return json.dumps({"time": time.time(), "serves": models[0], "knows": models[1:]}).encode()

    await _asking(target, strength, tally, task_status, hello.PROTOCOL, greeting)


async def dial_me_back(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Requests to dial a port at which somebody listens and says nothing."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def silent(stream: trio.SocketStream) -> None:
        tally.answered("dialled back")
        await trio.sleep(ANSWER_SECONDS)

    addrs = [f"/ip4/127.0.0.1/tcp/{port}"] * (dialback.MOST - 1)
    asked = json.dumps({"addrs": addrs, "direct": addrs[0]}).encode()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, silent, listeners)
        await _asking(target, strength, tally, task_status, dialback.PROTOCOL, lambda host: asked)


async def recall(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """Show me the last step of a stage that never was."""

    def question(host: Host) -> bytes:
        return encode(Recall(os.urandom(32), 2**32 - 1))

    await _asking(
        target, strength, tally, task_status, RECALL_PROTOCOL, question, lambda answer: said(decode(answer))
    )


async def half_a_frame(
    target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = STARTED
) -> None:
    """On every protocol in turn a frame that comes a byte at a time, and never whole."""
    async with strangers(identities(strength)) as hosts:

        async def act(index: int) -> str:
            protocol = PROTOCOLS[index % len(PROTOCOLS)]
            host = hosts[index // len(PROTOCOLS) % len(hosts)]
            since = trio.current_time()
            stream = await host.open_stream(target.peer, protocol, target.addrs, CONNECT_SECONDS)
            tally.answered("stream")
            try:
                await stream.write(encode_length(4_000))
                while True:
                    await stream.write(b"\x0a")
                    with trio.move_on_after(DRIP_SECONDS):
                        while await stream.read():
                            pass
                        break
            finally:
                await stream.reset()
            return f"cut after {5 * round((trio.current_time() - since) / 5)} s"

        await on_and_on(strength, act, tally, task_status)
