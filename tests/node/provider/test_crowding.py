"""A provider that promised to be fast refuses whom it could not serve as fast, and goes on with those it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.node.errors import ErrorCode
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.provider import process
from hypercluster.node.provider.speed import SERVED
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.providers import new_wallet, running_provider
from tests.node.helpers.visits import WAIT, Turned, started


async def test_no_session_is_taken_beside_one_that_is_slower_than_was_promised(
    chain: Chain, stored_tiny: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOOK_SECONDS", 0.3)
    terms = {"sessions": 2, "session_tokens": 60, "slowest_ms": 0.0001}
    wallets = [new_wallet(chain) for _ in range(2)]
    with running_provider(chain, stored_tiny, tmp_path, (0, 4), **terms) as served:
        accounts = [wallet.channel(served) for wallet in wallets]
        async with running_host(wallets[0].session_key) as one, running_host(wallets[1].session_key) as other:
            first = await started(served, await dial_steps(one, served.advert), accounts[0])
            token = await first.step(0, [72, 101])
            for position in range(2, 3 + SERVED):
                assert isinstance(token, int)
                token = await first.step(position, [token])
            with trio.fail_after(WAIT):
                while served.presence.told.free:
                    await trio.sleep(0.05)
            with pytest.raises(Turned) as refused:
                await started(served, await dial_steps(other, served.advert), accounts[1])
            assert refused.value.error.code is ErrorCode.FULL
            assert refused.value.error.wait_ms > 0
            assert isinstance(token, int)
            assert isinstance(await first.step(3 + SERVED, [token]), int)
