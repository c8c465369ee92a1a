"""What strangers send without end is read at a pace; who is known is not held up by it."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing
from libp2p.abc import ISecureConn

from hypercluster.node.network.budgets import BOUNDS, LOCAL, Budget, Source
from hypercluster.node.network.pace import PacedConn


class Endless:
    """A connection on which there is always something."""

    name = "endless"

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"x" * (n or 1)


async def test_strangers_share_a_pace_and_others_have_none(autojump_clock: trio.testing.MockClock) -> None:
    budget, known = Budget(BOUNDS["read"]), {"payer"}

    async def read(peer: str, times: int) -> float:
        conn = PacedConn(
            cast(ISecureConn, Endless()), Source(peer, LOCAL), budget, lambda each: each not in known
        )
        start = trio.current_time()
        for _ in range(times):
            assert await conn.read(12) == b"x" * 12
        return trio.current_time() - start

    assert BOUNDS["read"].per_peer == (400, 2000)
    assert await read("payer", 5000) == 0
    assert await read("a", 2000) == 0
    assert await read("a", 400) == pytest.approx(1, abs=0.3)
    # Names without end share what there is for all of them.
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(read, f"b{number}", 600)
    assert trio.current_time() - start >= (12_000 - 6000) / 1200 - 0.1


async def test_the_rest_of_a_connection_is_its_own() -> None:
    conn = PacedConn(
        cast(ISecureConn, Endless()), Source("a", LOCAL), Budget(BOUNDS["read"]), lambda peer: True
    )
    assert conn.name == "endless"
