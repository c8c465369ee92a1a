"""llama.cpp's process dies under a provider: its sessions end with a code, and what it has at stake stays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.node.engine.apart import Apart
from hypercluster.node.engine.engine import Engine
from hypercluster.node.errors import ErrorCode
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.provider.process import HONEST
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.messages import Error
from tests.node.helpers.providers import new_wallet, opening, running_provider
from tests.node.helpers.visits import WAIT, started
from tests.node.provider.test_rewinding import PROMPT

SECONDS = 120


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        await trio.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT])
async def test_sessions_end_with_a_code_adverts_pause_and_the_next_client_is_served(
    chain: Chain, stored_tiny: StoredModel, tmp_path: Path, how: signal.Signals
) -> None:
    engines: list[Engine] = []

    def engine(*arguments: Any, **named: Any) -> Engine:
        engines.append(Engine(*arguments, **named))
        return engines[-1]

    shard = stored_tiny.shard(0, 4)
    with running_provider(
        chain,
        stored_tiny,
        tmp_path,
        (0, 4),
        sessions=2,
        session_tokens=60,
        ways=replace(HONEST, engine=engine),
    ) as provider:
        wallet = new_wallet(chain)
        account = wallet.channel(provider)
        computing = engines[0]._computing
        assert isinstance(computing, Apart)
        async with running_host(wallet.session_key) as host:
            theirs = wallet.channel(provider)
            kept = await started(provider, await dial_steps(host, provider.advert), theirs)
            assert isinstance(await kept.step(0, PROMPT), int)
            assert await kept.park() > 0
            session = await started(provider, await dial_steps(host, provider.advert), account)
            first = await session.step(0, PROMPT)
            assert isinstance(first, int)
            billed = provider.row(account).billed
            shard.rename(shard.with_suffix(".away"))
            try:
                os.kill(computing.pid, how)
                refused = await session.step(len(PROMPT), [first])
                assert isinstance(refused, Error)
                assert refused.code is ErrorCode.ENGINE_FAILED
                assert how.name in refused.message
                assert refused.billed_wei == billed
                await until(lambda: provider.presence.told.free == 0)
                connection = await dial_steps(host, provider.advert)
                await connection.send(opening(provider.advert, account, capacity=40))
                closed = await connection.receive(WAIT)
                assert isinstance(closed, Error)
                assert closed.code is ErrorCode.ENGINE_FAILED
                assert closed.wait_ms > 0
                running = provider.presence.running_node()
                assert any("again" in each for each in running.notices)
            finally:
                shard.with_suffix(".away").rename(shard)
            await until(lambda: provider.presence.told.free == 2)
            session = await started(
                provider, await dial_steps(host, provider.advert), wallet.channel(provider)
            )
            assert await session.step(0, PROMPT) == first
            # What was parked is gone with it.
            anew = await started(provider, await dial_steps(host, provider.advert), theirs, kept, len(PROMPT))
            assert anew.accepted.position == 0
        assert engines[0].stats().failures == 1
        assert chain.staking.stake_of(provider.operator).active == chain.staking.minimum
