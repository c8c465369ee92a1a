"""Ten one-token audits of the ten ranges of a model of four layers left ten shards on the verifier's disk, 4.8 times
the model, for good. Now what nobody with a stake offers is not audited, and the shards that are cut stay within bytes.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from hypercluster.market.trust.audit import Bounds
from hypercluster.node.errors import ErrorCode
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.wire.audit import AuditVerdict
from hypercluster.node.wire.messages import Error
from tests.siege.hostile.audits import RANGES, one_token
from tests.siege.judged import OFFERED, Bench, heard, running_bench
from tests.siege.paying import Purse

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Deployment
    from hypercluster.node.client.account import OutgoingAccount


@pytest.fixture(scope="module")
def bench(
    chain: Chain,
    deployment: Deployment,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("ranges")
    stored = open_model(tiny_model, folder / "home")
    with running_bench(chain, deployment, stored, _bounds(tiny_model, folder), folder) as bench:
        yield bench


def _bounds(model: Path, folder: Path) -> Bounds:
    """Measured on a copy of its own: what calibration cuts is not to count."""
    found: StoredModel = open_model(model, folder / "calibration")
    return calibrate(found, texts=1, tokens=40)


@asynccontextmanager
async def paying(bench: Bench) -> AsyncIterator[tuple[Host, OutgoingAccount]]:
    key = secrets.token_bytes(32)
    purse = await trio.to_thread.run_sync(Purse.filled, bench.target)
    account = await trio.to_thread.run_sync(purse.opened, key)
    async with running_host(key) as host:
        yield host, account


async def test_s6_only_what_somebody_with_a_stake_offers_is_cut_and_audited(bench: Bench) -> None:
    await heard(bench)
    async with paying(bench) as (host, account):
        answers = {each: await one_token(host, bench.advert, account, each) for each in RANGES}
    audited = {each for each, answer in answers.items() if isinstance(answer, AuditVerdict)}
    assert audited == {OFFERED}
    refused = [answer for each, answer in answers.items() if each != OFFERED]
    assert all(isinstance(answer, Error) and answer.code is ErrorCode.WRONG_RANGE for answer in refused)
    assert {path.name for path in bench.stored.folder.rglob("layers-*.gguf")} == {"layers-0000-0002.gguf"}


async def test_s6_shards_of_all_ranges_that_are_offered_stay_within_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody with a stake advertises range after range."""
    shelf = bench.judging.verifier._replayer._shelf
    ranges = bench.judging.verifier.ranges
    assert ranges is not None
    async with paying(bench) as (host, account):
        for each in RANGES:
            monkeypatch.setitem(ranges._seen, each, float("inf"))
            assert isinstance(await one_token(host, bench.advert, account, each), AuditVerdict)
            assert shelf.size() <= shelf.max_bytes
    offered = bench.stored.shard_path(*OFFERED)
    assert bench.disk - offered.stat().st_size <= shelf.max_bytes
