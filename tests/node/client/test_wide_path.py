"""A paid path of a model whose boundaries are wider than its embedding and whose later layers read token ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.trust.audit import Bounds
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.client.opening import Opener, Terms, recipient_of
from hypercluster.node.engine import reference
from hypercluster.node.engine.templates import template
from hypercluster.node.engine.tiny import write_tiny
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.network.host import running_host
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.rows import TOKEN_BYTES, WireDtype
from hypercluster.node.shards.store import StoredModel, open_model
from tests.node.helpers.providers import FREE, Served, new_wallet, running_provider
from tests.node.helpers.rounding import certify

RANGES = ((0, 1), (1, 3), (3, 6))
PROMPT = [int(token) for token in np.random.default_rng(5).integers(0, 100, 90)]
"""longer than a step, so that chunks follow each other"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    folder = tmp_path_factory.mktemp("wide")
    model = write_tiny(folder / "model.gguf", "deepseek4", template("deepseek4"))
    opened = open_model(model, folder / "home")
    certify(opened, "q8")
    return opened


@pytest.fixture(scope="module")
def path(
    chain: Chain, stored: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Served]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_provider(
                    chain, stored, tmp_path_factory.mktemp(f"{a}"), (a, b), sessions=2, session_tokens=120
                )
            )
            for a, b in RANGES
        ]


@pytest.mark.parametrize("dtype", WireDtype)
async def test_a_path_answers_like_the_unsplit_model_and_passes_its_audit(
    chain: Chain, stored: StoredModel, path: list[Served], tmp_path: Path, dtype: WireDtype
) -> None:
    manifest = stored.manifest
    assert manifest.reads_tokens
    assert manifest.width > manifest.n_embd
    assert stored.source is not None
    expected = reference.generate(stored.source, PROMPT, 6, threads=1)
    wallet = new_wallet(chain)
    transcripts = TranscriptStore(tmp_path, keep_seconds=3600, max_bytes=2**28)
    adverts = [each.advert for each in path]
    assert {advert.width for advert in adverts} == {manifest.width}
    accounts = {recipient_of(each.advert): wallet.channel(each) for each in path}
    async with running_host(wallet.session_key) as host:
        opener = Opener(
            host,
            layers=manifest.layers,
            n_vocab=manifest.n_vocab,
            reads_tokens=manifest.reads_tokens,
            domain=chain.disputes.domain,
            transcripts=transcripts,
        )
        terms = Terms(capacity=110, top_k=4, wire_dtype=dtype)
        async with await opener.open(adverts, accounts, terms, FREE) as pipeline:
            best = await pipeline.run(PROMPT)
            for at in range(6):
                logits = expected.logits[at][best.ids[0]]
                if dtype is WireDtype.F32:
                    np.testing.assert_allclose(best.logits[0], logits, atol=1e-4)
                    assert best.ids[0, 0] == expected.ids[at]
                else:
                    np.testing.assert_allclose(best.logits[0], logits, atol=0.5)
                best = await pipeline.run([int(expected.ids[at])])
            stages = [hop.record.stage.struct_hash() for hop in pipeline.hops]
    replayer = Replayer(stored, Bounds.conservative(manifest.model_id), threads=1)
    try:
        for number, stage in enumerate(stages):
            transcript = transcripts.load(stage)
            assert transcript.tokens == len(PROMPT) + 6
            if number:
                row = dtype.row_bytes(manifest.width) + TOKEN_BYTES
                assert len(transcript.input) == row * transcript.tokens
            found = replayer.judge(transcript)
            assert found.finding is Finding.PASS
            assert len(found.rows) == transcript.outputs
    finally:
        replayer.close()
