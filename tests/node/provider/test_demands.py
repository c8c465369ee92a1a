"""C9: a provider answers demands on chain, whatever becomes of blocks, of the way there and of other demands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coincurve
import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.chain.disputes import Demanded, DemandStatus, Served
from hypercluster.market.errors import ChainError
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.merkle import split_rows
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.provider.demands import Demands
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.faucet import give
from tests.market.chain.blocks import ask, mining
from tests.market.chain.reorganising import replaced
from tests.market.proxy import Answer, proxy
from tests.node.helpers.stages import served

SENDING = "eth_sendRawTransaction"


@dataclass(frozen=True)
class Demanding:
    """A provider with the transcript of a stage, and a client that demands rows of it."""

    chain: Chain
    store: TranscriptStore
    transcript: Transcript
    node: Sender
    client: Sender
    signing: dict[str, Any]
    """the node's key and the domain, as `served` takes them"""

    def demand(self, row: int, transcript: Transcript | None = None, *, output: bool = False) -> int:
        """Demand a row of the prompt's inputs, or outputs; returns the demand's number."""
        disputes = self.chain.disputes
        receipt, signature = (transcript or self.transcript).receipts(disputes.domain)[0]
        mined = disputes.demands.demand(self.client, receipt, signature, output=output, row=row)
        return next(e.demand_id for e in disputes.events_in(mined) if isinstance(e, Demanded))

    def watching(self, url: str | None = None) -> Demands:
        chain = Chain(url, self.chain.deployment) if url else self.chain
        account = self.node.account
        return Demands(
            chain=chain,
            sender=Sender(chain, account, patience=20),
            node=account.address,
            transcripts=self.store,
        )

    def status(self, demand_id: int) -> DemandStatus:
        return self.chain.disputes.demands.state(demand_id).status


@pytest.fixture(scope="module")
def demanding(chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory) -> Demanding:
    node, operator, client = (Account.create() for _ in range(3))
    for each, amount in ((node, 0), (operator, chain.staking.minimum), (client, 100 * HCT)):
        give(chain, each.address, amount)
    key = coincurve.PrivateKey(bytes(node.key))
    chain.staking.stake(Sender(chain, operator), chain.staking.minimum)
    chain.staking.authorize(Sender(chain, operator), key)
    store = TranscriptStore(tmp_path_factory.mktemp("demands"), keep_seconds=3600, max_bytes=2**24)
    back = [(0, 9), (5, 1)]
    signing: dict[str, Any] = {"key": bytes(node.key), "domain": chain.disputes.domain}
    transcript = served(stored_tiny, 1, 2, range(8, 18), places=back, **signing)
    store.keep(transcript)
    return Demanding(chain, store, transcript, Sender(chain, node), Sender(chain, client), signing)


async def test_c9_a_demand_in_a_block_that_was_read(demanding: Demanding) -> None:
    """C9: the block that was the latest is replaced by one with a demand in it, which is served all the same."""
    chain, demands = demanding.chain, demanding.watching()
    await demands.work()
    taken = ask(chain, "evm_snapshot")
    ask(chain, "evm_mine")
    await demands.work()
    ask(chain, "evm_revert", taken)
    number = demanding.demand(0)
    await demands.work()
    assert demanding.status(number) is DemandStatus.SERVED


async def test_c9_an_answer_that_vanished_is_given_again(demanding: Demanding) -> None:
    number, demands = demanding.demand(1), demanding.watching()
    with replaced(demanding.chain):
        await demands.work()
        assert demanding.status(number) is DemandStatus.SERVED
    assert demanding.status(number) is DemandStatus.OPEN
    await demands.work()
    assert demanding.status(number) is DemandStatus.SERVED
    await demands.work()
    assert not demands.open


async def test_a_row_that_was_forgotten_is_shown_like_any_other(demanding: Demanding) -> None:
    """The stage went back to before it: it was served, signed and paid all the same."""
    assert demanding.transcript.steps[1].position < 8
    number = demanding.demand(8)
    await demanding.watching().work()
    assert demanding.status(number) is DemandStatus.SERVED


@pytest.mark.parametrize("dtype", WireDtype)
async def test_rows_are_shown_as_they_travelled(
    demanding: Demanding, stored_tiny: StoredModel, dtype: WireDtype
) -> None:
    """Blocks of q8 as well: their rows have the bytes that the receipt commits to, whatever numbers they stand for."""
    transcript = served(stored_tiny, 1, 2, range(20, 30), dtype=dtype, **demanding.signing)
    demanding.store.keep(transcript)
    numbers = [demanding.demand(3, transcript, output=each) for each in (False, True)]
    await demanding.watching().work()
    assert [demanding.status(each) for each in numbers] == 2 * [DemandStatus.SERVED]
    step, chain, shown = transcript.steps[0], demanding.chain, dict[int, bytes]()
    for event in chain.disputes.events_from(chain.deployment.block)[0]:
        if isinstance(event, Served) and event.demand_id in numbers:
            shown[event.demand_id] = event.data_hash
    rows = [
        split_rows(data, count)[3] for data, count in ((step.input, step.rows), (step.output, step.outputs))
    ]
    assert [*map(len, rows)] == 2 * [dtype.row_bytes(stored_tiny.manifest.width)]
    assert [shown[each] for each in numbers] == [keccak(row) for row in rows]


async def test_many_demands_share_blocks(demanding: Demanding) -> None:
    """Answers go out behind each other, not one a block."""
    chain = demanding.chain
    numbers = [demanding.demand(row) for row in (2, 3, 4)]
    ask(chain, "evm_setAutomine", False)
    try:
        with mining(chain):
            await demanding.watching().work()
    finally:
        ask(chain, "evm_setAutomine", True)
    assert {demanding.status(number) for number in numbers} == {DemandStatus.SERVED}
    served_in = set()
    for event in chain.disputes.events_from(chain.deployment.block)[0]:
        if getattr(event, "demand_id", None) in numbers and type(event).__name__ == "Served":
            served_in.add(event.block)
    assert len(served_in) < len(numbers)


async def test_a_demand_that_fails_does_not_hold_up_the_others(demanding: Demanding) -> None:
    """The node refuses the first answer for a reason of its own; the other one is served at the same look."""
    first, second = demanding.demand(5), demanding.demand(6)
    refused: list[str] = []

    def refuse_one(method: str, asked: Callable[[], bytes]) -> Answer:
        if method == "eth_estimateGas" and not refused:
            refused.append(method)
            error = {"code": -32000, "message": "gas required exceeds allowance"}
            return 200, json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()
        return 200, asked()

    with proxy(demanding.chain.url, refuse_one) as url:
        demands = demanding.watching(url)
        with pytest.raises(ChainError, match="gas required"):
            await demands.work()
        assert demanding.status(first) is DemandStatus.OPEN
        assert demanding.status(second) is DemandStatus.SERVED
        await demands.work()
    assert demanding.status(first) is DemandStatus.SERVED


async def test_a_row_that_is_not_here_holds_up_nothing(
    demanding: Demanding, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    number, empty = demanding.demand(7), demanding.watching()
    empty._transcripts = TranscriptStore(tmp_path, keep_seconds=3600, max_bytes=2**20)
    for _ in range(2):
        await empty.work()
    assert [record.message for record in caplog.records].count(
        f"demand {number} is for step 0 of stage {demanding.transcript.record.stage.struct_hash().hex()}, "
        "which is not here any more"
    ) == 1
    demanding.store.keep(demanding.transcript)
    await demanding.watching().work()
    assert demanding.status(number) is DemandStatus.SERVED
