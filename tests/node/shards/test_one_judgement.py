"""J: what one command refuses, every command refuses, and before anything is served."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from gguf.constants import GGUFValueType
from typer.testing import CliRunner

from hypercluster.node.cli.model.app import app
from hypercluster.node.cli.opening import opened_to_serve
from hypercluster.node.engine.preflight import PASSED, VocabularyRefused, check_stored_vocabulary
from hypercluster.node.errors import NodeError
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards import ShardError, check_source
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.shards.writing import Value, float32, int32s, text, texts, uint32
from tests.node.helpers.random_models import Shape, rewritten, write_random_model

SMALL = Shape(layers=2, n_embd=32, heads=2, kv_heads=1, n_ff=32, n_vocab=264, context=64)
LATIN_1 = Value(GGUFValueType.STRING, struct.pack("<Q", 4) + b"caf\xe9")
HUGE = Value(GGUFValueType.STRING, struct.pack("<Q", 9 << 20) + b"x" * (9 << 20))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("whole") / "model.gguf", SMALL)


def refusals(path: Path, folder: Path) -> set[str]:
    """What each command that refuses files says to this one."""
    commands: list[tuple[object, ...]] = [
        ("manifest", path),
        ("split", path, "--parts", 1, "-o", folder),
        ("check", path, "--split", "0:2", "--tokens", 1, "--threads", 1),
    ]
    ends = [CliRunner().invoke(app, [*map(str, command)]) for command in commands]
    assert all(isinstance(end.exception, NodeError) for end in ends)
    return {str(end.exception) for end in ends}


def inspected(path: Path) -> str:
    """The reason that `inspect` gives in its document, or instead of one."""
    end = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    if isinstance(end.exception, NodeError):
        return str(end.exception)
    assert end.exit_code == 3
    document = json.loads(end.stdout)
    assert document["supported"] is False
    return str(document["reason"])


def test_j1_a_vocabulary_that_llama_cpp_does_not_know_is_refused_everywhere(
    whole: Path, tmp_path: Path
) -> None:
    """J1: an unknown `tokenizer.ggml.pre` passes every table of ours; llama.cpp knows better."""
    path = rewritten(whole, tmp_path / "x.gguf", metadata={"tokenizer.ggml.pre": text("future-bpe")})
    (said,) = refusals(path, tmp_path / "shards")
    assert "unknown pre-tokenizer type: 'future-bpe'" in said
    assert inspected(path) == said
    assert not (tmp_path / "shards").exists()


def test_j1_what_a_provider_opens_is_tried_once(whole: Path, tmp_path: Path) -> None:
    """J1: at the start of a provider or verifier; remembered for as long as the vocabulary is the same."""
    stored = open_model(whole, tmp_path / "home")
    check_stored_vocabulary(stored)
    passed = stored.folder / PASSED
    assert passed.read_text().startswith(stored.manifest.tokenizer)
    check_stored_vocabulary(stored)
    passed.write_text("another vocabulary")
    check_stored_vocabulary(stored)
    assert passed.read_text().startswith(stored.manifest.tokenizer)

    bad = rewritten(whole, tmp_path / "bad.gguf", metadata={"tokenizer.ggml.pre": text("future-bpe")})
    for _ in range(2):
        with pytest.raises(VocabularyRefused, match="future-bpe"):
            opened_to_serve(str(bad), Settings(home=tmp_path / "home"))


def test_j1_shards_without_a_vocabulary_need_none(tmp_path: Path) -> None:
    """J1: providers of a model without vocabulary, or of a folder of shards alone, take token ids."""
    bare = write_random_model(tmp_path / "bare.gguf", Shape(layers=1, vocabulary=False))
    stored = open_model(bare, tmp_path / "home")
    check_stored_vocabulary(stored)
    check_stored_vocabulary(StoredModel(stored.manifest, tmp_path / "shards", None))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer.ggml.merges", None),
        ("tokenizer.ggml.merges", texts(["no-space"] * 3)),
        ("tokenizer.ggml.merges", texts(["\xff \xfe", "x y"])),
        ("tokenizer.ggml.bos_token_id", uint32(1 << 31)),
        ("tokenizer.ggml.eos_token_id", text("end")),
        ("tokenizer.ggml.add_bos_token", float32(float("nan"))),
        ("tokenizer.ggml.token_type", int32s([99] * 264)),
        ("tokenizer.ggml.model", text("llama")),
    ],
)
def test_j1_odd_vocabularies_end_in_a_sentence_or_work(
    whole: Path, tmp_path: Path, key: str, value: Value | None
) -> None:
    """J1: whatever llama.cpp makes of it, a crash of its own included, this process lives and says so."""
    path = rewritten(whole, tmp_path / "x.gguf", metadata={key: value})
    document = json.loads(CliRunner().invoke(app, ["inspect", str(path), "--json"]).stdout)
    assert document["supported"] or str(path) in document["reason"]


def doubled(path: Path) -> None:
    raw = (
        path.read_bytes().replace(b"general.name", b"general.type").replace(b"general.typf", b"general.type")
    )
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"general.name": LATIN_1}, "general.name is not valid UTF-8"),
        ({"general.description": HUGE}, "general.description is 9437184 bytes long"),
        ({"general.author": text("a\0b")}, "zero byte"),
        ({"general.typf": text("model")}, "'general.type' is empty or comes twice"),
        ({"llama.block_count": uint32(0)}, "block_count is 0"),
        ({"llama.block_count": text("8" * 1_000_000)}, "8'; a number from 1"),
        ({"llama.block_count": int32s([2, 2])}, "block_count is [2, 2]"),
        ({"llama.rope.freq_base": float32(float("nan"))}, "freq_base is nan"),
        ({"llama.attention.layer_norm_rms_epsilon": float32(float("inf"))}, "epsilon is inf"),
        ({"general.architecture": texts(["llama"])}, "a list where one value"),
    ],
)
def test_j2_one_judgement_in_all_commands(
    whole: Path, tmp_path: Path, spoil: dict[str, Value | None], reason: str
) -> None:
    """J2: `inspect`, `manifest`, `split` and `check` say the same of the same file."""
    path = rewritten(whole, tmp_path / "x.gguf", metadata=spoil)
    if "general.typf" in spoil:
        doubled(path)
    with pytest.raises(ShardError) as caught:
        check_source(path)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 500
    assert refusals(path, tmp_path / "shards") == {str(caught.value)}
    assert inspected(path) == str(caught.value)
