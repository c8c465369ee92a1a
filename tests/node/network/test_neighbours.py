"""Peers that a node goes to: dead and wrong addresses, clocks, other models, dialling back, and the memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.node.errors import Trouble, Unfit
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.diagnosis import Wanted, notices, why_nobody
from hypercluster.node.network.dialback import PROTOCOL, DialBack
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import anyone
from hypercluster.node.network.hello import ServedModel
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.membership import Pace
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.wire.framing import Frames
from tests.node.helpers.offers import MODEL, new_key, offer_of
from tests.node.network.test_discovery import address, until

LOCAL = ["/ip4/127.0.0.1/tcp/0"]
PACE = Pace(first=0.1, steady=0.5, ask=3.0, silent=1.0)
OTHER = ServedModel("cd" * 32, "qwen3, 28 layers", 28)
WANTED = Wanted(MODEL, "llama", 4)


@asynccontextmanager
async def node(
    key: bytes | None = None,
    bootstrap: list[str] | None = None,
    *,
    listen: list[str] | None = None,
    announce: list[str] | None = None,
    model: str = MODEL,
    ahead: float = 0.0,
    **settings: Any,
) -> AsyncIterator[tuple[Host, Discovery]]:
    async with running_host(
        key or new_key(), LOCAL if listen is None else listen, announce=announce or ()
    ) as host:
        book = OrderBook(model, settings.pop("eligible", anyone), clock=lambda: time.time() + ahead)
        discovery = Discovery.alone(host, book, bootstrap=bootstrap or [], pace=PACE, **settings)
        async with discovery.running():
            yield host, discovery


async def test_a1_every_dead_address_is_named_and_a_live_one_is_joined() -> None:
    """A1, A4, I6: refused, unknown host, another peer; one live address among them is enough."""
    stranger = peer_of_key(new_key())
    async with node() as (first, provider):
        await provider.publish(offer_of(first.key, first.addrs))
        troubles = {
            f"/ip4/127.0.0.1/tcp/9/p2p/{stranger}": Trouble.REFUSED,
            f"/dns4/no-such-host.invalid/tcp/4001/p2p/{stranger}": Trouble.UNKNOWN_HOST,
            "/dnsaddr/no-such-host.invalid": Trouble.UNKNOWN_HOST,
            f"{first.addrs[0]}/p2p/{stranger}": Trouble.WRONG_PEER,
        }
        async with node(bootstrap=[*troubles], listen=[]) as (_, lost):
            await lost.settle(10)
            assert lost.hopeless
            assert {each.address: each.trouble for each in lost.facts().contacts} == troubles
            said = why_nobody(lost.facts(), WANTED)
            assert not [each for each in troubles if each not in said]
        async with node(bootstrap=[*troubles, address(first)], listen=[]) as (_, client):
            await until(lambda: client.book.get(first.peer) is not None)
            await until(lambda: client.facts().contacts[-1].state == "joined")


async def test_a_bootstrap_that_is_the_node_itself() -> None:
    key = new_key()
    async with running_host(key, LOCAL) as host:
        own = address(host)
        listen = list(host.addrs)
    async with node(key, [own], listen=listen) as (_, discovery):
        await discovery.settle(10)
        assert [each.state for each in discovery.facts().contacts] == ["self"]
        assert "own" in why_nobody(discovery.facts(), WANTED)


async def test_a5_the_models_that_are_served_are_named() -> None:
    """A5: also those that others serve who joined through the same node."""
    own = ServedModel("ef" * 32, "gpt2, 12 layers", 12)
    async with (
        node(model=own.model_id, served=own) as (first, one),
        node(bootstrap=[address(first)], model=OTHER.model_id, served=OTHER) as (second, two),
    ):
        await one.publish(offer_of(first.key, first.addrs, model_id=own.model_id, layer_stop=12))
        await two.publish(offer_of(second.key, second.addrs, model_id=OTHER.model_id, layer_stop=28))
        await until(lambda: {own} <= set(two.facts().others))
        await until(lambda: OTHER in one.facts().others)
        async with node(bootstrap=[address(first)], listen=[]) as (_, client):
            await client.settle(10)
            assert client.hopeless
            assert set(client.facts().others) == {own, OTHER}
            said = why_nobody(client.facts(), WANTED)
            assert own.name in said
            assert OTHER.name in said


async def test_i4_a_node_with_a_wrong_clock_is_told() -> None:
    """I4: a provider 10 minutes behind hears it from its peer, and a client whose own clock is off from its book."""
    async with node() as (first, one):
        await one.publish(offer_of(first.key, first.addrs))
        async with node(bootstrap=[address(first)], ahead=-600.0) as (_, late):
            await until(lambda: late.facts().clock_offset is not None)
            await until(lambda: "600 s behind" in "".join(notices(late.facts())))
        async with node(bootstrap=[address(first)], listen=[], ahead=600.0) as (_, client):
            await until(lambda: client.facts().unfit.get(Unfit.EXPIRED) == 1)
            await until(lambda: client.facts().clock_offset is not None)
            assert "600 s ahead" in why_nobody(client.facts(), WANTED)


async def test_adverts_without_stake_or_with_a_silent_chain_are_counted() -> None:
    from hypercluster.market.errors import NodeUnreachable

    async def nobody(_node: str, _operator: str) -> None:
        return None

    async def down(_node: str, _operator: str) -> None:
        raise NodeUnreachable("The node at http://127.0.0.1:9 does not answer.")

    async with node() as (first, provider):
        await provider.publish(offer_of(first.key, first.addrs))
        async with node(bootstrap=[address(first)], listen=[], eligible=nobody) as (_, client):
            await until(lambda: client.facts().unfit.get(Unfit.NOT_STAKED) == 1)
        async with node(bootstrap=[address(first)], listen=[], eligible=down) as (_, client):
            await until(lambda: client.facts().unchecked == 1)
            assert "http://127.0.0.1:9" in why_nobody(client.facts(), WANTED)


async def test_a_node_that_nobody_can_dial_is_told() -> None:
    """Kind I: peers dial the announced address and say what came of it; a good one is confirmed."""
    dead = "/ip4/127.0.0.1/tcp/9"
    async with node() as (first, one):
        await one.publish(offer_of(first.key, first.addrs))
        async with node(bootstrap=[address(first)], announce=[dead]) as (hidden, two):
            await two.publish(offer_of(hidden.key, hidden.addrs))
            await until(lambda: any(dead in notice for notice in notices(two.facts())))
            assert "refused" in "".join(notices(two.facts()))
        async with node(bootstrap=[address(first)]) as (open_, three):
            await three.publish(offer_of(open_.key, open_.addrs))
            await until(lambda: any(each.yes for each in three.facts().reached))
            assert notices(three.facts()) == ()


async def test_nobody_is_dialled_for_a_stranger() -> None:
    """Dialling back goes to where the asker is seen, or what it announced in its advert; never to others."""
    import json

    async with running_host(new_key(), LOCAL) as victim, running_host(new_key(), LOCAL) as server:
        DialBack(server, lambda peer: ["/ip4/10.1.2.3/tcp/22", "/ip4/127.0.0.1/tcp/9"])
        async with running_host(new_key(), LOCAL) as asker:
            for addrs in (
                [
                    "/ip4/192.0.2.77/tcp/22",
                    "/dns4/no-such-host.invalid/tcp/1",
                    "nonsense",
                    "/ip4/0.0.0.0/tcp/9",
                ],
                [victim.addrs[0]],
                ["/ip4/127.0.0.1/tcp/9"] * 50,
            ):
                stream = await asker.open_stream(server.peer, PROTOCOL, server.addrs)
                frames = Frames(stream)
                await frames.send(json.dumps({"addrs": addrs, "direct": ""}).encode())
                try:
                    answers = json.loads(await frames.receive(20))["answers"]
                except Exception:  # noqa: BLE001 - a request that is too long ends the stream
                    assert len(addrs) == 50
                    continue
                assert "reached" not in answers.values()
                assert answers.get("/ip4/192.0.2.77/tcp/22", "not tried") == "not tried"
        assert victim.peers == []


async def test_dialling_back_is_for_each_peer_seldom() -> None:
    async with running_host(new_key(), LOCAL) as server, running_host(new_key(), LOCAL) as asker:
        DialBack(server, lambda peer: [])
        dialback = DialBack(asker, lambda peer: [])
        await asker.connect(server.peer, server.addrs)
        for _ in range(6):
            await dialback.ask(server.peer, asker.addrs)
        (found,) = dialback.reached()
        assert found.yes == 1
        stream = await asker.open_stream(server.peer, PROTOCOL, server.addrs)
        frames = Frames(stream)
        await frames.send(b'{"addrs": ["/ip4/127.0.0.1/tcp/9"], "direct": ""}')
        assert await frames.receive(5) == b'{"answers": {}}'


async def test_a_book_of_which_a_part_has_expired_is_not_all_there_is(tmp_path: Path) -> None:
    """T1: whoever's remembered advert has expired may have another one, which a lookup finds."""
    memory = Memory(tmp_path / "peers.json")
    good, gone = offer_of(new_key()), offer_of(new_key(), issued=1_000, expires=1_060)
    memory.keep(MODEL, [good, gone], {})
    async with node(listen=[], memory=Memory(tmp_path / "peers.json")) as (_, client):
        await until(lambda: len(client.book) == 1, 5)
        assert not client.complete


