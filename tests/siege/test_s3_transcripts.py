"""Files are for what was paid.

What a stranger did: Open and Close without a step left a transcript of 4 KB each for as long as transcripts are kept,
and each Open asked the disk for all of them on the event loop: with 50,000 of them running sessions stalled for 1.5 s.
Now a transcript is a file from its first paid step on, a channel a row in the ledger likewise, and their size is a
running total.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.node.evidence.transcript_store import BLOCK, StoreFull, TranscriptStore
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.messages import Accept, Close
from tests.node.helpers.providers import Served, new_wallet, opening, running_provider
from tests.node.helpers.stages import stage_record

BOUND = 20.0


@pytest.fixture(scope="module")
def served(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("unpaid")
    with running_provider(chain, stored_tiny, folder, (0, 4), session_tokens=200) as served:
        yield served


async def test_a_session_without_a_step_leaves_nothing_on_disk(served: Served) -> None:
    wallet = new_wallet(served.chain)
    account = wallet.channel(served)
    folder = served.provider.transcripts.folder
    async with running_host(wallet.session_key) as host:
        for _ in range(3):
            connection = await dial_steps(host, served.advert, 10)
            await connection.send(opening(served.advert, account), BOUND)
            assert isinstance(await connection.receive(BOUND), Accept)
            await connection.send(Close(), BOUND)
            await connection.close()
        with trio.fail_after(BOUND):
            while served.open_sessions:
                await trio.sleep(0.02)
    assert list(folder.glob("*")) == []
    assert served.ledger.payee.channel(account.channel_id) is None


def test_the_disk_is_asked_for_all_files_once(tmp_path: Path, stored_tiny: StoredModel) -> None:
    for _ in range(20):
        (tmp_path / f"{secrets.token_hex(32)}.transcript").write_bytes(b"x")
    store = TranscriptStore(tmp_path, keep_seconds=100, max_bytes=20 * BLOCK)
    # Small files take whole blocks.
    assert store.size() == 20 * BLOCK
    (tmp_path / f"{secrets.token_hex(32)}.transcript").write_bytes(b"nobody told the store")
    assert store.size() == 20 * BLOCK
    with store.begin(stage_record(stored_tiny, 0, 2)):
        assert store.size() == 20 * BLOCK
    store.max_bytes -= 1
    with pytest.raises(StoreFull, match="allow more"):
        store.begin(stage_record(stored_tiny, 0, 2))
    assert store.full
