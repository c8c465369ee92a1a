"""The honest ways to serve that a calibration compares with each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypercluster.node.engine.profile import Backend, profile

COMPANY = 3
"""sessions that share the engine with the one that is looked at"""


@dataclass(frozen=True, slots=True)
class Variation:
    """One honest way to serve: a backend, its threads and prefill size, and whether it serves others as well."""

    name: str
    backend: Backend = field(default_factory=Backend)
    threads: int = 1
    chunk: int = 64
    company: bool = False
    f16: bool = False
    """activations travel as f16"""
    repack: bool = True
    """weights rearranged for the processor where llama.cpp can"""

    def is_own(self, own: str) -> bool:
        """Whether a provider like this has the profile `own`."""
        return self.repack and profile(self.backend, threads=self.threads, chunk=self.chunk) == own


def variations(threads: int) -> list[Variation]:
    """Every honest way to serve that llama.cpp offers on this machine."""
    flash = Backend(flash_attention=True)
    return [
        Variation("alone"),
        Variation("in company", company=True),
        Variation(f"{threads + 1} threads", threads=threads + 1),
        Variation("f16 on the wire", f16=True),
        Variation("prefill by 16", chunk=16),
        Variation("prefill by 128", chunk=128),
        Variation("cache f32", Backend(kv_type="f32")),
        Variation("cache bf16", Backend(kv_type="bf16")),
        Variation("flash attention", flash),
        Variation(f"flash attention, {threads + 1} threads", flash, threads=threads + 1),
        Variation("flash attention, cache q8_0", Backend(flash_attention=True, kv_type="q8_0")),
        Variation("weights not rearranged", repack=False),
    ]
