"""Tensors of a shard that copy nothing: zeros mostly, which are holes of the file, or ones."""

from __future__ import annotations

import errno
import os
import struct

from hypercluster.node.shards.container import CHUNK, Tensor, read_exactly
from hypercluster.node.shards.errors import ManifestMismatch

_UNITS = (bytes(4), struct.pack("<f", 1.0))


def check_filler(tensor: Tensor, fill: int) -> None:
    """Check that a tensor is all zeros, or all ones as float32; holes are not read. Raises ManifestMismatch."""
    unit = _UNITS[fill]
    with tensor.path.open("rb") as file:
        at, end = tensor.offset, tensor.offset + tensor.size
        while at < end:
            if not fill and (at := _data_from(file.fileno(), at)) >= end:
                return
            size = min(CHUNK, end - at)
            chunk = read_exactly(file.fileno(), tensor.path, at, size)
            if chunk != (unit * (size // 4 + 1))[:size] if fill else chunk.count(0) != size:
                what = "ones" if fill else "zeros"
                raise ManifestMismatch(f"{tensor.path}: the placeholder {tensor.name} is not all {what}.")
            at += size


def _data_from(descriptor: int, at: int) -> int:
    """The next place of the file that is no hole, as far as the system knows of holes."""
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except (AttributeError, OSError) as error:
        behind_all = isinstance(error, OSError) and error.errno == errno.ENXIO
        return os.fstat(descriptor).st_size if behind_all else at
