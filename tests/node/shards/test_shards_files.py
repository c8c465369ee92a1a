"""What is refused before llama.cpp sees it: damaged files, foreign architectures, wrong tensors."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import GGUFValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypercluster.node.shards import (
    InvalidTensor,
    MalformedFile,
    ManifestMismatch,
    ShardError,
    UnsupportedModel,
    WriteFailed,
    build_manifest,
    check_source,
    check_vocabulary,
    split,
    write_vocabulary,
)
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.rules import RULES
from hypercluster.node.shards.writing import Part, Value, int32s, text, texts, uint32, zeros
from tests.node.helpers.random_models import Shape, rewritten, write_random_model

SMALL = Shape(layers=2, n_embd=32, heads=2, kv_heads=1, n_ff=32, n_vocab=264, context=64)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("source") / "model.gguf", SMALL)


def test_a_written_file_reads_back_as_it_was(source: Path, tmp_path: Path) -> None:
    copy = rewritten(source, tmp_path / "copy.gguf")
    assert copy.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("keep", [0, 3, 4, 20, 300, 2000, -40])
def test_a_truncated_file_is_refused(source: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(source.read_bytes()[:keep])
    with pytest.raises(MalformedFile):
        check_source(path)


@pytest.mark.parametrize(
    ("offset", "code", "value", "reason"),
    [
        (0, "<I", 0x47475546, "does not start with"),
        (4, "<I", 1, "version 1"),
        (4, "<I", 0x03000000, "version"),
        (8, "<Q", 1 << 60, "absurd"),
        (16, "<Q", (1 << 64) - 1, "absurd"),
        (24, "<Q", 1 << 40, "metadata key"),
    ],
)
def test_a_damaged_header_is_refused(
    source: Path, tmp_path: Path, offset: int, code: str, value: int, reason: str
) -> None:
    raw = bytearray(source.read_bytes())
    struct.pack_into(code, raw, offset, value)
    path = tmp_path / "damaged.gguf"
    path.write_bytes(raw)
    with pytest.raises(MalformedFile, match=reason):
        check_source(path)


def test_lists_of_absurd_length_are_refused_at_once(tmp_path: Path) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k"
    path = tmp_path / "list.gguf"
    for item, count in ((8, 1 << 62), (4, 1 << 62), (8, 1 << 22), (9, 1), (99, 1)):
        path.write_bytes(head + struct.pack("<IIQ", 9, item, count) + bytes(64))
        with pytest.raises(MalformedFile):
            read_container(path)


def test_missing_files_and_folders_get_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.gguf"):
        with pytest.raises(MalformedFile, match="cannot be read"):
            check_source(path)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_never_escapes_as_another_error(
    source: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Flips, truncations and splices anywhere in the header end in a ShardError or in an accepted file."""
    raw = bytearray(source.read_bytes())
    header = min(tensor.offset for tensor in read_container(source).tensors.values())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, header - 1))
        how = data.draw(st.sampled_from(("flip", "cut", "word", "long", "insert")))
        if how == "flip" and where < len(raw):
            raw[where] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut":
            del raw[where:]
        elif how == "insert":
            raw[where:where] = data.draw(st.binary(max_size=9))
        elif where + 8 <= len(raw):
            high = (1 << 32) - 1 if how == "word" else (1 << 64) - 1
            struct.pack_into("<I" if how == "word" else "<Q", raw, where, data.draw(st.integers(0, high)))
    path = tmp_path / "fuzzed.gguf"
    path.write_bytes(raw)
    with suppress(ShardError):
        check_source(path)
        write_vocabulary(path, tmp_path / "vocab.gguf")


@pytest.mark.parametrize("architecture", ["bert", "t5", "LLAMA"])
def test_architectures_that_were_never_seen_exact_are_refused_by_name(
    source: Path, tmp_path: Path, architecture: str
) -> None:
    path = rewritten(source, tmp_path / "x.gguf", metadata={"general.architecture": text(architecture)})
    with pytest.raises(UnsupportedModel, match=f"{architecture!r} is none of the"):
        check_source(path)


@pytest.mark.parametrize("architecture", [name for name, rule in RULES.items() if rule.refused])
def test_architectures_that_cannot_be_cut_say_why(source: Path, tmp_path: Path, architecture: str) -> None:
    path = rewritten(source, tmp_path / "x.gguf", metadata={"general.architecture": text(architecture)})
    with pytest.raises(UnsupportedModel, match="cannot be cut exactly: "):
        check_source(path)


def test_a_file_that_names_no_architecture_is_no_model(source: Path, tmp_path: Path) -> None:
    path = rewritten(source, tmp_path / "x.gguf", metadata={"general.architecture": None})
    with pytest.raises(UnsupportedModel, match="names no architecture"):
        check_source(path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("llama.block_count", uint32(3), "missing"),
        ("llama.block_count", uint32(1), "beyond the 1 layers"),
        ("llama.block_count", uint32(100_000), "block_count"),
        ("llama.block_count", text("2"), "block_count"),
        ("llama.block_count", None, "block_count"),
        ("llama.embedding_length", uint32(64), "shape"),
        ("llama.nextn_predict_layers", uint32(2), "look ahead"),
        ("llama.attention.causal", Value(GGUFValueType.BOOL, b"\0"), "comes after a token"),
        ("llama.context_length", uint32(0), "context_length"),
        ("tokenizer.ggml.model", text("bert"), "tokenizer 'bert'"),
        ("tokenizer.ggml.tokens", texts(["a", "b"]), "should list 264 values"),
        ("tokenizer.ggml.tokens", texts(["a", "a", *map(str, range(262))]), "come twice"),
        ("tokenizer.ggml.model", text("llama"), "single bytes"),
        ("tokenizer.ggml.token_type", int32s([1] * 10), "should list 264 values"),
        ("tokenizer.ggml.merges", int32s([1]), "merges"),
        ("tokenizer.chat_template", uint32(1), "chat_template"),
    ],
)
def test_metadata_that_would_trip_llama_cpp_is_refused(
    source: Path, tmp_path: Path, key: str, value: Value | None, reason: str
) -> None:
    path = rewritten(source, tmp_path / "x.gguf", metadata={key: value})
    with pytest.raises((UnsupportedModel, InvalidTensor), match=reason):
        check_source(path)


