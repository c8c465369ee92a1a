"""What llama.cpp computes on beside the processor: the cards that its build knows and finds."""

from __future__ import annotations

import ctypes
import functools
import platform
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import llama_cpp as native

from hypercluster.node.engine.llama import start

CPU = 0
"""ggml's number of the kind"""
_VERSION = re.compile(r"\d+\.\d+(\.\d+)*")
_LIBRARY = re.compile(r"\.(so|dylib|dll)(\.|$)")


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator: ggml's name such as "CUDA0", what it is, and its memory in bytes, all and free at a look."""

    name: str
    description: str
    memory_bytes: int
    free_bytes: int = 0


@functools.cache
def accelerators() -> tuple[Device, ...]:
    """Those that a model may be loaded on; none where llama.cpp was built for the processor alone."""
    return _devices()


def free_card_bytes() -> int:
    """Memory of all of them that is free now."""
    return sum(device.free_bytes for device in _devices())


def _devices() -> tuple[Device, ...]:
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
        described_as = described.decode(errors="replace").strip()
        found.append(Device(name.decode(), described_as, total.value, free.value))
    return tuple(found)


@functools.cache
def driver() -> str:
    """The driver of this machine's cards and its version, such as "nvidia 570.86.15"; empty where none says so."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    for name, path in (
        ("nvidia", Path("/proc/driver/nvidia/version")),
        ("amdgpu", Path("/sys/module/amdgpu/version")),
    ):
        with suppress(OSError):
            if found := _VERSION.search(path.read_text(errors="replace")):
                return f"{name} {found.group()}"
    return ""


def libraries() -> list[Path]:
    """The files of llama.cpp's build."""
    folder = Path(native.__file__).parent / "lib"
    return sorted(path for path in folder.iterdir() if _LIBRARY.search(path.name))


def _library(name: str) -> ctypes.CDLL:
    file = next(path for path in libraries() if path.name.partition(".")[0].removeprefix("lib") == name)
    return ctypes.CDLL(str(file))
