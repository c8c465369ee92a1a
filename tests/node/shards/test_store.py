"""L1: what is loaded is what the manifest says, whatever happened to the files in between."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercluster.node.catalogue import VERSE
from hypercluster.node.shards import ManifestError, ManifestMismatch, ShardError, build_manifest, split
from hypercluster.node.shards.container import Container, Tensor
from hypercluster.node.shards.naming import stored_of
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.store import ModelMissing, StoredModel, open_model
from hypercluster.node.shards.writing import Value, float32, text
from tests.node.helpers.random_models import Shape, rewritten, write_random_model

SMALL = Shape(layers=3, n_embd=32, heads=2, kv_heads=1, n_ff=32, n_vocab=264, context=64)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_random_model(tmp_path / "model.gguf", SMALL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def overwrite(path: Path, offset: int, raw: bytes) -> None:
    """Change bytes in place, and nothing that `stat` tells."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def spoil_layer(path: Path, layer: int) -> None:
    tensor = read_container(path).tensors[f"blk.{layer}.ffn_up.weight"]
    overwrite(path, tensor.offset, os.urandom(tensor.size))


def test_l1_a_model_file_that_changed_after_it_was_hashed_is_not_cut(model: Path, home: Path) -> None:
    """L1: same size, same date; also at the next start, which trusts the hashes that it knows."""
    open_model(model, home)
    spoil_layer(model, 1)
    for _ in range(2):
        stored = open_model(model, home)
        assert stored.shard(0, 1).exists()
        with pytest.raises(
            ManifestMismatch,
            match=r"model\.gguf: layer 1 .* in blk\.1\.ffn_up\.weight\. .*no longer.*fetch it again",
        ):
            stored.shard(1, 3)
        assert not stored.shard_path(1, 3).exists()
    os.utime(model)
    assert open_model(model, home).manifest.model_id != stored.manifest.model_id


def test_l1_rot_in_a_shard_is_found_at_the_next_start_and_mended(
    model: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """L1: the whole model is at hand, so the shard is cut again by itself."""
    good = open_model(model, home).shard(1, 3)
    raw = good.read_bytes()
    spoil_layer(good, 1)
    stored = open_model(model, home)
    assert stored.shard(1, 3).read_bytes() == raw
    assert "layer 2 differs" in caplog.text
    spoil_layer(good, 1)
    spoil_layer(model, 2)
    with pytest.raises(ManifestMismatch, match="no longer"):
        stored.shard(1, 3)


Spoil = Callable[[Path], object]


def swap_tensors(path: Path) -> None:
    file = read_container(path)
    one, other = file.tensors["blk.0.attn_k.weight"], file.tensors["blk.0.attn_v.weight"]
    first, second = (b"".join(file.chunks(tensor)) for tensor in (one, other))
    overwrite(path, one.offset, second)
    overwrite(path, other.offset, first)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 64)


def other_rope(path: Path) -> None:
    rewritten(path, path, metadata={"llama.rope.freq_base": float32(500_000.0)})


def foreign_key(path: Path) -> None:
    extra: dict[str, Value | None] = {"llama.attention.sliding_window": float32(8.0)}
    rewritten(path, path, metadata=extra)


def other_file(path: Path) -> None:
    foreign = write_random_model(path.with_name("foreign.gguf"), Shape(**{**vars(SMALL), "seed": 1}))
    shard = split(foreign, 1, 3, path.with_name("foreign-shard.gguf"))
    path.unlink()
    path.symlink_to(shard)


def false_label(path: Path) -> None:
    """Another model's shard under this model's id."""
    model_id = str(read_container(path).scalar("hypercluster.model_id"))
    other_file(path)
    rewritten(path.resolve(), path.resolve(), metadata={"hypercluster.model_id": text(model_id)})


@pytest.mark.parametrize(
    "spoil",
    [swap_tensors, truncate, other_rope, foreign_key, other_file, false_label],
    ids=lambda s: s.__name__,
)
def test_l1_a_folder_of_shards_without_the_model_refuses_what_is_rotten(
    model: Path, tmp_path: Path, spoil: Spoil
) -> None:
    """L1: whatever is wrong with it; the sentence names the file and what to do."""
    folder = tmp_path / "shards"
    manifest = build_manifest(model)
    manifest.save(folder / "manifest.json")
    stored = StoredModel(manifest, folder, None)
    shard = split(model, 1, 3, stored.shard_path(1, 3), manifest=manifest)
    assert open_model(folder, tmp_path).shard(1, 3) == shard
    spoil(shard)
    with pytest.raises(ShardError, match=r"layers-0001-0003\.gguf.*[Dd]elete it and make it again with"):
        open_model(folder, tmp_path).shard(1, 3)


