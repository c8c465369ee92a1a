"""Shards compute what the unsplit model computes: the same logits, bit for bit, for every architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.engine.equality import Comparison, Shard, compare
from hypercluster.node.shards import build_manifest, check_shard, parse_path, split
from tests.node.helpers.random_models import Shape, write_random_model

LLAMA = Shape(n_embd=64, n_ff=96, n_vocab=264, context=128)
PATHS = ["0:1,1:2,2:3,3:4", "0:3,3:4", "0:1,1:4", "0:2,2:4", "0:4"]


def compared(shape: Shape, folder: Path, path: str) -> Comparison:
    """The comparison of a random model with its shards, after a prompt longer than one prefill chunk."""
    source = write_random_model(folder / "model.gguf", shape)
    manifest = build_manifest(source)
    stages = []
    for start, stop in parse_path(path, shape.layers):
        shard = split(source, start, stop, folder / f"{start}-{stop}.gguf", manifest=manifest)
        check_shard(shard, manifest, start, stop)
        stages.append(Shard(shard, start == 0, stop == shape.layers))
    prompt = [(7 * i) % 263 for i in range(70)]
    return compare(source, stages, prompt, 8, threads=1)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(LLAMA, id="llama"),
        pytest.param(replace(LLAMA, rope_freqs=True, rope_base=5e5, tied=True), id="llama3-tied"),
        pytest.param(replace(LLAMA, heads=4, kv_heads=1, head_dim=32), id="mistral-wide-heads"),
        pytest.param(replace(LLAMA, architecture="qwen2", tied=True), id="qwen2"),
        pytest.param(replace(LLAMA, architecture="qwen3", head_dim=32), id="qwen3"),
        pytest.param(replace(LLAMA, architecture="gpt2"), id="gpt2"),
        pytest.param(replace(LLAMA, architecture="bitnet"), id="bitnet"),
    ],
)
def test_every_architecture_and_split_point(shape: Shape, path: str, tmp_path: Path) -> None:
    result = compared(shape, tmp_path, path)
    assert result.identical
    assert result.max_difference == 0.0
    assert len(set(result.unsplit)) > 1, "a model that repeats one token tells little"


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("type_", [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_quantised_weights(architecture: str, type_: Type, tied: bool, tmp_path: Path) -> None:
    shape = replace(LLAMA, architecture=architecture, quantisation=type_, tied=tied)
    result = compared(shape, tmp_path, "0:1,1:2,2:4")
    assert result.identical
    assert result.max_difference == 0.0


@pytest.mark.parametrize("type_", [Type.TQ1_0, Type.TQ2_0])
def test_ternary_bitnet(type_: Type, tmp_path: Path) -> None:
    shape = replace(LLAMA, architecture="bitnet", n_embd=256, n_ff=512, quantisation=type_)
    result = compared(shape, tmp_path, "0:1,1:3,3:4")
    assert result.identical
    assert result.max_difference == 0.0


@pytest.mark.parametrize("tied", [False, True])
def test_a_vocabulary_of_128k(tied: bool, tmp_path: Path) -> None:
    shape = replace(LLAMA, layers=2, n_vocab=128_256, tied=tied, rope_freqs=True, quantisation=Type.Q8_0)
    result = compared(shape, tmp_path, "0:1,1:2")
    assert result.identical
    assert result.max_difference == 0.0


def test_a_wrong_shard_is_found_out(tmp_path: Path) -> None:
    """The comparison itself can say no."""
    source = write_random_model(tmp_path / "model.gguf", LLAMA)
    other = write_random_model(tmp_path / "other.gguf", replace(LLAMA, seed=1))
    head = split(source, 0, 2, tmp_path / "head.gguf")
    tail = split(other, 2, 4, tmp_path / "tail.gguf")
    result = compare(source, [Shard(head, True, False), Shard(tail, False, True)], [1, 2, 3], 6, threads=1)
    assert not result.identical
    assert result.max_difference > 0.0
    assert result.compared <= 6