def retyped(name: str, type_: Type) -> Callable[[list[Part]], list[Part]]:
    def change(part: Part) -> Part:
        size = dataclasses.replace(part, type=type_).size
        return dataclasses.replace(part, type=type_, chunks=zeros(size)) if part.name == name else part

    return lambda parts: [change(part) for part in parts]


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("blk.1.ffn_up.weight", Type.F64),
        ("blk.1.ffn_up.weight", Type.I32),
        ("token_embd.weight", Type.Q8_1),
        ("output.weight", Type.I8),
        ("blk.0.attn_norm.weight", Type.F16),
        ("output_norm.weight", Type.Q8_0),
    ],
)
def test_types_that_llama_cpp_cannot_use_are_refused(
    source: Path, tmp_path: Path, name: str, type_: Type
) -> None:
    path = rewritten(source, tmp_path / "x.gguf", parts=retyped(name, type_))
    with pytest.raises(InvalidTensor, match=f"{name} has the type {type_.name}"):
        check_source(path)


def test_wrong_shapes_missing_and_extra_tensors_are_refused(source: Path, tmp_path: Path) -> None:
    def turned(parts: list[Part]) -> list[Part]:
        return [
            dataclasses.replace(p, shape=p.shape[::-1]) if p.name == "token_embd.weight" else p for p in parts
        ]

    def without(part: str) -> Callable[[list[Part]], list[Part]]:
        return lambda parts: [each for each in parts if not each.name.startswith(part)]

    extra = Part("blk.2.attn_k.weight", Type.F32, (4,), zeros(16))
    for change, reason in (
        (turned, "should list 32 values|shape"),
        (without("blk.1."), "all tensors of layer 1 are missing"),
        (without("token_embd.weight"), "no token embedding"),
        (lambda parts: [*parts, extra], "beyond the 2 layers"),
        (lambda parts: [*parts, dataclasses.replace(extra, name="blk.x.[/red]")], "names no layer"),
    ):
        with pytest.raises((InvalidTensor, UnsupportedModel), match=reason):
            check_source(rewritten(source, tmp_path / "x.gguf", parts=change))


def test_overlapping_tensors_are_refused(source: Path, tmp_path: Path) -> None:
    raw = source.read_bytes()
    name = b"output_norm.weight"
    row = raw.index(name) + len(name) + 4 + 8 + 4  # after the dimensions and the type comes the offset
    for offset in (0, 1, 1 << 63, (1 << 64) - 32):
        path = tmp_path / "overlap.gguf"
        path.write_bytes(raw[:row] + struct.pack("<Q", offset) + raw[row + 8 :])
        with pytest.raises(MalformedFile, match="overlap or a gap"):
            check_source(path)


def test_the_vocabulary_file_holds_the_tokenizer_and_nothing_else(source: Path, tmp_path: Path) -> None:
    vocabulary = write_vocabulary(source, tmp_path / "vocab.gguf", model_id="ab" * 32)
    file, whole = read_container(vocabulary), read_container(source)
    assert not file.tensors
    assert file.scalar("hypercluster.model_id") == "ab" * 32
    keys = [key for key in whole.fields if key.startswith("tokenizer.")]
    assert keys
    assert all(file.raw(key) == whole.raw(key) for key in keys)


def test_a_foreign_vocabulary_is_refused(source: Path, tmp_path: Path) -> None:
    manifest = build_manifest(source)
    right = write_vocabulary(source, tmp_path / "right.gguf")

    def check(path: Path) -> None:
        check_vocabulary(path, architecture="llama", n_vocab=manifest.n_vocab, digest=manifest.tokenizer)

    check(right)
    other = write_random_model(tmp_path / "other.gguf", dataclasses.replace(SMALL, n_vocab=265))
    changed = rewritten(right, tmp_path / "eos.gguf", metadata={"tokenizer.ggml.eos_token_id": uint32(7)})
    for path in (source, write_vocabulary(other, tmp_path / "wrong.gguf"), changed):
        with pytest.raises((ManifestMismatch, UnsupportedModel)):
            check(path)


def test_a_model_without_vocabulary_splits_but_has_none_to_write(tmp_path: Path) -> None:
    path = write_random_model(tmp_path / "bare.gguf", dataclasses.replace(SMALL, vocabulary=False))
    assert check_source(path).blueprint.n_vocab == 264
    with pytest.raises(UnsupportedModel, match="no vocabulary"):
        write_vocabulary(path, tmp_path / "vocab.gguf")


def test_a_failed_write_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(WriteFailed, match="cannot be written"):
        split(source, 0, 1, blocker / "shard.gguf")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(source, 0, 1, tmp_path / "shard.gguf", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
