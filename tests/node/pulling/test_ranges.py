"""Some layers of a file on the web: only their bytes come, each block is checked, and they make the right shard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercluster.node.pulling.layers import Layers
from hypercluster.node.pulling.links import link_of
from hypercluster.node.pulling.ranged import fetch_layers
from hypercluster.node.pulling.web import Patience
from hypercluster.node.shards import FetchFailed
from hypercluster.node.shards.blocks import BlockHashes
from hypercluster.node.shards.store import StoredModel, open_model
from tests.node.helpers.pieces import split_by_gguf
from tests.node.helpers.random_models import Shape, write_random_model
from tests.node.helpers.webs import Web, running_web

HASTE = Patience(silent=3, tries=4, pause=0.01)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """Four layers of about 5 MiB, with tensors of several blocks."""
    folder = tmp_path_factory.mktemp("web")
    path = write_random_model(folder / "model.gguf", Shape(n_embd=256, n_ff=1200, n_vocab=2048))
    return open_model(path, folder / "home")


@pytest.fixture
def web(stored: StoredModel) -> Iterator[Web]:
    assert stored.source is not None
    with running_web() as web:
        web.files["m/model.gguf"] = stored.source.read_bytes()
        yield web


def hashes_of(stored: StoredModel) -> BlockHashes:
    hashes = stored.block_hashes()
    assert hashes is not None
    return hashes


def fetched(
    web: Web, stored: StoredModel, folder: Path, layers: tuple[int, int], *, checked: bool = True
) -> bytes:
    wanted = Layers(stored.manifest, *layers, folder)
    hashes = hashes_of(stored).tensors if checked else None
    return fetch_layers(link_of(web.url("m/model.gguf")), wanted, hashes, patience=HASTE).read_bytes()


@pytest.mark.parametrize("layers", [(0, 1), (1, 3), (3, 4), (0, 4)])
def test_the_shard_is_the_one_that_is_cut_and_nothing_else_comes(
    web: Web, stored: StoredModel, tmp_path: Path, layers: tuple[int, int]
) -> None:
    assert fetched(web, stored, tmp_path, layers) == stored.shard(*layers).read_bytes()
    assert web.sent <= Layers(stored.manifest, *layers, tmp_path).copied + (1 << 20)
    assert (tmp_path / "vocab.gguf").read_bytes() == stored.vocabulary().read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["vocab.gguf", stored.shard_path(*layers).name]
    )


def test_what_drops_is_gone_on_with_by_the_next_command(
    web: Web, stored: StoredModel, tmp_path: Path
) -> None:
    web.drops = [1 << 20, 3 << 20] + [0] * 20
    with pytest.raises(FetchFailed, match="what has come is kept"):
        fetched(web, stored, tmp_path, (1, 3))
    came, web.drops = web.sent, []
    assert fetched(web, stored, tmp_path, (1, 3)) == stored.shard(1, 3).read_bytes()
    assert web.sent - came < Layers(stored.manifest, 1, 3, tmp_path).copied


def test_a_block_that_is_wrong_is_asked_for_again(web: Web, stored: StoredModel, tmp_path: Path) -> None:
    size = len(web.files["m/model.gguf"])
    web.lies = [size // 3, size // 2, size - 100]
    assert fetched(web, stored, tmp_path, (0, 4)) == stored.shard(0, 4).read_bytes()


def test_who_lies_without_end_is_given_up(web: Web, stored: StoredModel, tmp_path: Path) -> None:
    web.lies, web.always_lies = [len(web.files["m/model.gguf"]) - 100], True
    with pytest.raises(FetchFailed, match="again and again"):
        fetched(web, stored, tmp_path, (3, 4))
    assert not stored_in(tmp_path)


def test_without_hashes_a_wrong_byte_is_found_before_the_shard_has_its_name(
    web: Web, stored: StoredModel, tmp_path: Path
) -> None:
    web.lies = [len(web.files["m/model.gguf"]) - 100]
    with pytest.raises(FetchFailed, match="thrown away"):
        fetched(web, stored, tmp_path, (3, 4), checked=False)
    assert not stored_in(tmp_path)
    assert fetched(web, stored, tmp_path, (3, 4), checked=False) == stored.shard(3, 4).read_bytes()


def test_another_model_is_refused_before_its_weights_come(
    web: Web, stored: StoredModel, tmp_path: Path
) -> None:
    other = write_random_model(tmp_path / "other.gguf", Shape(n_embd=256, n_ff=1024, n_vocab=2048))
    web.files["m/model.gguf"] = other.read_bytes()
    with pytest.raises(FetchFailed, match=r"model\.gguf at 127\.0\.0\.1 is not the model"):
        fetched(web, stored, tmp_path / "folder", (1, 2))
    assert web.sent <= 1 << 20


def test_a_server_without_ranges_is_a_sentence(web: Web, stored: StoredModel, tmp_path: Path) -> None:
    web.ranges = False
    with pytest.raises(FetchFailed, match="gives no parts of files"):
        fetched(web, stored, tmp_path, (1, 2))


def test_layers_come_out_of_all_pieces_of_a_split_model(
    web: Web, stored: StoredModel, tmp_path: Path
) -> None:
    assert stored.source is not None
    for path in split_by_gguf(stored.source, tmp_path / "pieces", 16):
        web.files["m/" + path.name.replace(" ", "%20")] = path.read_bytes()
    layers = Layers(stored.manifest, 0, 4, tmp_path / "folder")
    link = link_of(web.url("m/big%20model-00002-of-00003.gguf"))
    path = fetch_layers(link, layers, hashes_of(stored).tensors, patience=HASTE)
    assert path.read_bytes() == stored.shard(0, 4).read_bytes()


def stored_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith("layers-")]
