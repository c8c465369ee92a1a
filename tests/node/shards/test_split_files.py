"""A3: models in several pieces are read where they lie; files of other kinds are called what they are."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType

from hypercluster.node.shards import (
    InvalidTensor,
    MalformedFile,
    ManifestMismatch,
    build_manifest,
    check_source,
)
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.store import open_model
from hypercluster.node.shards.writing import Part, zeros
from tests.node.helpers.pieces import split_by_gguf
from tests.node.helpers.random_models import Shape, rewritten, write_random_model
from tests.node.shards.test_shards_cli import hc_model

SHAPE = Shape(layers=3, n_embd=64, n_ff=64, n_vocab=300, context=128)


def patched(piece: Path, key: bytes, code: str, value: int) -> None:
    """Change a number of this piece's own metadata."""
    raw = bytearray(piece.read_bytes())
    struct.pack_into(code, raw, raw.index(key) + len(key) + 4, value)
    piece.write_bytes(raw)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("whole") / "model.gguf", SHAPE)


@pytest.fixture
def pieces(whole: Path, tmp_path: Path) -> list[Path]:
    found = split_by_gguf(whole, tmp_path / "split", 12)
    assert [piece.name for piece in found] == [f"big model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    return found


def test_a3_a_split_model_is_the_same_model_from_any_piece(whole: Path, pieces: list[Path]) -> None:
    """A3: the third piece names the model as well as the first."""
    manifest = build_manifest(whole)
    for piece in pieces:
        assert build_manifest(piece) == manifest
        assert read_container(piece).size == sum(other.stat().st_size for other in pieces)


def test_a3_shards_are_cut_from_pieces_and_compute_the_same(pieces: list[Path], tmp_path: Path) -> None:
    """A3: at the command line, `check` included, which has llama.cpp load the pieces."""
    document = json.loads(hc_model("inspect", pieces[1], "--json").stdout)
    assert (document["supported"], document["layers"]) == (True, 3)
    checked = hc_model(
        "check", pieces[2], "--split", "0:1,1:3", "--tokens", 4, "--threads", 1, "--prompt", "the", "--json"
    )
    assert json.loads(checked.stdout)["max_difference"] == 0.0
    stored = open_model(pieces[1], tmp_path / "home")
    assert stored.shard(1, 3).exists()
    assert stored.vocabulary().exists()


def test_a3_pieces_found_through_links(pieces: list[Path], tmp_path: Path) -> None:
    """A3: download caches keep files under other names and link to them."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for number, piece in enumerate(pieces):
        piece.rename(blobs / str(number))
        (snapshot / piece.name).symlink_to(blobs / str(number))
    assert open_model(snapshot / pieces[2].name, tmp_path / "home").shard(0, 3).exists()
    link = tmp_path / "model.gguf"
    link.symlink_to(snapshot / pieces[0].name)
    snapshot.joinpath("short").symlink_to(snapshot / pieces[0].name)
    with pytest.raises(MalformedFile, match="its name does not say so"):
        check_source(link)


def test_a3_missing_pieces_are_named(pieces: list[Path]) -> None:
    """A3: all that are missing, whichever was named."""
    pieces[0].unlink()
    pieces[2].unlink()
    with pytest.raises(MalformedFile, match=r"2 are missing in .*: big model-00001-of.*, big model-00003-of"):
        check_source(pieces[1])
    refused = hc_model("split", pieces[1], "--parts", 1, "-o", pieces[1].parent, code=1)
    assert "big model-00001-of-00003.gguf" in " ".join(refused.stderr.split())


def test_a3_pieces_that_do_not_belong_together(whole: Path, pieces: list[Path], tmp_path: Path) -> None:
    """A3: swapped, renamed, doubled, or of another model."""
    renamed = tmp_path / "model.gguf"
    renamed.write_bytes(pieces[1].read_bytes())
    with pytest.raises(MalformedFile, match=r"piece 2 of 3.*NAME-00002-of-00003\.gguf"):
        check_source(renamed)
    good = pieces[1].read_bytes()
    pieces[1].write_bytes(pieces[2].read_bytes())
    with pytest.raises(MalformedFile, match="says that it is piece 2 of 3"):
        check_source(pieces[0])
    patched(pieces[1], b"split.no", "<H", 1)
    with pytest.raises(MalformedFile, match="is in another piece too"):
        check_source(pieces[0])
    pieces[1].write_bytes(good)
    patched(pieces[0], b"split.tensors.count", "<i", 7)
    with pytest.raises(MalformedFile, match="announces 7 tensors"):
        check_source(pieces[0])
    patched(pieces[0], b"split.no", "<H", 3)
    with pytest.raises(MalformedFile, match="piece 3 of 3"):
        check_source(pieces[0])


def test_l1_a_later_piece_that_changed_is_not_cut(pieces: list[Path], tmp_path: Path) -> None:
    """L1 and A3: every piece counts, those with later layers too."""
    stored = open_model(pieces[0], tmp_path / "home")
    tensor = read_container(pieces[0]).tensors["blk.2.ffn_down.weight"]
    assert tensor.path == pieces[2]
    status = tensor.path.stat()
    with tensor.path.open("r+b") as file:
        file.seek(tensor.offset)
        file.write(b"\x55" * 64)
    os.utime(tensor.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ManifestMismatch, match="layer 2"):
        stored.shard(0, 3)
    os.utime(tensor.path)
    assert open_model(pieces[0], tmp_path / "home").manifest.model_id != stored.manifest.model_id


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("model.gguf"), io.BytesIO())


FOREIGN: list[tuple[str, bytes | Callable[[Path], None], str]] = [
    ("old-ggml", b"tjgg" + struct.pack("<I", 3) + bytes(60), "old GGML format"),
    ("safetensors", struct.pack("<Q", 60) + b'{"__metadata__":{}}' + bytes(50), "safetensors"),
    ("zip", _zip, "zip archive.*PyTorch"),
    ("pickle", b"\x80\x02}q\x00.", "pickle"),
    ("tar", _tar, "tar archive"),
    ("gzip", gzip.compress(b"GGUF"), "gzip; unpack"),
    ("page", b"\n<!DOCTYPE html><html><body>Please log in</body></html>", "web page"),
    ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "git lfs pull"),
    ("json", b'{"error": "not found"}', "JSON"),
    ("zeros", bytes(4096), "not complete"),
    ("empty", b"", "is empty"),
    ("big-endian", b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(60), r"big-endian.*gguf-convert-endian"),
    ("version-1", b"GGUF" + struct.pack("<III", 1, 1, 1) + bytes(60), "version 1; versions 2 and 3"),
    ("version-9", b"GGUF" + struct.pack("<IQQ", 9, 1, 1) + bytes(60), "version 9; versions 2 and 3"),
]


@pytest.mark.parametrize(("content", "said"), [row[1:] for row in FOREIGN], ids=[row[0] for row in FOREIGN])
def test_a3_other_files_are_called_what_they_are(
    tmp_path: Path, content: bytes | Callable[[Path], None], said: str
) -> None:
    """A3: the sentence says what it is and, where it can, what to do."""
    path = tmp_path / "model.gguf"
    content(path) if callable(content) else path.write_bytes(content)
    with pytest.raises(MalformedFile, match=said):
        check_source(path)


def test_a3_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A3: a pipe would be read for ever."""
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(MalformedFile, match="no regular file"):
        check_source(tmp_path / "model.gguf")


def test_j2_names_from_files_are_shown_escaped(whole: Path, tmp_path: Path) -> None:
    """J2: a name with control characters cannot steer a terminal, neither from a key nor from a tensor."""
    evil = Part("\x1b[2J\n", GGMLQuantizationType.F32, (32,), zeros(128))
    path = rewritten(whole, tmp_path / "x.gguf", parts=lambda parts: [*parts, evil])
    with pytest.raises(InvalidTensor, match=r"\\x1b\[2J\\n"):
        check_source(path)
