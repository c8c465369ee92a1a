"""The manifest: the same for everyone who has the same model, and nothing else passes for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.node.shards import (
    InvalidRange,
    Manifest,
    ManifestError,
    ManifestMismatch,
    ShardError,
    build_manifest,
    check_shard,
    check_source,
    parse_path,
    parse_range,
    partition,
    shard_bytes,
    split,
)
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.writing import float32, text, uint32
from tests.node.helpers.random_models import Shape, rewritten, write_random_model

SMALL = Shape(layers=3, n_embd=32, heads=2, kv_heads=1, n_ff=32, n_vocab=264, context=64, rope_freqs=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("source") / "model.gguf", SMALL)


@pytest.fixture(scope="module")
def manifest(source: Path) -> Manifest:
    return build_manifest(source)


def test_it_names_the_model_by_the_hash_of_its_canonical_form(source: Path, manifest: Manifest) -> None:
    assert (manifest.architecture, manifest.layers, manifest.n_embd) == ("llama", 3, 32)
    assert (manifest.n_vocab, manifest.context, manifest.quantisation, manifest.tied) == (
        264,
        64,
        "F32",
        False,
    )
    canonical = manifest.canonical()
    assert manifest.model_id == hashlib.sha256(canonical).hexdigest()
    document = json.loads(canonical)
    assert list(document) == sorted(document)
    assert b" " not in canonical.replace(json.dumps(manifest.chat_template).encode(), b"")
    assert build_manifest(source).model_id == manifest.model_id


def test_a_copy_under_another_name_is_the_same_model(
    source: Path, manifest: Manifest, tmp_path: Path
) -> None:

    renamed = rewritten(source, tmp_path / "other.gguf", metadata={"general.name": text("Another name")})
    assert build_manifest(renamed) == manifest


def test_any_other_weight_or_number_makes_another_model(
    source: Path, manifest: Manifest, tmp_path: Path
) -> None:

    for key, value in (
        ("llama.rope.freq_base", float32(500_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", float32(1e-6)),
        ("llama.context_length", uint32(128)),
        ("tokenizer.chat_template", text("{{ messages }}")),
        ("tokenizer.ggml.eos_token_id", uint32(1)),
    ):
        changed = build_manifest(rewritten(source, tmp_path / "x.gguf", metadata={key: value}))
        assert changed.model_id != manifest.model_id, key
    raw = bytearray(source.read_bytes())
    tensor = read_container(source).tensors["blk.1.ffn_up.weight"]
    raw[tensor.offset + 5] ^= 1
    (tmp_path / "bit.gguf").write_bytes(raw)
    flipped = build_manifest(tmp_path / "bit.gguf")
    assert [a == b for a, b in zip(flipped.blocks, manifest.blocks, strict=True)] == [True, False, True]
    assert (flipped.embedding, flipped.head) == (manifest.embedding, manifest.head)


def test_it_survives_saving_and_loading(manifest: Manifest, tmp_path: Path) -> None:
    path = dataclasses.replace(manifest, chat_template='{"é\n\u2028"}').save(
        tmp_path / "new" / "manifest.json"
    )
    loaded = Manifest.load(path)
    assert loaded.chat_template == '{"é\n\u2028"}'
    assert json.loads(path.read_text())["model_id"] == loaded.model_id != manifest.model_id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_id": "0" * 64}, "was changed"),
        ({"layers": 4}, "digests for 4 layers"),
        ({"layers": True}, "layers"),
        ({"layers": 3.0}, "layers"),
        ({"n_embd": -1}, "n_embd"),
        ({"architecture": "Gemma 3"}, "architecture"),
        ({"quantisation": "F63"}, "quantisation"),
        ({"tied": 0}, "tied"),
        ({"chat_template": "\ud800"}, "chat_template"),
        ({"head": "F" * 64}, "head"),
        ({"blocks": ["0" * 64, "0" * 64, 1]}, "blocks"),
        ({"format": 1}, "earlier version.*hc-model manifest"),
        ({"format": 3}, "another format than 2"),
        ({"starts": [1, 2]}, "starts"),
        ({"starts": [0, 2, 2]}, "starts"),
        ({"starts": [0, 3]}, "behind its last layer"),
        ({"starts": [0, 2]}, "was changed"),
        ({"width": 0}, "width"),
        ({"rewinds": 1}, "rewinds"),
        ({"lines": {}}, "lines"),
        ({"values": {}}, "values do not hash"),
        ({"values": {"llama.block_count": ["UINT32", "00"]}}, "under 'llama.block_count'"),
        ({"values": {"a": ["ARRAY", "08000000ffffffffffffff00"]}}, "under 'a'"),
        ({"values": {"general.name": ["UINT8", "00"]}}, "under 'general.name'"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(
    manifest: Manifest, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ManifestError, match=reason):
        Manifest.parse(json.dumps(manifest.document() | change).encode())


@pytest.mark.parametrize(
    "odd", [None, True, -1, 2**70, 0.5, "", "x", [], [[]], [None], {}, {"x": []}], ids=str
)
def test_whatever_stands_in_place_of_a_value_is_refused(manifest: Manifest, odd: Any) -> None:
    document = manifest.document()
    for key in document:
        if document[key] != odd and key != "model_id":
            with pytest.raises(ManifestError):
                Manifest.parse(json.dumps(document | {key: odd}).encode())


@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
    lambda value: json.dumps(value).encode()
))  # fmt: skip
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.parse(raw)


def test_deep_nesting_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        Manifest.parse(b"[" * 100_000)
    with pytest.raises(ManifestError, match="cannot be read"):
        Manifest.load(tmp_path / "none.json")


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)])
def test_a_shard_is_accepted_for_its_own_range_only(
    source: Path, manifest: Manifest, tmp_path: Path, start: int, stop: int
) -> None:
    shard = split(source, start, stop, tmp_path / "shard.gguf", manifest=manifest)
    hashes = check_shard(shard, manifest, start, stop)
    assert hashes is not None
    parts = {"shared", *map(str, range(start, stop))}
    parts |= ({"embedding"} if start == 0 else set()) | ({"head"} if stop == 3 else set())
    held = {name for name, line in manifest.tensors.items() if line.part in parts}
    assert hashes.tensors.keys() == held
    for other in {(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)} - {(start, stop)}:
        with pytest.raises(ManifestMismatch, match="holds layers"):
            check_shard(shard, manifest, *other)
    with pytest.raises(InvalidRange):
        check_shard(shard, manifest, 0, 4)
    with pytest.raises(ManifestMismatch, match="belongs to model"):
        check_shard(shard, dataclasses.replace(manifest, context=65), start, stop)
    with pytest.raises(ManifestMismatch, match="is no shard"):
        check_shard(source, manifest, 0, 3)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_of_a_shard_goes_unnoticed(
    source: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every bit of the weights and placeholders counts; of the header at least no crash."""
    start, stop = data.draw(st.sampled_from([(0, 1), (1, 2), (2, 3), (0, 3)]))
    folder = tmp_path_factory.getbasetemp()
    shard = folder / f"flip-{start}-{stop}.gguf"
    if not shard.exists():
        split(source, start, stop, shard, manifest=manifest)
    raw = bytearray(shard.read_bytes())
    tensors = list(read_container(shard).tensors.values())
    tensor = data.draw(st.sampled_from(tensors))
    bit = data.draw(st.integers(0, 8 * tensor.size - 1))
    raw[tensor.offset + bit // 8] ^= 1 << bit % 8
    damaged = folder / "damaged.gguf"
    damaged.write_bytes(raw)
    with pytest.raises(ManifestMismatch):
        check_shard(damaged, manifest, start, stop)
    check_shard(damaged, manifest, start, stop, verify=False)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_to_a_shards_header_never_escapes_as_another_error(
    source: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    shard = folder / "header.gguf"
    if not shard.exists():
        split(source, 1, 3, shard, manifest=manifest)
    raw = bytearray(shard.read_bytes())
    header = min(tensor.offset for tensor in read_container(shard).tensors.values())
    raw[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    (folder / "fuzzed.gguf").write_bytes(raw)
    try:
        check_shard(folder / "fuzzed.gguf", manifest, 1, 3)
    except ShardError:
        return
    # what still passes holds the same weights and numbers: only padding or free text has changed


def test_a_shard_says_nothing_that_split_does_not_write(
    source: Path, manifest: Manifest, tmp_path: Path
) -> None:

    shard = split(source, 1, 2, tmp_path / "shard.gguf", manifest=manifest)
    for key, value in (
        ("llama.pooling_type", uint32(1)),
        ("tokenizer.ggml.pre", text("default")),
        ("tokenizer.ggml.model", text("gpt2")),
        ("split.count", uint32(2)),
        ("llama.vocab_size", uint32(31)),
        ("llama.rope.freq_base", None),
        ("hypercluster.model_id", text("00")),
        ("hypercluster.layer_start", uint32(0)),
    ):
        with pytest.raises(ShardError):
            check_shard(rewritten(shard, tmp_path / "x.gguf", metadata={key: value}), manifest, 1, 2)


@pytest.mark.parametrize("shape", [SMALL, dataclasses.replace(SMALL, tied=True, n_vocab=4000)])
def test_nothing_is_stored_twice(tmp_path: Path, shape: Shape) -> None:
    source = write_random_model(tmp_path / "model.gguf", shape)
    model, manifest = check_source(source), build_manifest(source)
    for parts in (1, 2, 3):
        ranges = partition(3, parts)
        shards = [split(source, a, b, tmp_path / f"{a}-{b}.gguf", manifest=manifest) for a, b in ranges]
        total = sum(512 * path.stat().st_blocks for path in shards)
        again = model.embedding["token_embd.weight"].size if shape.tied and parts > 1 else 0
        again += (parts - 1) * model.shared["rope_freqs.weight"].size
        per_shard = 4 * 4096  # header, and what a block of the disk holds besides
        assert total <= source.stat().st_size + again + parts * per_shard
        assert sum(shard_bytes(model, a, b) for a, b in ranges) == model.data_bytes + again


def test_ranges_are_read_strictly() -> None:
    assert parse_range("0:3", 8) == (0, 3)
    assert parse_path("0:3, 3:6,6:8", 8) == [(0, 3), (3, 6), (6, 8)]
    assert partition(8, 3) == [(0, 2), (2, 5), (5, 8)]
    assert partition(8, 1) == [(0, 8)]
    for words in ("", "3", "a:b", "-1:3", "3:3", "4:3", "0:9", "0:3:4", "0:99999"):
        with pytest.raises(InvalidRange):
            parse_range(words, 8)
    for words in ("0:3,4:8", "0:3,2:8", "1:8", "0:7", "0:8,"):
        with pytest.raises(InvalidRange):
            parse_path(words, 8)
    for parts in (0, 9, -1):
        with pytest.raises(InvalidRange):
            partition(8, parts)
