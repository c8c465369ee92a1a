"""Rows of activations in a little more than a byte a number: blocks of 32, each with a scale, as Q8_0 of GGUF has them.

A block is its scale d, a little-endian f16, and 32 signed bytes q; the numbers are d q. The scale is the smallest f16
that takes the largest number to 127 or less, and a number is rounded to the nearest q, half to even. So every machine
packs the same rows into the same bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hypercluster.market.errors import MarketError

Float32s = npt.NDArray[np.float32]

BLOCK = 32
MOST = 127
SMALLEST = 2.0**-14
"""of the scales that have all bits of an f16"""
LAST_BIT = 2.0**-24
"""of those below"""
LARGEST = 65504.0
ROUNDING = 25_000
"""of a row's length, in millionths, that rounding takes at most: half a step is a 254th of the largest number of its
block, so of all 32 it is sqrt(32) / 254 of their length at most; the rest is for a row that passes as a tenth longer"""
_BLOCK = np.dtype([("scale", "<f2"), ("numbers", "i1", (BLOCK,))])


class BadBlocks(MarketError):
    """Rows that have no such form, or bytes that nobody makes of any rows; `finite` where it is not for that."""

    def __init__(self, message: str, *, finite: bool = True) -> None:
        super().__init__(message)
        self.finite = finite


def row_bytes(width: int) -> int:
    """Bytes of a row of so many numbers. Raises BadBlocks unless they are whole blocks."""
    if width % BLOCK or not width:
        raise BadBlocks(f"q8 rows have a multiple of {BLOCK} values, not {width}.")
    return width // BLOCK * _BLOCK.itemsize


def pack(rows: Float32s) -> bytes:
    """Bytes of rows, float32 [n, width]. Raises BadBlocks: their width, or a value that is not finite or too large."""
    n, width = rows.shape
    row_bytes(width)
    blocks = rows.astype(np.float32, copy=False).reshape(n, width // BLOCK, BLOCK)
    wanted = np.abs(blocks).max(axis=2) / np.float32(MOST)
    if not (wanted <= LARGEST).all():  # false for NaN too
        raise BadBlocks("A value is not finite, or too large for q8.", finite=False)
    scales = wanted.astype("<f2")
    scales.view("<u2")[...] += scales < wanted
    steps = scales.astype(np.float32)
    steps[steps == 0] = 1
    table = np.empty((n, width // BLOCK), _BLOCK)
    table["numbers"] = numbers = np.rint(blocks / steps[:, :, None])
    if not (steps >= SMALLEST).all():
        scales[~numbers.any(axis=2)] = 0
    table["scale"] = scales
    return table.tobytes()


def unpack(data: bytes | npt.NDArray[Any], n: int, width: int) -> Float32s:
    """The rows float32 [n, width] in `data`, which is as long as they are; exact.

    Raises BadBlocks for a scale that is negative or not finite, and for blocks whose numbers do not use its range: no
    rows are packed like that, and the coarser the steps are the more could be meant by them.
    """
    table = np.frombuffer(data, _BLOCK).reshape(n, width // BLOCK)
    scales, numbers = table["scale"].astype(np.float32), table["numbers"]
    if not np.isfinite(scales).all():
        raise BadBlocks("A scale is not finite.", finite=False)
    peaks = np.maximum(numbers.max(axis=2), -numbers.min(axis=2).astype(np.int16))
    fine = peaks == MOST
    if not (fine & (scales >= SMALLEST)).all():
        # Scales of which f16 keeps few bits may be far too large.
        fine = np.where(scales > 0, fine | (scales < SMALLEST) & (peaks > 0) & (peaks <= MOST), peaks == 0)
        if not fine.all() or np.signbit(scales).any():
            raise BadBlocks("A block has another scale than that of its numbers.")
    rows = scales[:, :, None] * numbers.astype(np.float32)
    return rows.reshape(n, width)


def half_steps(rows: Float32s) -> npt.NDArray[np.float64]:
    """How far at most, float64 [n, width], the numbers may have been from those of unpacked rows before these were
    packed.
    """
    n, width = rows.shape
    blocks = np.abs(rows.astype(np.float64)).reshape(n, width // BLOCK, BLOCK).max(axis=2)
    steps = blocks / MOST
    # Of small ones the last bit and half a number: together no more than a 250th.
    steps = np.where(steps >= SMALLEST, steps, 1.004 * (steps + LAST_BIT))
    return np.repeat(steps / 2, BLOCK, axis=1)
