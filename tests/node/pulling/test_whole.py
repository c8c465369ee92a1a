"""Whole files from the web: what drops and stalls is gone on with, what changes and lies is never kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercluster.node.pulling.fetched import fetch_whole
from hypercluster.node.pulling.links import Link, link_of, pieces_of
from hypercluster.node.pulling.web import Patience
from hypercluster.node.shards import FetchFailed
from tests.node.helpers.webs import Web, running_web

CONTENT = b"GGUF" + os.urandom((5 << 20) + 12345)
HASTE = Patience(silent=3, tries=4, pause=0.01)


@pytest.fixture
def web() -> Iterator[Web]:
    with running_web() as web:
        web.files["m/model.gguf"] = CONTENT
        yield web


def fetched(web: Web, folder: Path, name: str = "m/model.gguf") -> Path:
    return fetch_whole(link_of(web.url(name)), folder, patience=HASTE)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_is_fetched_once_and_nothing_else_stays(web: Web, tmp_path: Path) -> None:
    assert fetched(web, tmp_path).read_bytes() == CONTENT
    asked = len(web.asked)
    assert fetched(web, tmp_path).read_bytes() == CONTENT
    assert len(web.asked) == asked
    assert left(tmp_path) == ["model.gguf"]


def test_what_drops_is_gone_on_with_where_it_was(web: Web, tmp_path: Path) -> None:
    web.drops = [1 << 20, 700_000, 1_300_000]
    assert fetched(web, tmp_path).read_bytes() == CONTENT
    assert web.sent < len(CONTENT) + (1 << 20)


def test_what_stalls_is_asked_for_again(web: Web, tmp_path: Path) -> None:
    web.stalls = [0.0, 30.0]
    assert fetched(web, tmp_path).read_bytes() == CONTENT
    assert len(web.asked) > 2


def test_who_drops_without_end_is_given_up_and_what_came_is_kept(web: Web, tmp_path: Path) -> None:
    web.drops = [1 << 20, 2_500_000] + [0] * 10
    with pytest.raises(FetchFailed, match="what has come is kept"):
        fetched(web, tmp_path)
    web.drops, web.sent = [], 0
    assert fetched(web, tmp_path).read_bytes() == CONTENT
    assert web.sent < len(CONTENT) - (1 << 20)


def test_a_busy_server_is_asked_again(web: Web, tmp_path: Path) -> None:
    web.statuses = [503, 429]
    assert fetched(web, tmp_path).read_bytes() == CONTENT


def test_a_file_that_changes_on_the_way_is_begun_anew(web: Web, tmp_path: Path) -> None:
    web.drops = [1 << 20, 1 << 20] + [0] * 10
    with pytest.raises(FetchFailed):
        fetched(web, tmp_path)
    other = b"GGUF" + os.urandom(len(CONTENT) - 4)
    web.files["m/model.gguf"], web.drops = other, []
    assert fetched(web, tmp_path).read_bytes() == other


def test_a_file_that_changes_within_one_fetch_is_begun_anew(web: Web, tmp_path: Path) -> None:
    other = b"GGUF" + os.urandom(len(CONTENT) - 104)
    changed = iter([False, True])

    def showing(_what: str, _total: int | None):  # type: ignore[no-untyped-def]
        from hypercluster.node.shards.naming import unseen

        if next(changed, None) is False:
            web.files["m/model.gguf"] = other
        return unseen(_what, _total)

    path = fetch_whole(link_of(web.url("m/model.gguf")), tmp_path, showing, HASTE)
    assert path.read_bytes() == other


def test_a_server_without_ranges_gives_it_whole(web: Web, tmp_path: Path) -> None:
    web.ranges = False
    web.drops = [1 << 20, 3 << 20]
    assert fetched(web, tmp_path).read_bytes() == CONTENT


def test_other_bytes_than_were_asked_are_not_used(web: Web, tmp_path: Path) -> None:
    web.shifted = 7
    with pytest.raises(
        FetchFailed, match=r"gives the bytes 7 to 1048575 of model\.gguf where 0 on were asked"
    ):
        fetched(web, tmp_path)
    assert left(tmp_path) == []


def test_a_file_that_is_not_what_its_server_names_is_thrown_away(web: Web, tmp_path: Path) -> None:
    web.extra["X-Linked-Etag"] = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    web.lies = [3 << 20]
    with pytest.raises(FetchFailed, match="by its SHA-256: it is thrown away"):
        fetched(web, tmp_path)
    assert left(tmp_path) == []
    assert fetched(web, tmp_path).read_bytes() == CONTENT


def test_all_pieces_of_a_split_model_come(web: Web, tmp_path: Path) -> None:
    pieces = {f"m/model-{n:05d}-of-00003.gguf": b"GGUF" + os.urandom(10_000 * n) for n in (1, 2, 3)}
    web.files.update(pieces)
    path = fetched(web, tmp_path, "m/model-00002-of-00003.gguf")
    assert path.name == "model-00001-of-00003.gguf"
    assert {f"m/{name}": (tmp_path / name).read_bytes() for name in left(tmp_path)} == pieces


@pytest.mark.parametrize(
    ("content", "what"), [(b"<!DOCTYPE html><html>", "web page"), (b"\x80\x02}q\x00", "no GGUF file")]
)
def test_what_is_no_model_is_called_what_it_is(web: Web, tmp_path: Path, content: bytes, what: str) -> None:
    web.files["m/model.gguf"] = content
    with pytest.raises(FetchFailed, match=what):
        fetched(web, tmp_path)


@pytest.mark.parametrize(("status", "why"), [(404, "address is right"), (403, "those who log in")])
def test_a_server_that_says_no_is_quoted_without_secrets(
    web: Web, tmp_path: Path, status: int, why: str
) -> None:
    web.statuses = [status]
    with pytest.raises(FetchFailed, match=why) as refused:
        fetched(web, tmp_path, "m/model.gguf?key=secret")
    assert "secret" not in str(refused.value)


def test_an_empty_file_is_a_sentence(web: Web, tmp_path: Path) -> None:
    web.files["m/model.gguf"] = b""
    with pytest.raises(FetchFailed, match="empty"):
        fetched(web, tmp_path)


def test_hugging_face_names_become_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert link_of("hf:own.er/repo-1/dir/a model.gguf".replace(" ", "_")) == Link(
        "https://huggingface.co/own.er/repo-1/resolve/main/dir/a_model.gguf", "a_model.gguf"
    )
    assert link_of("hf:owner/repo@v1.0/model.gguf").url == (
        "https://huggingface.co/owner/repo/resolve/v1.0/model.gguf"
    )
    assert (
        link_of("HF:owner/repo/model.gguf").url == "https://huggingface.co/owner/repo/resolve/main/model.gguf"
    )


def test_the_page_of_a_file_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a browser shows is what people copy."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    for place in ("https://huggingface.co/owner/repo", "http://127.0.0.1:9/owner/repo"):
        assert link_of(f"{place}/blob/main/blob/m.gguf?a=b").url == f"{place}/resolve/main/blob/m.gguf?a=b"
        assert link_of(f"{place}/resolve/main/m.gguf").url == f"{place}/resolve/main/m.gguf"
    elsewhere = "https://example.org/owner/repo/blob/main/m.gguf"
    assert link_of(elsewhere).url == elsewhere


@pytest.mark.parametrize(
    "text",
    [
        "hf:", "hf:owner", "hf:owner/repo", "hf:owner/repo/", "hf:owner/repo/../x.gguf", "http://example.org/x.gguf",
        "https://example.org/", "https://", "https://[::1/x.gguf", "file:///etc/passwd", "https://example.org/%2e%2e",
    ],
)  # fmt: skip
def test_what_names_no_file_is_a_sentence(text: str) -> None:
    with pytest.raises(FetchFailed):
        link_of(text)


def test_pieces_keep_what_the_url_asks_beside_them() -> None:
    links = pieces_of(link_of("https://example.org/a/m-00002-of-00002.gguf?download=true"))
    assert [each.url for each in links] == [
        f"https://example.org/a/m-0000{n}-of-00002.gguf?download=true" for n in (1, 2)
    ]
    with pytest.raises(FetchFailed, match="piece 3 of 2"):
        pieces_of(link_of("https://example.org/m-00003-of-00002.gguf"))