async def test_t1_the_book_is_kept_between_commands(tmp_path: Path) -> None:
    """T1: a second client knows the provider before it has asked anybody; checked anew all the same."""
    memory = tmp_path / "peers.json"
    async with node() as (first, provider):
        await provider.publish(offer_of(first.key, first.addrs))
        async with node(bootstrap=[address(first)], listen=[], memory=Memory(memory)) as (_, client):
            await until(lambda: client.book.get(first.peer) is not None)
    async with node(listen=[], memory=Memory(memory)) as (_, again):
        await until(lambda: again.complete, 5)
        assert again.book.get(first.peer) is not None
        assert not again.looked

    async def nobody(_node: str, _operator: str) -> None:
        return None

    async with node(listen=[], memory=Memory(memory), eligible=nobody) as (_, strict):
        await until(lambda: strict.facts().unfit.get(Unfit.NOT_STAKED) == 1, 5)
        assert not len(strict.book)


async def test_i5_known_peers_are_dialled_again(tmp_path: Path) -> None:
    """I5: the first node comes back on another port and finds those who had joined through it."""
    key, file = new_key(), tmp_path / "peers.json"
    async with node() as (second, two):
        await two.publish(offer_of(second.key, second.addrs))
        async with node(key, [address(second)], memory=Memory(file)) as (_, one):
            await until(lambda: one.book.get(second.peer) is not None)
        async with node(key, memory=Memory(file)) as (back, one):
            await until(lambda: second.peer in back.peers)
            await one.publish(offer_of(key, back.addrs))
            await until(lambda: two.book.get(back.peer) is not None)


async def test_i5_a_node_left_alone_dials_those_it_has_met(tmp_path: Path) -> None:
    """I5: also peers that it met since it was started."""
    memory = Memory(tmp_path / "peers.json")
    async with node() as (met, _), node(memory=memory) as (lonely, _):
        await trio.sleep(0.3)
        memory.keep(MODEL, [], {met.peer: met.addrs})
        await until(lambda: met.peer in lonely.peers)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"peers": 3, "adverts": {}}', '{"peers": {"x": ["y"]}, "adverts": {"m": [["zz", ""]]}}'],
)
async def test_a_memory_that_cannot_be_read_is_forgotten(tmp_path: Path, text: str) -> None:
    file = tmp_path / "peers.json"
    file.write_text(text)
    memory = Memory(file)
    assert memory.peers == {}
    assert memory.adverts(MODEL) == []
    async with node(listen=[], memory=memory) as (_, client):
        await trio.sleep(0.1)
        assert not len(client.book)
    assert Memory(file).peers == {}
