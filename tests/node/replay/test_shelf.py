"""The shards that a verifier cuts for audits stay within bytes, also over restarts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hypercluster.node.replay.shelf import HEADER_BYTES, Shelf, ShelfFull
from hypercluster.node.shards import check_source, shard_bytes
from hypercluster.node.shards.store import ModelMissing, StoredModel, open_model

RANGES = [(low, high) for low in range(4) for high in range(low + 1, 5)]


@pytest.fixture
def stored(tiny_model: Path, tmp_path: Path) -> StoredModel:
    return open_model(tiny_model, tmp_path)


def on_disk(stored: StoredModel) -> int:
    return sum(path.stat().st_size for path in stored.folder.rglob("*.gguf"))


def small(stored: StoredModel) -> int:
    """Bytes for the shard of the whole model, and for nothing else."""
    assert stored.source is not None
    return shard_bytes(check_source(stored.source), 0, 4) + HEADER_BYTES


def test_every_range_once_leaves_no_more_than_the_bound(stored: StoredModel) -> None:
    shelf = Shelf(stored)
    for start, stop in RANGES:
        path = shelf.take(start, stop)
        assert path.exists()
        shelf.give_back(path)
        assert on_disk(stored) <= shelf.max_bytes
    assert shelf.has(*RANGES[-1])
    again = Shelf(stored)
    assert on_disk(stored) <= again.max_bytes


def test_the_longest_unused_goes_first_and_what_is_held_stays(stored: StoredModel) -> None:
    shelf = Shelf(stored, small(stored))
    first, second = shelf.take(0, 1), shelf.take(1, 2)
    shelf.give_back(second)
    os.utime(first, (1, 1))
    with pytest.raises(ShelfFull, match="--keep-shards"):
        shelf.take(0, 4)
    assert first.exists()
    shelf.give_back(first)
    whole = shelf.take(0, 4)
    assert whole.exists()
    assert not first.exists()


def test_a_later_run_knows_which_was_used_last(stored: StoredModel) -> None:
    shelf = Shelf(stored, 10 * small(stored))
    paths = [shelf.take(*each) for each in ((0, 1), (1, 2), (2, 3))]
    for path, date in zip(paths, (300, 100, 200), strict=True):
        os.utime(path, (date, date))
    Shelf(stored, small(stored)).take(0, 4)
    assert not paths[1].exists()


def test_what_a_killed_run_left_half_written_goes(stored: StoredModel) -> None:
    folder = stored.folder / "audited"
    folder.mkdir(parents=True)
    old, young = folder / ".layers-0000-0001.gguf.1f.part", folder / ".layers-0000-0002.gguf.2f.part"
    for path in (old, young):
        path.write_bytes(bytes(100))
    os.utime(old, (1, 1))
    Shelf(stored)
    assert (old.exists(), young.exists()) == (False, True)


def test_too_little_room_for_the_model_is_told_at_once(stored: StoredModel) -> None:
    with pytest.raises(ShelfFull, match="allow more with --keep-shards"):
        Shelf(stored, 1000)


def test_a_folder_of_shards_is_used_as_it_is(stored: StoredModel) -> None:
    mine = stored.shard(0, 2)
    stored.manifest.save(stored.folder / "manifest.json")
    folder = replace(stored, source=None)
    shelf = Shelf(folder, 0)
    assert shelf.take(0, 2) == mine
    shelf.give_back(mine)
    assert mine.exists()
    with pytest.raises(ModelMissing):
        shelf.take(2, 4)
