"""The process of an attacker, so that its CPU is told apart from the node's: python -m tests.siege.attacker

It reads a JSON line {"attack", "target", "strength"}, prints "under way" when it is, answers each further line with
its tally, and ends when its input does.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import trio

from tests.siege.attacks import ATTACKS
from tests.siege.tally import Tally
from tests.siege.target import Target

NICENESS = 10
"""An attacker has machines of its own. On this one it may take what honest people and the node leave."""


async def main() -> None:
    """Attack as told."""
    order = json.loads(sys.stdin.readline())
    tally = Tally()
    _count_bytes(tally)
    lines = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))

    async def report() -> None:
        async for chunk in lines:
            for _ in range(chunk.count(b"\n")):
                tally.cpu_seconds = time.process_time()
                print(tally.to_json(), flush=True)  # noqa: T201 - its parent reads it
        os._exit(0)  # hundreds of connections: nobody waits for their farewells

    async with trio.open_nursery() as nursery:
        attack = ATTACKS[order["attack"]].run
        await nursery.start(attack, Target.from_json(order["target"]), order["strength"], tally)
        nursery.start_soon(report)
        print("under way", flush=True)  # noqa: T201


def _count_bytes(tally: Tally) -> None:
    """Have every TCP connection of this process count what it sends."""
    plain = trio.SocketStream.send_all

    async def counted(self: trio.SocketStream, data: bytes) -> None:
        tally.sent_bytes += len(data)
        await plain(self, data)

    trio.SocketStream.send_all = counted  # type: ignore[method-assign,assignment]


def _step_back() -> None:
    """Run at a lower priority than everybody else here."""
    os.nice(NICENESS)
    # Linux shares its time out by sessions first, and then being nice counts within a session only.
    os.setsid()
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS))


if __name__ == "__main__":
    _step_back()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Before readline reads ahead: one line at a time.
    sys.stdin = os.fdopen(sys.stdin.fileno(), "r", buffering=1)
    trio.run(main)
