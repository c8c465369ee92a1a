"""Rumours are checked by everybody who passes them on: by signature, age, stake, and how often."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from hypercluster.node.errors import ForgedRumour, NodeError, WireError
from hypercluster.node.evidence.rumour import Claim
from hypercluster.node.identity import address_of_peer, peer_of_key
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import Backing
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.membership import Pace
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.network.rumours import OLDEST_SECONDS, Rumours, StaleRumour
from hypercluster.node.wire.codec import encode
from hypercluster.node.wire.rumours import Rumour
from tests.node.helpers.offers import MODEL, OPERATOR, new_key, offer_of
from tests.node.helpers.rumours import DOMAIN, WITNESS, failed, twice

CHEAT, VERIFIER, OTHER = new_key(), new_key(), new_key()
STAKED = {
    (address_of_peer(peer_of_key(CHEAT)), OPERATOR): 100,
    (address_of_peer(peer_of_key(VERIFIER)), WITNESS): 100,
    (address_of_peer(peer_of_key(OTHER)), "0x" + "66" * 20): 300,
}


async def eligible(node: str, operator: str) -> Backing | None:
    wei = STAKED.get((node, operator))
    return None if wei is None else Backing(wei, 16)


class Ears:
    """Who keeps what holds."""

    def __init__(self, book: OrderBook | None = None) -> None:
        self.heard: list[tuple[Claim, float]] = []
        self.now = time.time()
        self.book = book or OrderBook(MODEL, eligible)
        self.rumours = Rumours(self.book, eligible, DOMAIN, self._hear, clock=lambda: self.now)

    async def _hear(self, claim: Claim, share: float) -> None:
        self.heard.append((claim, share))

    async def take(self, rumour: Rumour) -> None:
        await self.rumours.take(encode(rumour))


async def test_what_holds_is_heard_with_the_share_of_stake_behind_it() -> None:
    ears = Ears()
    for key, operator in ((VERIFIER, WITNESS), (OTHER, "0x" + "66" * 20)):
        await ears.book.offer(offer_of(key, operator=operator, role="verifier", capacity=1, free=1))
    await ears.take(twice(CHEAT))
    await ears.take(failed(CHEAT, VERIFIER))
    (proof, nothing), (word, share) = ears.heard
    assert (proof.proven, nothing) == (True, 0.0)
    assert (word.witness, share) == (WITNESS, 0.25)


@pytest.mark.parametrize(
    "rumour",
    [
        pytest.param(failed(CHEAT, new_key()), id="a verifier without stake"),
        pytest.param(failed(CHEAT, VERIFIER, witness="0x" + "77" * 20), id="a verifier of somebody else"),
        pytest.param(
            twice(CHEAT, operator="0x" + "77" * 20), id="an operator that does not answer for the node"
        ),
        pytest.param(twice(new_key()), id="a node without stake"),
        pytest.param(failed(CHEAT, VERIFIER, issued=int(time.time()) + 3600), id="dated ahead"),
        pytest.param(replace(twice(CHEAT), model_id="cd" * 32), id="of another model"),
    ],
)
async def test_a_rumour_without_stake_or_of_another_day_weighs_nothing(rumour: Rumour) -> None:
    ears = Ears()
    with pytest.raises(StaleRumour):
        await ears.take(rumour)
    assert ears.heard == []


async def test_a_rumour_is_heard_once_an_hour_however_often_it_is_signed() -> None:
    ears = Ears()
    await ears.take(failed(CHEAT, VERIFIER))
    with pytest.raises(StaleRumour, match="before"):
        await ears.take(failed(CHEAT, VERIFIER, issued=int(time.time()) - 1))
    ears.now += 3601
    await ears.take(failed(CHEAT, VERIFIER))
    assert len(ears.heard) == 2
    ears.now += OLDEST_SECONDS
    with pytest.raises(StaleRumour, match="ago"):
        await ears.take(failed(CHEAT, VERIFIER))


@pytest.mark.parametrize("data", [b"", b"junk", encode(offer_of(CHEAT))], ids=["empty", "junk", "an advert"])
async def test_what_is_no_rumour_is_refused(data: bytes) -> None:
    ears = Ears()
    with pytest.raises((WireError, StaleRumour)):
        await ears.rumours.take(data)


async def test_a_forgery_is_told_apart_from_what_is_only_stale() -> None:
    with pytest.raises(ForgedRumour):
        await Ears().take(twice(CHEAT, out_root=b"o" * 32))


@asynccontextmanager
async def node(bootstrap: list[str] | None = None) -> AsyncIterator[tuple[Host, Discovery, Ears]]:
    async with running_host(new_key(), ["/ip4/127.0.0.1/tcp/0"]) as host:
        ears = Ears()
        discovery = Discovery.alone(
            host, ears.book, bootstrap=bootstrap or [], pace=Pace(first=0.1, steady=1.0), rumours=ears.rumours
        )
        async with discovery.running():
            yield host, discovery, ears


async def test_evidence_goes_round_and_slander_does_not() -> None:
    async with node() as (first, _, hears):
        address = f"{first.addrs[0]}/p2p/{first.peer}"
        async with node([address]) as (host, two, also_hears):
            with trio.fail_after(300):
                while first.peer not in host.peers:
                    await trio.sleep(0.02)
                with pytest.raises(NodeError):
                    await two.spread(twice(new_key()))
                # Whoever sends it without looking is not believed either.
                two.rumours = None
                await two.spread(twice(new_key()))
                while not hears.heard:
                    # The mesh of a topic takes its time, and what was sent before is not sent again.
                    await two.spread(replace(twice(CHEAT), profile=new_key()))
                    await two.spread(failed(CHEAT, VERIFIER, issued=int(time.time())))
                    await trio.sleep(0.2)
            assert {claim.operator for claim, _ in hears.heard} == {OPERATOR}
            assert all(not claim.proven for claim, _ in hears.heard)
            assert also_hears.heard == []
