"""Providers tell how far those are who may stand beside them on a path, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.node.network.host import running_host
from hypercluster.node.network.nearness import MOST_TOLD, short_name, unpack_delays
from hypercluster.node.provider import nearness
from hypercluster.node.provider.nearness import Nearness
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.messages import CHAIN
from tests.node.helpers.offers import advert_of, new_key
from tests.node.helpers.providers import running_provider

WAIT = 60.0


async def test_both_ends_of_a_link_tell_it(
    chain: Chain, stored_tiny: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearness, "FIRST_SECONDS", 0.5)
    monkeypatch.setattr(nearness, "LOOK_SECONDS", 1.0)
    terms = {"sessions": 1, "session_tokens": 40, "refresh_seconds": 1.0}
    with (
        running_provider(chain, stored_tiny, tmp_path / "head", (0, 2), **terms) as head,
        running_provider(
            chain, stored_tiny, tmp_path / "tail", (2, 4), bootstrap=(head.address,), **terms
        ) as tail,
    ):
        with trio.fail_after(WAIT):
            while not (head.presence.told.neighbours and tail.presence.told.neighbours):
                await trio.sleep(0.1)
        for one, other in ((head, tail), (tail, head)):
            told = unpack_delays(one.presence.told.neighbours)
            assert [*told] == [short_name(other.advert.peer)]
            assert 0 < told[short_name(other.advert.peer)] < 1000


async def test_of_many_those_with_most_at_stake_are_measured_and_one_of_each_operator_first() -> None:
    keys = [new_key() for _ in range(MOST_TOLD + 4)]
    beside = [
        advert_of(key, layer_start=4, layer_stop=6, features=(CHAIN,), operator=f"0x{1:040x}") for key in keys
    ]
    poor = advert_of(new_key(), layer_start=4, layer_stop=8, features=(CHAIN,), operator=f"0x{2:040x}")
    elsewhere = advert_of(new_key(), layer_start=5, layer_stop=8, features=(CHAIN,))
    relayed = advert_of(new_key(), layer_start=4, layer_stop=8)
    stake = {advert.peer: 100 for advert in beside}
    async with running_host(new_key()) as host:
        near = Nearness(
            host, 0, 4, lambda: [*beside, poor, elsewhere, relayed], lambda peer: stake.get(peer, 1)
        )
        chosen = near._neighbours()
        assert len(chosen) == MOST_TOLD
        assert poor in chosen[:2]
        assert elsewhere not in chosen
        assert relayed not in chosen
        # Nobody of them is there: nothing is told.
        near._others = lambda: [poor]
        await near.look()
        assert near.packed == b""
