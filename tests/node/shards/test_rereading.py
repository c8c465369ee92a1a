"""A shard that was good when it was loaded is read again while it is served."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from hypercluster.node.provider.rereading import ShardRereading
from hypercluster.node.shards import ManifestMismatch, ShardError, split
from hypercluster.node.shards.blocks import BLOCK, BlockHashes, block_count
from hypercluster.node.shards.digests import digest
from hypercluster.node.shards.model import check_source
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.rereading import Rereading
from hypercluster.node.shards.store import open_model
from tests.node.helpers.random_models import Shape, write_random_model

SMALL = Shape(layers=3, n_embd=32, heads=2, kv_heads=1, n_ff=32, n_vocab=264, context=64)
WIDE = Shape(layers=2, n_embd=256, heads=2, kv_heads=1, n_ff=2560, n_vocab=264, context=64)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def until_found(rereading: Rereading) -> str:
    """What a few looks say of a shard that is rotten."""
    for _ in range(500):
        try:
            rereading.look(64)
        except ShardError as error:
            return str(error)
    pytest.fail("500 looks found nothing")


@pytest.mark.parametrize("with_hashes", [True, False])
def test_a_bit_that_falls_over_anywhere_is_found(tmp_path: Path, *, with_hashes: bool) -> None:
    source = write_random_model(tmp_path / "model.gguf", SMALL)
    manifest, hashes = digest(check_source(source))
    path = split(source, 1, 3, tmp_path / "shard.gguf", manifest=manifest)
    good = path.read_bytes()
    for name, tensor in read_container(path).tensors.items():
        rereading = Rereading(path, manifest, 1, 3, hashes if with_hashes else None)
        rereading.look(64)
        flip(path, tensor.offset + tensor.size // 2)
        assert str(path) in until_found(rereading), name
        path.write_bytes(good)
    flip(path, good.index(b"llama.rope.freq_base") + 5)
    assert str(path) in until_found(Rereading(path, manifest, 1, 3))
    path.write_bytes(good[: len(good) // 2])
    assert "truncated" in until_found(Rereading(path, manifest, 1, 3))


def test_tensors_of_several_blocks_are_read_by_block(tmp_path: Path) -> None:
    source = write_random_model(tmp_path / "model.gguf", WIDE)
    manifest, hashes = digest(check_source(source))
    assert max(block_count(line.size) for line in manifest.tensors.values()) > 2
    path = split(source, 0, 1, tmp_path / "shard.gguf", manifest=manifest)
    tensor = read_container(path).tensors["blk.0.ffn_up.weight"]
    flip(path, tensor.offset + 2 * BLOCK + 7)
    assert "block 2 of blk.0.ffn_up.weight is not what" in until_found(
        Rereading(path, manifest, 0, 1, hashes)
    )
    saved = BlockHashes.load(hashes.save(tmp_path / "blocks.bin", manifest), manifest)
    assert saved == hashes


def test_block_hashes_of_another_model_or_changed_ones_are_not_read(tmp_path: Path) -> None:
    manifest, hashes = digest(check_source(write_random_model(tmp_path / "model.gguf", SMALL)))
    raw = hashes.save(tmp_path / "blocks.bin", manifest).read_bytes()
    other = write_random_model(tmp_path / "other.gguf", Shape(**{**vars(SMALL), "seed": 5}))
    for changed in (raw[:-1], raw + b"\0", raw[:-1] + bytes([raw[-1] ^ 1]), b"", raw[1:]):
        with pytest.raises(ShardError, match="block hashes"):
            BlockHashes.parse(changed, manifest)
    with pytest.raises(ShardError, match="block hashes"):
        BlockHashes.parse(raw, digest(check_source(other))[0])


async def test_a_provider_stops_where_its_shard_rots(tmp_path: Path) -> None:
    stored = open_model(write_random_model(tmp_path / "model.gguf", SMALL), tmp_path / "home")
    shard = stored.shard(0, 2)
    rereading = ShardRereading(stored, shard, 0, 2)
    with trio.CancelScope() as serving:
        rereading.on_rot = serving.cancel
        await rereading.look()
        tensor = read_container(shard).tensors["blk.1.attn_q.weight"]
        flip(shard, tensor.offset)
        for _ in range(500):
            await rereading.look()
    assert serving.cancelled_caught
    assert isinstance(rereading.rot, ManifestMismatch)
    assert "blk.1.attn_q.weight" in str(rereading.rot)
    assert "At the next start the shard is made again" in str(rereading.rot)
    assert os.fspath(stored.shard(0, 2)) == os.fspath(shard)
