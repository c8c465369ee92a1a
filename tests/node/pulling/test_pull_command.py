"""`hc-model pull` from the web, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from tests.node.helpers.webs import running_web
from tests.node.shards.test_shards_cli import hc_model


@pytest.fixture(scope="module")
def verse(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return open_model(demo_model(), tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HC_CACHE", str(tmp_path / "cache"))


def test_layers_of_a_file_on_the_web_are_the_shard_that_is_cut(verse: StoredModel, tmp_path: Path) -> None:
    with running_web() as web:
        web.files["verse.gguf"] = demo_model().read_bytes()
        pull = ("pull", web.url("verse.gguf"), "--layers", "2:5")
        assert "say which with --manifest" in hc_model(*pull, code=2).stderr
        named = (*pull, "--manifest", verse.folder / "manifest.json", "--json")
        told = json.loads(hc_model(*named).stdout)
        assert told["model_id"] == verse.manifest.model_id
        assert Path(told["path"]).read_bytes() == verse.shard(2, 5).read_bytes()
        # The manifest is in the home now, and the id names it.
        by_id = ("pull", web.url("verse.gguf"), "--layers", "5:8", "--manifest", verse.manifest.model_id)
        hc_model(*by_id, "-o", tmp_path / "folder")
        shard = tmp_path / "folder" / verse.shard_path(5, 8).name
        assert shard.read_bytes() == verse.shard(5, 8).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("hf:nope",), "write hf:OWNER/REPO/FILE", 1),
        (("ftp://example.org/m.gguf",), "a URL that begins with https://", 1),
        (("file:///m.gguf",), "a URL that begins with https://", 1),
        (("smollm2", "-o", "x"), "are for files from the web", 2),
        (("ab" * 32,), "there is no node to ask for it", 1),
        (("nobody-knows",), "There is no model called 'nobody-knows'", 1),
        (("http://127.0.0.1:9/x.gguf", "--layers", "3"), "names no layers", 2),
    ],
)
def test_what_cannot_be_pulled_is_a_sentence(arguments: tuple[str, ...], words: str, code: int) -> None:
    assert words in " ".join(hc_model("pull", *arguments, code=code).stderr.split())
