"""What llama.cpp computes on beside the processor: the cards that its build knows and finds."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import llama_cpp as native

from hypercluster.node.engine.llama import start

CPU = 0
"""ggml's number of the kind"""


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator: ggml's name such as "CUDA0", what it is, and its memory in bytes."""

    name: str
    description: str
    memory_bytes: int


@functools.cache
def accelerators() -> tuple[Device, ...]:
    """Those that a model may be loaded on; none where llama.cpp was built for the processor alone."""
    start()
    if not native.llama_supports_gpu_offload():
        return ()
    base, registry = (_library(name) for name in ("ggml-base", "ggml"))
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    for name in ("name", "description"):
        function = getattr(base, f"ggml_backend_dev_{name}")
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    base.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    base.ggml_backend_dev_memory.argtypes = [
        ctypes.c_void_p,
        *[ctypes.POINTER(ctypes.c_size_t)] * 2,
    ]
    found = []
    for index in range(registry.ggml_backend_dev_count()):
        device = registry.ggml_backend_dev_get(index)
        if base.ggml_backend_dev_type(device) == CPU:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        base.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name, described = base.ggml_backend_dev_name(device), base.ggml_backend_dev_description(device)
        found.append(Device(name.decode(), described.decode(errors="replace").strip(), total.value))
    return tuple(found)


def _library(name: str) -> ctypes.CDLL:
    folder = Path(native.__file__).parent / "lib"
    return ctypes.CDLL(str(next(path for path in sorted(folder.glob(f"lib{name}.*")))))
