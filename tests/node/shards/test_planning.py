"""What shards consist of, by the header of a model alone."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.node.engine.templates import Meta, template
from hypercluster.node.engine.tiny import metadata
from hypercluster.node.shards import (
    InvalidRange,
    ManifestMismatch,
    ShardError,
    build_manifest,
    check_shard,
    check_source,
    partition,
    split,
)
from hypercluster.node.shards.blueprint import Blueprint, Row
from hypercluster.node.shards.crossing import crossing_of
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.planning import plan
from hypercluster.node.shards.rules import INDEXERS, RULES
from hypercluster.node.shards.traits import traits_of_blueprint
from hypercluster.node.shards.writing import Value, float32, int32s, text, uint32, uint32s
from tests.node.helpers.random_models import Shape, rewritten, write_random_model


def blueprint(architecture: str, changes: Meta | None = None, layers: int | None = None) -> Blueprint:
    """A tiny model of which only the embedding and one tensor of each layer are known."""
    meta = template(architecture, layers=layers, changes=changes)
    keys = {
        key.removeprefix(f"{architecture}."): value
        for key, value in metadata(architecture, meta).items()
        if not key.startswith(("general.", "tokenizer."))
    }
    rows = {f"blk.{layer}.attn_k.weight": Row(Type.Q8_0, (256, 256)) for layer in range(meta["block_count"])}
    return Blueprint(architecture, keys, rows | {"token_embd.weight": Row(Type.F32, (256, 128))})


def test_ranges_begin_only_where_a_layer_needs_nothing_of_the_one_before() -> None:
    model = blueprint("glm-dsa", {INDEXERS: [1, 0, 1, 0, 0, 1]})
    starts = traits_of_blueprint(model).starts
    assert starts == (0, 2, 5)
    with pytest.raises(InvalidRange, match="begin at layer 4; the nearest layer where one can is 5"):
        plan(model, 4, 6)
    assert partition(6, 3, starts) == [(0, 2), (2, 5), (5, 6)]
    with pytest.raises(InvalidRange, match="its layers may be cut in 3"):
        partition(6, 4, starts)


def test_layers_that_borrow_caches_stay_with_their_owners() -> None:
    model = blueprint("gemma4", {"attention.shared_kv_layers": 3})
    assert traits_of_blueprint(model).starts == (0, 1, 2, 3, 4, 5)


def test_wide_residuals_and_token_ids_are_told() -> None:
    traits = traits_of_blueprint(blueprint("deepseek4"))
    assert (traits.width, traits.reads_tokens) == (4 * 512, True)
    assert traits_of_blueprint(blueprint("llama")).width == 256


def test_layers_that_only_look_ahead_are_left_out() -> None:
    model = blueprint("deepseek2", {"nextn_predict_layers": 1}, layers=7)
    shard = plan(model, 3, 6)
    assert model.layers == 6
    assert "deepseek2.nextn_predict_layers" not in shard.metadata
    assert not any(piece.source and piece.source.startswith("blk.6.") for piece in shard.pieces)


def test_zeros_take_no_space_on_the_disk_and_are_seen_when_they_are_none(tmp_path: Path) -> None:
    """A head's shard has the place of an output matrix that it does not compute with."""
    shape = Shape(layers=2, n_embd=256, heads=4, kv_heads=4, n_ff=256, n_vocab=32_000)
    source = write_random_model(tmp_path / "model.gguf", shape)
    manifest = build_manifest(source)
    head = split(source, 0, 1, tmp_path / "head.gguf", manifest=manifest)
    hole = read_container(head).tensors["output.weight"]
    whole = head.stat()
    assert hole.size > 1 << 20
    assert 512 * whole.st_blocks < whole.st_size - hole.size // 2
    with head.open("r+b") as file:
        file.seek(hole.offset + hole.size // 2)
        file.write(b"\1")
    with pytest.raises(ManifestMismatch, match=r"output\.weight is not all zeros"):
        check_shard(head, manifest, 0, 1)


def test_a_file_and_its_manifest_make_the_same_shards(tmp_path: Path) -> None:
    source = write_random_model(tmp_path / "model.gguf", dataclasses.replace(Shape(), rope_freqs=True))
    model, manifest = check_source(source), build_manifest(source)
    for start, stop in ((0, 1), (1, 3), (3, 4), (0, 4)):
        assert plan(model.blueprint, start, stop) == plan(manifest.blueprint, start, stop)


def test_a_shard_that_lies_about_its_crossing_is_refused(tmp_path: Path) -> None:
    source = write_random_model(tmp_path / "model.gguf")
    manifest = build_manifest(source)
    shard = split(source, 1, 2, tmp_path / "shard.gguf", manifest=manifest)
    for key, value in (("how", text("inject")), ("exit", text("ffn_out-0")), ("width", uint32(32))):
        lying = rewritten(shard, tmp_path / "lying.gguf", metadata={f"hypercluster.{key}": value})
        with pytest.raises(ManifestMismatch, match=f"another hypercluster.{key}"):
            check_shard(lying, manifest, 1, 2)
    wrong: dict[str, Value | None] = {
        "how": text("x"),
        "exit": uint32(1),
        "width": text("9"),
        "real_stop": None,
    }
    for key, odd_value in wrong.items():
        odd = rewritten(shard, tmp_path / "odd.gguf", metadata={f"hypercluster.{key}": odd_value})
        with pytest.raises(ShardError):
            crossing_of(odd)


ODD = st.one_of(
    st.integers(0, 2**32 - 1).map(uint32),
    st.floats(width=32).map(float32),
    st.text(max_size=4).map(text),
    st.lists(st.integers(0, 2**32 - 1), max_size=9).map(uint32s),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=6, max_size=10).map(int32s),
    st.just(Value(GGUFValueType.BOOL, b"\1")),
)
CUT = sorted(name for name, rule in RULES.items() if rule.refused is None)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_metadata_from_strangers_makes_a_plan_or_a_sentence(data: st.DataObject) -> None:
    model = blueprint(data.draw(st.sampled_from(CUT)))
    keys = dict(model.keys)
    for key in data.draw(st.lists(st.sampled_from(sorted(keys)), min_size=1, max_size=3)):
        keys[key] = data.draw(ODD)
    odd = dataclasses.replace(model, keys=keys)
    with suppress(ShardError):
        start = data.draw(st.integers(0, odd.layers - 1))
        assert plan(odd, start, odd.layers).crossing.width > 0
        assert traits_of_blueprint(odd).width > 0
