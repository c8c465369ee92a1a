"""The backend profile: all that decides the last bits of what a node computes.

Two nodes with the same profile run the same build on the same kind of processor with the same settings, so an
auditor may expect the same bits where calibration found them; anything else is compared within wider bounds.
A profile is a claim of the node that makes it. A false one gains it the wider bounds, nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import llama_cpp as native

from hypercluster.market.trust.receipt import MAX_PROFILE
from hypercluster.node.engine.devices import accelerators, driver, libraries
from hypercluster.node.engine.llama import start
from hypercluster.node.errors import NodeError

LLAMA_CPP: str = native.__version__
"""version of the binding, which brings its own llama.cpp"""

KvType = Literal["f16", "f32", "bf16", "q8_0"]
"""Types of the cache that count as honest: a q4_0 cache changes results more than a coarser quantisation of weights."""
MOST_CARDS = 8
"""that a profile names"""
KV_TYPES: tuple[KvType, ...] = get_args(KvType)


class BadBackend(NodeError):
    """A backend setting that llama.cpp does not know or cannot combine."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Settings of llama.cpp that change the last bits: see node.engine.llama.Context."""

    flash_attention: bool = False
    kv_type: KvType = "f16"
    gpu_layers: int = -1
    """layers that accelerators compute, where there are any: -1 for all, 0 for none"""
    main_gpu: int = -1
    """the one accelerator that computes, by its number; -1 for all there are"""
    tensor_split: tuple[float, ...] = ()
    """share of the layers that each accelerator takes; empty for as much as its free memory is"""

    def __post_init__(self) -> None:
        if self.kv_type not in KV_TYPES:
            raise BadBackend(f"The cache type is {self.kv_type!r}, not one of {', '.join(KV_TYPES)}.")
        if self.kv_type.startswith("q") and not self.flash_attention:
            raise BadBackend(f"A {self.kv_type} cache needs flash attention: switch it on as well.")
        if self.main_gpu >= 0 and self.tensor_split:
            raise BadBackend("Either one card computes or several share the layers: give one of both.")
        if self.tensor_split and not (min(self.tensor_split) >= 0 < sum(self.tensor_split)):
            raise BadBackend("The cards' shares are numbers from 0 on, and one of them is above 0.")

    def settings(self) -> dict[str, Any]:
        """Those arguments of Engine that it decides."""
        return asdict(self)

    def document(self) -> dict[str, Any]:
        """What is computed with: the settings, those of cards only where a card computes, and the cards by name."""
        return {"kv": self.kv_type, "flash_attention": self.flash_attention, **_accelerators(self)}


def check_cards(backend: Backend) -> None:
    """Check that the accelerators are there which a backend names. Raises BadBackend."""
    there = len(accelerators())
    named = max(backend.main_gpu + 1, len(backend.tensor_split), 1 if backend.gpu_layers > 0 else 0)
    if named > there:
        what = "no card" if not there else "1 card" if there == 1 else f"{there} cards"
        raise BadBackend(
            f"llama.cpp knows of {what} here, and the settings need {named}: see `hc-provider doctor`, and build "
            "llama.cpp for the card, with CMAKE_ARGS."
        )


def profile(backend: Backend, *, threads: int, chunk: int) -> str:
    """The profile of a node as text: JSON, sorted, at most MAX_PROFILE characters.

    Threads count only with flash attention, which splits its sums by them; `chunk` is the rows of one prefill call.
    """
    fields = {
        "llama_cpp": native.__version__,
        "build": build_digest(),
        "cpu": _processor(),
        "chunk": chunk,
        **({"threads": threads} if backend.flash_attention else {}),
        **backend.document(),
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))[:MAX_PROFILE]


def _accelerators(backend: Backend) -> dict[str, Any]:
    """A card rounds otherwise than a processor, and than another card."""
    found = accelerators() if backend.gpu_layers else ()
    if backend.main_gpu >= 0:
        found = found[backend.main_gpu : backend.main_gpu + 1]
    if not found:
        return {}
    told: dict[str, Any] = {"accelerators": [device.description[:40] for device in found][:MOST_CARDS]}
    if backend.gpu_layers > 0:
        told["gpu_layers"] = backend.gpu_layers
    if backend.tensor_split:
        told["tensor_split"] = list(backend.tensor_split)
    return told | ({"driver": driver()} if driver() else {})


@functools.cache
def build_digest() -> str:
    """First 16 hex digits of the SHA-256 over llama.cpp's libraries and what they found the processor to have."""
    start()
    digest = hashlib.sha256()
    for library in libraries():
        digest.update(hashlib.sha256(library.read_bytes()).digest())
    digest.update(native.llama_print_system_info())
    return digest.hexdigest()[:16]


@functools.cache
def _processor() -> str:
    """The processor's model: another one may round differently, however alike its features."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()[:80]
    except OSError:
        pass
    return (platform.processor() or platform.machine())[:80]
