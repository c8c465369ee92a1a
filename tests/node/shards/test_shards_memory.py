"""Splitting streams: memory does not grow with the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType as Type

from tests.node.helpers.random_models import Shape, write_random_model

MIB = 1 << 20

PROGRAM = """
import resource, sys
from pathlib import Path
from hypercluster.node.shards import build_manifest, check_shard, partition, split, write_vocabulary

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB

source, folder = map(Path, sys.argv[1:])
before = peak()
told = []
manifest = build_manifest(source, told.append)
for start, stop in partition(manifest.layers, 2):
    shard = split(source, start, stop, folder / "shard.gguf", manifest=manifest, progress=told.append)
    check_shard(shard, manifest, start, stop, progress=told.append)
write_vocabulary(source, folder / "vocab.gguf")
print(peak() - before, sum(told), max(told))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory as Linux counts it")
def test_hashing_splitting_and_checking_300_mb_takes_little_memory(tmp_path: Path) -> None:
    shape = Shape(
        layers=4, n_embd=512, heads=8, kv_heads=8, n_ff=1024, n_vocab=128_256, quantisation=Type.F16
    )
    source = write_random_model(tmp_path / "model.gguf", shape)
    size = source.stat().st_size
    assert size > 270 * MIB
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(source), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, told, largest = map(int, done.stdout.split())
    assert grown < 64 * MIB
    assert largest <= 4 * MIB
    # hashed, written, read back and checked once more, in all
    assert 3.9 * size < told < 4.1 * size
