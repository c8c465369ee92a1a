"""Every way in which rows enter a shard: by the bits of the unsplit model, alone and with others in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from hypercluster.node.engine import reference
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.steps import BadShape, CannotRewind, NotFinite
from hypercluster.node.engine.templates import template
from hypercluster.node.engine.tiny import write_tiny
from hypercluster.node.rows import (
    Payload,
    TopK,
    WireDtype,
    input_dtype,
    pack_activations,
    unpack_input,
    with_tokens,
)
from hypercluster.node.shards.crossing import crossing_of
from hypercluster.node.shards.slicing import split

SECONDS = 120
WAYS = {"qwen2vl": "embd", "gemma2": "inject", "deepseek4": "inject", "minicpm3": "skeleton"}
"""with four positions for each row; scaled embeddings; a wide residual and token ids; all layers kept"""


@pytest.fixture(scope="module", params=WAYS)
def parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Path]]:
    architecture = request.param
    folder = tmp_path_factory.mktemp(architecture)
    model = write_tiny(folder / "model.gguf", architecture, template(architecture))
    return model, [split(model, a, b, folder / f"{a}.gguf") for a, b in ((0, 1), (1, 3), (3, 6))]


@contextmanager
def engines(shards: Sequence[Path], sessions: int = 1) -> Iterator[list[Engine]]:
    """In this process, which starts faster: the other one has tests of its own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Engine(
                    shard, at == 0, at == len(shards) - 1,
                    n_ctx_total=128 * sessions, max_sessions=sessions, threads=1, apart=False,
                )
            )
            for at, shard in enumerate(shards)
        ]  # fmt: skip


class Walk:
    """One session on a path of engines; what goes on is packed as it is on the wire."""

    def __init__(self, path: Sequence[Engine]) -> None:
        self.path, self.slots, self.at = path, [engine.open(100) for engine in path], 0

    def step(self, tokens: Payload) -> TopK:
        """The candidates behind the last of the tokens."""
        payload = tokens
        for engine, slot in zip(self.path, self.slots, strict=True):
            output = engine.submit(slot, self.at, payload, top_k=engine.n_vocab).result(SECONDS)
            if output.activations is not None:
                packed = pack_activations(output.activations, WireDtype.F32)
                payload = unpack_input(
                    with_tokens(packed, tokens.tolist()) if self.path[1].reads_tokens else packed,
                    len(tokens), first=False, width=engine.width,
                    reads_tokens=self.path[1].reads_tokens, dtype=WireDtype.F32,
                )  # fmt: skip
        self.at += len(tokens)
        assert output.topk is not None
        return output.topk


def dense(best: TopK) -> np.ndarray:
    logits = np.empty(best.ids.shape[1], np.float32)
    logits[best.ids[0]] = best.logits[0]
    return logits


def test_shards_give_the_bits_of_the_unsplit_model_however_rows_enter(parts: tuple[Path, list[Path]]) -> None:
    model, shards = parts
    architecture = model.parent.name.rstrip("0123456789")
    assert any(
        crossing_of(shards[1]).how == how for name, how in WAYS.items() if name.startswith(architecture)
    )
    with engines(shards, sessions=3) as path:
        draw = np.random.default_rng(3)
        prompts = [draw.integers(0, path[0].n_vocab, n, dtype=np.int32) for n in (21, 3, 40)]
        expected = [reference.generate(model, prompt.tolist(), 4, threads=1) for prompt in prompts]
        walks = [Walk(path) for _ in prompts]
        for walk, prompt, unsplit in zip(walks, prompts, expected, strict=True):
            np.testing.assert_array_equal(dense(walk.step(prompt)), unsplit.logits[0])
        for at in range(1, 4):
            for walk, unsplit in zip(walks, expected, strict=True):
                np.testing.assert_array_equal(dense(walk.step(unsplit.ids[at - 1 : at])), unsplit.logits[at])


def test_rows_of_several_sessions_in_one_batch_enter_and_leave_as_alone(
    parts: tuple[Path, list[Path]],
) -> None:
    _, shards = parts
    with engines(shards, sessions=3) as path:
        middle, tokens = path[1], np.array([3, 5, 7], np.int32)
        rows = np.random.default_rng(1).standard_normal((3, middle.width)).astype(np.float32)
        packed = pack_activations(rows, WireDtype.F32)
        if middle.reads_tokens:
            packed = with_tokens(packed, tokens.tolist())
        size = len(packed) // 3
        each = [
            unpack_input(
                packed[at * size : (at + 1) * size], 1, first=False, width=middle.width,
                reads_tokens=middle.reads_tokens, dtype=WireDtype.F32,
            )
            for at in range(3)
        ]  # fmt: skip
        slots = [middle.open(8) for _ in each]
        alone = [
            middle.submit(slot, 0, row).result(SECONDS).activations
            for slot, row in zip(slots, each, strict=True)
        ]
        shared = crossing_of(shards[1]).how != "skeleton"
        before = middle.stats()
        with middle._wake:  # so that all of them wait when the engine looks
            together = [middle.submit(slot, 0, row) for slot, row in zip(slots, each, strict=True)]
        for step, expected in zip(together, alone, strict=True):
            # weights of float32 are multiplied in another order where there are several rows
            out = step.result(SECONDS).activations
            assert out is not None
            assert expected is not None
            np.testing.assert_allclose(out, expected, atol=1e-4)
        assert middle.stats().decodes - before.decodes == (1 if shared else 3)


def test_only_caches_that_can_forget_go_back(parts: tuple[Path, list[Path]]) -> None:
    model, shards = parts
    with engines(shards) as path:
        tokens = np.arange(20, dtype=np.int32) % path[0].n_vocab
        walk = Walk(path)
        walk.step(tokens)
        walk.at = 12
        if not path[0].rewinds:
            assert model.parent.name.startswith("deepseek4")
            with pytest.raises(CannotRewind, match="cannot go back"):
                walk.step(tokens[12:])
            return
        expected = reference.generate(model, tokens.tolist(), 1, threads=1)
        np.testing.assert_allclose(dense(walk.step(tokens[12:])), expected.logits[0], atol=1e-4)


@pytest.mark.parametrize("parts", ["deepseek4"], indirect=True)
def test_rows_without_the_token_ids_that_a_model_reads_are_refused(parts: tuple[Path, list[Path]]) -> None:
    with engines(parts[1]) as path:
        tail = path[-1]
        slot, rows = tail.open(8), np.ones((2, tail.width), np.float32)
        for wrong in (rows, np.array([1, 2], np.int32)):
            with pytest.raises(BadShape, match="and a token id"):
                tail.submit(slot, 0, wrong)

        table = np.zeros(2, input_dtype(tail.width))
        table["token"] = 1, tail.n_vocab
        with pytest.raises(BadShape, match="outside the vocabulary"):
            tail.submit(slot, 0, table)
        table["token"], table["residual"][1, 1] = 1, np.inf
        with pytest.raises(NotFinite):
            tail.submit(slot, 0, table)
