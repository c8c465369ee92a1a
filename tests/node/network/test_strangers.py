"""Strangers share a part of a node's time, whatever they make it do with that; who is known does not wait for them."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest
import trio
import trio.testing
from libp2p.abc import ISecureConn

from hypercluster.node.network import strangers as module
from hypercluster.node.network.bounds import BOUNDS
from hypercluster.node.network.direct import DirectServer, SecureStream, dial_direct
from hypercluster.node.network.host import running_host
from hypercluster.node.network.pace import PacedConn
from hypercluster.node.network.strangers import IDLE_SHARE, Charge, StrangersTime, charged_now

ANY = "/ip4/127.0.0.1/tcp/0"
TURN_SECONDS = 0.01


def work(seconds: float = TURN_SECONDS) -> None:
    """Keep this thread busy for so many seconds of its processor."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@asynccontextmanager
async def measured(share: float = 0.1, burst: float = 0.02) -> AsyncIterator[StrangersTime]:
    known = {"payer"}
    strangers = StrangersTime(lambda peer: peer not in known, replace(BOUNDS["work"], total=(share, burst)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(strangers.run)
        await trio.testing.wait_all_tasks_blocked()
        yield strangers
        nursery.cancel_scope.cancel()


async def test_strangers_get_their_share_together_and_each_as_much() -> None:
    turns = dict.fromkeys("abc", 0)
    taken = 0.0

    async def go_on(strangers: StrangersTime, peer: str) -> None:
        nonlocal taken
        with strangers.charged() as charge:
            charge.peer = peer
            while True:
                await strangers.turn(charge)
                work()
                turns[peer] += 1
                taken += TURN_SECONDS
                await trio.lowlevel.checkpoint()

    async with measured() as strangers, trio.open_nursery() as nursery:
        start = time.monotonic()
        for peer in turns:
            nursery.start_soon(go_on, strangers, peer)
        while sum(turns.values()) < 12:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    passed = time.monotonic() - start
    assert taken <= 0.02 + IDLE_SHARE * passed + 3 * TURN_SECONDS
    assert max(turns.values()) - min(turns.values()) <= 2


async def test_who_is_known_waits_for_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SHARE", 0.02)

    async def waits(strangers: StrangersTime, peer: str) -> bool:
        with strangers.charged() as charge, trio.CancelScope() as scope:
            charge.peer = peer
            scope.cancel()
            await strangers.turn(charge)
        return scope.cancelled_caught

    async with measured() as strangers:
        with strangers.charged():
            work(0.05)
            await trio.lowlevel.checkpoint()
        assert await waits(strangers, "a")
        assert not await waits(strangers, "payer")


async def test_a_newcomer_comes_before_who_has_had_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SHARE", 0.02)
    order: list[str] = []

    async def one(strangers: StrangersTime, charge: Charge, name: str) -> None:
        await strangers.turn(charge)
        order.append(name)

    async with measured() as strangers, trio.open_nursery() as nursery:
        with strangers.charged() as greedy:
            work(0.05)
            await trio.lowlevel.checkpoint()
        for _ in range(3):
            nursery.start_soon(one, strangers, greedy, "greedy")
        await trio.testing.wait_all_tasks_blocked()
        with strangers.charged() as new:
            nursery.start_soon(one, strangers, new, "new")
    assert order == ["new", "greedy", "greedy", "greedy"]


async def test_what_a_task_starts_is_charged_and_what_others_do_is_not() -> None:
    async def child() -> None:
        assert charged_now() is not None
        work()

    async with measured() as strangers:
        work()
        await trio.lowlevel.checkpoint()
        assert charged_now() is None
        with strangers.charged() as charge:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
            await trio.lowlevel.checkpoint()
        assert charge.finish >= TURN_SECONDS
        before = charge.finish
        work()
        await trio.lowlevel.checkpoint()
        assert charge.finish == before


class Endless:
    """A connection on which there is always something."""

    name = "endless"

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"x" * (n or 1)


async def test_a_connection_is_read_by_turns_and_else_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SHARE", 0.02)
    async with measured() as strangers:
        with strangers.charged() as charge:
            work(0.05)
            await trio.lowlevel.checkpoint()
            assert strangers.wait() > 0
            conn = PacedConn(cast(ISecureConn, Endless()), charge)
            assert await conn.read(12) == b"x" * 12
            assert conn.name == "endless"
            assert strangers.wait() == 0


async def test_a_host_charges_strangers_until_they_have_paid() -> None:
    payers = set[str]()
    async with running_host(secrets.token_bytes(32), [ANY]) as host, running_host(bytes(range(32))) as other:
        host.class_of = lambda peer: 2 if peer in payers else 0
        charges: list[Charge] = []

        async def echo(stream: SecureStream) -> None:
            charge = charged_now()
            assert charge is not None
            charges.append(charge)
            while data := await stream.read():
                await stream.write(data)

        server = DirectServer(host, echo)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, server.serve, [listener])
            stream = await dial_direct(other, host.peer, f"/ip4/127.0.0.1/tcp/{port}", 30)
            await stream.write(b"hello")
            assert await stream.read() == b"hello"
            (charge,) = charges
            assert charge.peer == other.peer
            assert charge.is_stranger()
            assert charge.finish > 0
            payers.add(other.peer)
            with trio.fail_after(60):
                while charge.is_stranger():
                    await trio.sleep(0.05)
            cost = charge.finish
            await stream.write(b"again")
            assert await stream.read() == b"again"
            assert charge.finish == cost
            await stream.close()
            nursery.cancel_scope.cancel()
