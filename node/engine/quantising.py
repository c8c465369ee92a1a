"""Random weights in any type that llama.cpp multiplies: quantised where gguf can, else random blocks of tame scales."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type

_SCALE = np.frombuffer(np.float16(0.004).tobytes(), np.uint8)
_BEHIND = {Type.Q2_K: 2, Type.Q3_K: 1, Type.Q6_K: 1}
"""how many scales of 16 bits end a block, where they do not begin it"""
_BEFORE = {Type.Q4_K: 2, Type.Q5_K: 2}
"""how many begin it, where that is not one"""
_SPREAD = {Type.IQ1_M: (-8, 0x11), Type.NVFP4: (4, 0x28)}
"""types whose scales are pieces of numbers: so many bytes (at the end if negative), and what they become"""


def in_type(name: str, data: npt.NDArray[np.float32], kind: Type) -> bytes:
    """The bytes of float32 weights in another type; of random ones where gguf cannot write it, by the name."""
    try:
        return bytes(quants.quantize(data, kind).tobytes())
    except NotImplementedError:
        return _random_blocks(name, data.shape, kind)


def _random_blocks(name: str, shape: tuple[int, ...], kind: Type) -> bytes:
    size, n_bytes = GGML_QUANT_SIZES[kind]
    drawn = np.random.default_rng(zlib.crc32(name.encode()))
    blocks = drawn.integers(0, 256, (int(np.prod(shape)) // size, n_bytes), np.uint8)
    if kind in _SPREAD:
        count, value = _SPREAD[kind]
        blocks[:, slice(None, count) if count > 0 else slice(count, None)] = value
    elif kind in _BEHIND:
        blocks[:, -2 * _BEHIND[kind] :] = np.tile(_SCALE, _BEHIND[kind])
    else:
        count = _BEFORE.get(kind, 1)
        blocks[:, : 2 * count] = np.tile(_SCALE, count)
    return blocks.tobytes()
