"""A client may go back to earlier tokens of its session: what it forgets was served, signed and paid all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.engine import reference
from hypercluster.node.errors import ErrorCode
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.messages import BRANCH, CHAIN, FLIGHT, REWIND, Close, Error
from tests.node.helpers.providers import (
    Served,
    new_wallet,
    running_provider,
)
from tests.node.helpers.visits import started

PROMPT = [72, 101, 108, 108, 111, 32]
WAIT = 20.0


@pytest.fixture(scope="module")
def provider(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with running_provider(
        chain, stored_tiny, tmp_path_factory.mktemp("provider"), (0, 4), sessions=2, session_tokens=60
    ) as provider:
        yield provider


async def test_what_was_forgotten_is_signed_paid_and_judged_like_the_rest(
    chain: Chain, provider: Served, stored_tiny: StoredModel
) -> None:
    assert provider.advert.features == (REWIND, BRANCH, CHAIN, FLIGHT)
    assert stored_tiny.source
    greedy = [int(token) for token in reference.generate(stored_tiny.source, PROMPT, 12, threads=1).ids]
    wallet = new_wallet(chain)
    account = wallet.channel(provider)
    async with running_host(wallet.session_key) as host:
        connection = await dial_steps(host, provider.advert)
        session = await started(provider, connection, account)
        assert await session.step(0, PROMPT) == greedy[0]
        for at in range(3):
            assert await session.step(len(PROMPT) + at, [greedy[at]]) == greedy[at + 1]
        # Four guesses, of which the second is wrong: back to behind the first.
        wrong = [greedy[3], greedy[4], *[(token + 1) % 300 for token in greedy[5:8]]]
        await session.step(len(PROMPT) + 3, wrong)
        for at in range(5, 9):
            assert await session.step(len(PROMPT) + at, [greedy[at]]) == greedy[at + 1]
        # All over again, as often as it is paid for: the capacity is of what is held at once.
        for _ in range(8):
            assert await session.step(0, PROMPT) == greedy[0]
        await connection.send(Close())
        await connection.close()
    row = provider.row(account)
    assert row.billed == row.best == session.cost
    # The provider's own transcript: its receipts are one chain, and it is right.
    domain = chain.disputes.domain
    transcript = provider.provider.transcripts.load(session.record.stage.struct_hash())
    assert len(transcript.receipts(domain)) == session.sent
    assert transcript.tokens == 6 + 3 + 5 + 4 + 48 > transcript.length == 15
    assert [run[0].position for run in transcript.runs] == [0, 11, *[0] * 8]
    replayer = Replayer(stored_tiny, calibrate(stored_tiny, texts=1, tokens=40), threads=1)
    assert replayer.judge(transcript).finding is Finding.PASS
    # Were the guesses not forgotten, the same rows would have given something else.
    kept, position = [], 0
    for step in transcript.steps[:9]:
        kept.append(replace(step, position=position))
        position += step.rows
    assert replayer.judge(Transcript(transcript.record, tuple(kept))).finding is Finding.FAIL
    replayer.close()


async def test_a_step_beyond_what_the_session_holds_is_refused(chain: Chain, provider: Served) -> None:
    wallet = new_wallet(chain)
    account = wallet.channel(provider)
    async with running_host(wallet.session_key) as host:
        connection = await dial_steps(host, provider.advert)
        session = await started(provider, connection, account)
        await session.step(0, PROMPT)
        await session.step(2, [1])
        refused = await session.step(6, [1])
        await connection.close()
    assert isinstance(refused, Error)
    assert (refused.code, refused.billed_wei) == (ErrorCode.OUT_OF_ORDER, session.cost)
    assert refused.message == "The step starts at 6, the session stands at 3."
