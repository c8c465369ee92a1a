"""How far it is from one provider to another, as a client that hears it from strangers takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.advert import Advert
from hypercluster.market.economics.graph import Floats, Node, node_of
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.linking import LEAST_STEPS, LinkBook
from hypercluster.node.client.request import Wishes
from hypercluster.node.client.rules import Rules, path_by_rules
from hypercluster.node.client.timing import Timing
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.nearness import MOST_TOLD, pack_delays, short_name, unpack_delays
from hypercluster.node.wire.messages import CHAIN
from tests.node.helpers.offers import advert_of

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
TIME_ONLY = MarketParameters(alpha=0.0, c_ref=1.0)


def offer(
    key: bytes, layers: tuple[int, int], told: dict[bytes, float] | None = None, **changes: Any
) -> Advert:
    neighbours = pack_delays({peer_of_key(other): ms for other, ms in (told or {}).items()})
    start, stop = layers
    usual: dict[str, Any] = {
        "layer_start": start,
        "layer_stop": stop,
        "features": (CHAIN,),
        "direct": "/ip4/127.0.0.1/tcp/1",
        "neighbours": neighbours,
    }
    return advert_of(key, **(usual | changes))


def taken(links: LinkBook, here: dict[bytes, float], *adverts: Advert) -> Floats:
    """Delays between providers that are as far from here as is said, ms one way."""

    async def ask() -> Floats:
        by_peer = {advert.peer: advert for advert in adverts}
        nodes = [node_of(advert, here[key]) for key, advert in zip(here, adverts, strict=True)]
        return links.delays(nodes, by_peer)

    return trio.run(ask)


HERE = {A: 30.0, B: 40.0}
HEAD, TAIL = (0, 2), (2, 4)


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ({}, {}, 35.0),  # half of the way over here
        ({B: 12}, {A: 14}, 14.0),  # both ends tell it
        ({B: 12}, {}, 35.0),  # one end's word
        ({}, {A: 12}, 35.0),
        ({B: 0}, {A: 0}, 10.0),  # no nearer than what they differ by from here
        ({B: 500}, {A: 500}, 70.0),  # nor farther than over here
        ({C: 1}, {C: 1}, 35.0),  # of somebody else
    ],
)
def test_what_both_ends_tell_counts_within_what_can_be(
    head: dict[bytes, float], tail: dict[bytes, float], expected: float
) -> None:
    delays = taken(LinkBook(), HERE, offer(A, HEAD, head), offer(B, TAIL, tail))
    assert delays[0, 1] == expected


@given(st.floats(0, 1000), st.floats(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_lie_gains_no_more_than_the_nearer_end_is_away(
    one: float, other: float, said: int, back: int
) -> None:
    told = taken(LinkBook(), {A: one, B: other}, offer(A, HEAD, {B: said}), offer(B, TAIL, {A: back}))
    plain = taken(LinkBook(), {A: one, B: other}, offer(A, HEAD), offer(B, TAIL))
    assert plain[0, 1] - told[0, 1] <= min(one, other) + 1e-9
    assert told[0, 1] <= one + other + 1e-9


@pytest.mark.parametrize("changes", [{"features": ()}, {"direct": ""}])
def test_where_there_is_no_link_it_is_the_way_over_here(changes: dict[str, Any]) -> None:
    delays = taken(LinkBook(), HERE, offer(A, HEAD, {B: 1}), offer(B, TAIL, {A: 1}, **changes))
    assert delays[0, 1] == 70.0


@dataclass
class Ran:
    """A session of a path that has ended."""

    advert: Advert
    timing: Timing
    linked: int


def ran(advert: Advert, total_ms: float, linked: int) -> Hop:
    steps = 8
    timing = Timing([total_ms] * steps, [5.0] * steps, [0.0] * steps, [1.0] * steps)
    return cast(Hop, Ran(advert, timing, linked))


def test_what_was_seen_counts_before_what_is_told_and_a_link_that_did_not_do_is_none() -> None:
    head, tail = offer(A, HEAD, {B: 10}), offer(B, TAIL, {A: 10})
    own = {peer_of_key(key): ms for key, ms in HERE.items()}
    links = LinkBook()
    # 22 ms of a link, 6 of work, and 10 more on the way back than the answer before had.
    links.learn([ran(head, 66.0, LEAST_STEPS), ran(tail, 22.0 + 6.0 + 10.0, 0)], own)
    assert taken(links, HERE, head, tail)[0, 1] == pytest.approx(22.0)
    few = LinkBook()
    few.learn([ran(head, 66.0, LEAST_STEPS - 1), ran(tail, 38.0, 0)], own)
    assert taken(few, HERE, head, tail)[0, 1] == 10.0

    async def strained() -> None:
        links.strain(head.peer, tail.peer)

    trio.run(strained)
    # That it lasts is told by a clock that begins anew with each run.
    links._strained[head.peer, tail.peer] = float("inf")
    assert taken(links, HERE, head, tail)[0, 1] == 70.0


def test_of_two_that_are_as_far_from_here_the_one_that_is_near_the_other_is_taken() -> None:
    head = offer(A, HEAD, {B: 45, C: 2})
    far, near = offer(B, TAIL, {A: 45}), offer(C, TAIL, {A: 2})

    async def choose(offers: list[Advert]) -> tuple[list[str], float]:
        import numpy as np

        by_peer = {advert.peer: advert for advert in offers}
        nodes = [replace(node_of(advert, 30.0), risk=0.0) for advert in offers]
        wishes, rng = Wishes(market=TIME_ONLY), np.random.default_rng(1)

        def delays(some: Any) -> Floats:
            return LinkBook().delays(some, by_peer)

        def candidates(out: Any) -> list[Node]:
            return [node for node in nodes if node.owner not in out]

        path = path_by_rules(candidates, 4, wishes, Rules(), rng, delays)
        return path.ids, path.ms

    ids, ms = trio.run(choose, [head, far, near])
    assert ids == [head.peer, near.peer]
    assert ms == pytest.approx(30 + 2 + 30 + head.cost_ms + near.cost_ms)
    # Whoever says by itself that it is near gains nothing.
    liar = replace(far, neighbours=pack_delays({head.peer: 0.0}))
    alone = replace(head, neighbours=b"")
    assert trio.run(choose, [alone, replace(near, neighbours=b""), liar])[0] == [head.peer, near.peer]


def test_the_nearest_are_told_and_half_an_entry_is_nothing() -> None:
    delays = {f"peer {number}": float(number) + 0.5 for number in range(MOST_TOLD + 4)}
    packed = pack_delays(delays | {"nobody": 70_000.0})
    assert len(packed) == 10 * MOST_TOLD
    told = unpack_delays(packed + b"half")
    assert told == {short_name(f"peer {number}"): number + 1 for number in range(MOST_TOLD)}
