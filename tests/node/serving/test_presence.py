"""What a running node says of its network."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from hypercluster.node.network import eligibility
from hypercluster.node.network.adverts import sign_advert
from hypercluster.node.network.memory import Memory
from tests.node.helpers.providers import running_provider

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.shards.store import StoredModel

NOBODY = "/ip4/127.0.0.1/tcp/9/p2p/16Uiu2HAm5hPxT7s3TA2f4b4YjAPzS7yLRSgdj87ysDZ6NAXMiRuY"


def test_i6_a_provider_with_a_dead_bootstrap_says_so(
    chain: Chain, stored_tiny: StoredModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """I6: which address does not answer, why, and that it is alone; for its operator and for `status`.

    Of a second one it dials what is announced, and tells it that nobody gets there: that address leaves its adverts.
    """
    peers = tmp_path / "peers.json"
    with (
        caplog.at_level(logging.WARNING),
        running_provider(
            chain, stored_tiny, tmp_path / "one", (0, 2), bootstrap=(NOBODY,), peers_file=peers
        ) as alone,
    ):
        wait_for(lambda: f"{NOBODY} refused the connection" in caplog.text)
        assert "alone" in caplog.text
        assert NOBODY in "".join(alone.presence.running_node().notices)
        with running_provider(
            chain,
            stored_tiny,
            tmp_path / "two",
            (2, 4),
            bootstrap=(alone.address,),
            direct_announce="/ip4/127.0.0.1/tcp/9",
        ) as hidden:
            wait_for(lambda: "Nobody could dial /ip4/127.0.0.1/tcp/9" in caplog.text)
            wait_for(lambda: hidden.presence.advert().direct == "")
            assert "--announce" in "".join(hidden.presence.running_node().notices)
    assert Memory(peers).adverts(stored_tiny.manifest.model_id)


def test_f2_a_node_hears_of_another_one_with_its_key(
    chain: Chain, stored_tiny: StoredModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F2: a copy of the home that runs on another machine, where no lock reaches."""
    with running_provider(chain, stored_tiny, tmp_path / "one", (0, 4)) as one:
        assert one.presence.running_node().notices == ()
        key = one.provider._wallets.node_key
        double = sign_advert(replace(one.advert, sequence=one.advert.sequence + 10**6), key)
        heard: list[bool] = []

        async def hear() -> None:
            await one.presence.discovery.book.offer(double)
            heard.append(True)

        one.token.run_sync_soon(trio.lowlevel.spawn_system_task, hear)
        wait_for(lambda: heard)
        assert "with this node's key" in one.presence.running_node().notices[-1]
        wait_for(lambda: "two nodes with one key can be slashed" in caplog.text)


def wait_for(condition: object, seconds: float = 300) -> None:
    async def until() -> None:
        with trio.fail_after(seconds):
            while not condition():  # type: ignore[operator]
                await trio.sleep(0.05)

    trio.run(until)


def test_a_node_whose_stake_thins_offers_fewer_sessions_and_says_so(
    chain: Chain, stored_tiny: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it knows of the chain runs out at once here, otherwise after a minute."""
    monkeypatch.setattr(eligibility, "KEEP_SECONDS", 0.0)
    stake = 2 * chain.staking.minimum
    carried = stake // chain.staking.session_stake
    terms = {"stake": stake, "sessions": carried, "session_tokens": 16, "refresh_seconds": 0.5}
    with running_provider(chain, stored_tiny, tmp_path / "one", (0, 2), **terms) as node:
        assert node.presence.told.capacity == carried
        chain.staking.unstake(node.staker, 10 * chain.staking.session_stake)
        wait_for(lambda: node.presence.told.capacity == carried - 10)
        assert node.presence.told.free <= carried - 10
        assert f"carries {carried - 10} sessions" in "".join(node.presence.running_node().notices)
        assert len(node.presence.discovery.book) == 1
        chain.staking.cancel_unstake(node.staker)
        wait_for(lambda: node.presence.told.capacity == carried)
        assert node.presence.running_node().notices == node.presence.discovery.notices
