"""A payer that comes back gets in before strangers, and nobody else does."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio

from hypercluster.node.errors import PeerUnreachable
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.budgets import BOUNDS
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.direct import dial_direct
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import serve_steps
from hypercluster.node.network.tickets import BURST, LENGTH, Tickets, ticket

ANY = "/ip4/127.0.0.1/tcp/0"


def new() -> bytes:
    return secrets.token_bytes(32)


async def test_a_ticket_is_of_one_payer_for_one_node_and_one_handshake() -> None:
    node, payer, other, ephemeral = new(), new(), new(), new()
    tickets = Tickets(node)
    shown = ticket(payer, peer_of_key(node), ephemeral)
    assert len(shown) == LENGTH
    assert not tickets.holds(shown, ephemeral)
    tickets.learn(peer_of_key(payer))
    assert tickets.holds(shown, ephemeral)
    assert not tickets.holds(shown, new())
    assert not tickets.holds(ticket(other, peer_of_key(node), ephemeral), ephemeral)
    assert not tickets.holds(ticket(payer, peer_of_key(other), ephemeral), ephemeral)
    assert not tickets.holds(shown[:-1] + bytes([shown[-1] ^ 1]), ephemeral)
    for short in (b"", shown[:5], shown[:12], shown[:-1]):
        assert not tickets.holds(short, ephemeral)


async def test_a_ticket_does_not_give_turns_without_end() -> None:
    node, payer, ephemeral = new(), new(), new()
    tickets = Tickets(node)
    tickets.learn(peer_of_key(payer))
    shown = ticket(payer, peer_of_key(node), ephemeral)
    given = sum(tickets.holds(shown, ephemeral) for _ in range(1000))
    assert BURST <= given < 1000


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    """A node that gives strangers three turns, and then none for a long time."""
    monkeypatch.setitem(BOUNDS, "handshake", replace(BOUNDS["handshake"], total=(0.001, 3)))

    async def handler(connection: Connection) -> None:
        await connection.receive(10)

    async with running_host(new(), [ANY]) as host:
        await serve_steps(host, handler, direct_listen=ANY)
        yield host


async def test_a_payer_gets_in_where_strangers_wait(server: Host) -> None:
    async with running_host(new()) as payer, running_host(new()) as stranger:
        server.class_of = lambda peer: 2 * (peer == payer.peer)
        await (await dial_direct(payer, server.peer, server.direct, 5)).close()
        await trio.sleep(0.1)
        for _ in range(2):
            await (await dial_direct(stranger, server.peer, server.direct, 5)).close()
        with pytest.raises(PeerUnreachable):
            await dial_direct(stranger, server.peer, server.direct, 1)
        for _ in range(20):
            await (await dial_direct(payer, server.peer, server.direct, 5)).close()
        # Also when it was started anew: the ticket is made of its key.
        async with running_host(payer.key) as again:
            await (await dial_direct(again, server.peer, server.direct, 5)).close()
        with pytest.raises(PeerUnreachable):
            await dial_direct(stranger, server.peer, server.direct, 1)