def test_l1_an_edited_manifest_fits_no_shard(model: Path, tmp_path: Path) -> None:
    """L1: by hand it breaks its own hash; with the id made to fit, it names another model than the shards."""
    manifest = build_manifest(model)
    folder = tmp_path / "shards"
    path = manifest.save(folder / "manifest.json")
    split(model, 0, 3, folder / "layers-0000-0003.gguf", manifest=manifest)
    document = manifest.document() | {"chat_template": "another"}
    path.write_text(json.dumps(document))
    with pytest.raises(ManifestError, match="was changed"):
        open_model(folder, tmp_path)
    path.write_text(json.dumps(manifest.document() | {"lines": {**manifest.lines, "head": []}}))
    with pytest.raises(ManifestError, match="was changed: its lines"):
        open_model(folder, tmp_path)
    del document["model_id"]
    path.write_text(json.dumps(document))
    with pytest.raises(ManifestMismatch, match="belongs to model"):
        open_model(folder, tmp_path).shard(0, 3)


def test_l1_a_false_memory_of_hashes_serves_nothing(model: Path, home: Path) -> None:
    """L1: the kept manifest is a shortcut to the model id, never the proof."""
    other = build_manifest(
        write_random_model(model.with_name("other.gguf"), Shape(**{**vars(SMALL), "seed": 1}))
    )
    open_model(model, home)
    (known,) = (home / "models" / "known").iterdir()
    other.save(known)
    stored = open_model(model, home)
    assert stored.manifest == other
    with pytest.raises(ManifestMismatch, match="no longer"):
        stored.shard(0, 3)


def test_l1_the_vocabulary_is_checked_and_made_again(model: Path, home: Path, tmp_path: Path) -> None:
    """L1: for clients the vocabulary is what is loaded."""
    stored = open_model(model, home)
    path = stored.vocabulary()
    raw = path.read_bytes()
    rewritten(path, path, metadata={"tokenizer.chat_template": text("{{ messages }}")})
    assert stored.vocabulary().read_bytes() == raw

    lone = StoredModel(stored.manifest, tmp_path / "lone", None)
    with pytest.raises(ModelMissing, match="copy it"):
        lone.vocabulary()
    lone.folder.mkdir()
    (lone.folder / "vocab.gguf").write_bytes(raw[:-40])
    with pytest.raises(ShardError, match=r"vocab\.gguf.* Delete it"):
        lone.vocabulary()

    path.unlink()
    overwrite(model, model.read_bytes().index(b"<|end|>"), b"<|eND|>")
    with pytest.raises(ManifestMismatch, match="another vocabulary"):
        stored.vocabulary()
    assert not path.exists()


def test_l1_a_file_that_changes_while_it_is_cut_leaves_no_shard(
    model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L1: what is compared is what was read for the cut, not an earlier reading."""
    stored = open_model(model, home)
    read = Container.chunks

    def chunks(file: Container, tensor: Tensor) -> Iterator[bytes]:
        if tensor.name == "blk.0.attn_norm.weight":
            spoil_layer(model, 0)
        return read(file, tensor)

    monkeypatch.setattr(Container, "chunks", chunks)
    with pytest.raises(ManifestMismatch, match=r"model\.gguf: layer 0"):
        stored.shard(0, 3)
    assert not list(stored.folder.glob("*.gguf"))


def test_l1_what_the_disk_kept_is_read_back(model: Path, home: Path) -> None:
    """L1: at cutting and at each start after it, as the progress tells."""
    told: list[int] = []
    shard = open_model(model, home).shard(0, 3, told.append)
    size = sum(tensor.size for tensor in read_container(shard).tensors.values())
    assert sum(told) == 2 * size
    told.clear()
    assert open_model(model, home).shard(0, 3, told.append) == shard
    assert sum(told) == size


def test_the_model_that_ships_is_whole_in_a_home_that_keeps_something_of_it(
    home: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        assert stored_of(VERSE, home, tmp_path / "cache").source is not None
