"""Tiny random models of any architecture, to judge on them how a real one can be cut.

llama.cpp itself says which tensors, of which shapes, a model of given metadata consists of. On some metadata it ends
the process, so this belongs into a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp as native
import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import GGUFValueType
from llama_cpp._ggml import libggml

from hypercluster.node.engine.llama import LoadFailed, start
from hypercluster.node.engine.quantising import in_type
from hypercluster.node.engine.templates import Meta
from hypercluster.node.shards.blueprint import FOREIGN_KEYS
from hypercluster.node.shards.writing import Part, Value, array, float32, text, uint32, uint32s, write_gguf

Shapes = dict[str, tuple[int, ...]]
TypeOf = Callable[[str, tuple[int, ...]], Type]

_LONG = frozenset({"ple.layer_multipliers", "ple.head_offsets", "ple.head_vocab_sizes"})  # lists of 64 bits
_NOT_MULTIPLIED = re.compile(
    "norm|ssm_conv|shortconv|gate_inp|ssm_a|ssm_d|hc_|altup|per_layer|attn_sinks|conv1d|indexer"
)
_NE = 16  # of the shape, int64[4], in a ggml_tensor


def of_float32(_name: str, _shape: tuple[int, ...]) -> Type:
    """The type of all matrices where nothing else is asked for."""
    return Type.F32


class _Params(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def metadata(architecture: str, meta: Meta) -> dict[str, Value]:
    """The keys of a template as a file without vocabulary has them."""
    named = {
        key if key.startswith(FOREIGN_KEYS) else f"{architecture}.{key}": _encoded(key, value)
        for key, value in meta.items()
    }
    return {
        "general.architecture": text(architecture),
        "tokenizer.ggml.model": text("no_vocab"),
        **named,
    }


def shapes_of(architecture: str, meta: Meta, folder: Path) -> Shapes:
    """Names and shapes (row length first) of all tensors of a model with this metadata.

    Writes and removes a file without tensors in `folder`. Raises LoadFailed with llama.cpp's words; some metadata makes
    llama.cpp end the process.
    """
    start()
    asked = write_gguf(folder / "asked.gguf", metadata(architecture, meta), ())
    found: Shapes = {}
    library = ctypes.CDLL(libggml._name)  # of its own, as others declare the same functions otherwise
    name_of, read = library.ggml_get_name, library.gguf_init_from_file
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    read.restype, read.argtypes = ctypes.c_void_p, [ctypes.c_char_p, _Params]

    def note(tensor: int, _data: int | None) -> None:
        shape = list((ctypes.c_int64 * 4).from_address(tensor + _NE))
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
        found.setdefault(name_of(tensor).decode(), tuple(shape))

    callback = native.llama_model_set_tensor_data_t(note)
    params = native.llama_model_default_params()
    params.n_gpu_layers, params.load_mtp = 0, True
    try:
        read_metadata = read(os.fsencode(asked), _Params(True, None))
        model = native.llama_model_init_from_user(read_metadata, callback, None, params)
    finally:
        asked.unlink()
    if not model:
        raise LoadFailed(f"llama.cpp makes no {architecture} model of this metadata.")
    native.llama_model_free(model)
    return found


def write_tiny(
    path: Path,
    architecture: str,
    meta: Meta,
    *,
    seed: int = 1,
    drop: tuple[str, ...] = (),
    type_of: TypeOf = of_float32,
) -> Path:
    """Write a model of this metadata with random weights, without the tensors named in `drop`, and return `path`.

    `type_of` is asked for every matrix that is multiplied. Raises LoadFailed; see shapes_of.
    """
    parts = []
    for name, shape in shapes_of(architecture, meta, path.parent).items():
        last = name.rsplit(".", 1)[-1]
        if name in drop or (last in ("scale", "input_scale") and "gate_inp" not in name):
            continue
        data, kind = values(name, shape, seed), Type.F32
        if "tid2eid" in name:  # the experts of each token
            kind, raw = Type.I32, (np.abs(data * 97).astype(np.int32) % meta["expert_count"]).tobytes()
        else:
            kind = type_of(name, shape) if is_multiplied(name, shape) else kind
            raw = in_type(name, data, kind)
        parts.append(Part(name, kind, shape, lambda raw=raw: (raw,)))  # type: ignore[misc]
    return write_gguf(path, metadata(architecture, meta), parts)


def is_multiplied(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is a matrix that may be quantised."""
    return len(shape) > 1 and name.endswith(".weight") and not _NOT_MULTIPLIED.search(name)


def values(name: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float32]:
    """Random weights that keep activations near 1 and all layers different."""
    drawn = np.random.default_rng([seed, zlib.crc32(name.encode())])
    data = drawn.standard_normal(shape[::-1], dtype=np.float32)
    last = name.rsplit(".", 1)[-1]
    if "ssm_a" in name:
        return -np.abs(data) - np.float32(0.05)
    if last in ("scale", "input_scale") or ("norm" in name and last == "weight"):
        return 1 + np.float32(0.2) * data
    if "rope_f" in name:
        return 1 + np.float32(0.3) * np.abs(data)
    if "tid2eid" in name or "hash" in name:
        return data
    if last == "bias" or len(shape) == 1:
        return np.float32(0.3) * data
    return data * np.float32(1.6 / shape[0] ** 0.5)


def _encoded(key: str, value: Any) -> Value:
    if isinstance(value, bool):
        return Value(GGUFValueType.BOOL, bytes([value]))
    if isinstance(value, int):
        return uint32(value)
    if isinstance(value, float):
        return float32(value)
    if isinstance(value, str):
        return text(value)
    if key in _LONG:
        return array(GGUFValueType.UINT64, [struct.pack("<Q", item) for item in value])
    if isinstance(value[0], bool):
        return array(GGUFValueType.BOOL, [bytes([item]) for item in value])
    if isinstance(value[0], float):
        return array(GGUFValueType.FLOAT32, [struct.pack("<f", item) for item in value])
    return uint32s(value)
