"""How much of the processor each process uses, llama.cpp's apart from the others. On Linux; elsewhere nobody tells."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Used:
    """Milliseconds of the processor: of this process, and of each node and llama.cpp's process under it."""

    client: float
    nodes: tuple[float, ...]
    engines: tuple[float, ...]

    def since(self, before: Used) -> Used:
        """What was used since then."""
        return Used(
            self.client - before.client,
            tuple(now - then for now, then in zip(self.nodes, before.nodes, strict=True)),
            tuple(now - then for now, then in zip(self.engines, before.engines, strict=True)),
        )

    @property
    def beside(self) -> float:
        """Of all but llama.cpp."""
        return self.client + sum(self.nodes)


def used(nodes: Sequence[int]) -> Used | None:
    """What this process and the nodes with these ids used so far, threads that have ended included."""
    if sys.platform != "linux":
        return None
    return Used(
        1e3 * time.process_time(),
        tuple(_milliseconds(pid) for pid in nodes),
        tuple(sum(map(_milliseconds, _children(pid))) for pid in nodes),
    )


def a_token(used: Sequence[Used], tokens: int) -> dict[str, Any] | None:
    """Medians over the rounds of the ms of the processor that a token took; None where that is not known."""
    if not used:
        return None
    median = statistics.median
    return {
        "beside_llama": median(each.beside for each in used) / tokens,
        "client": median(each.client for each in used) / tokens,
        "providers": [median(parts) / tokens for parts in zip(*(each.nodes for each in used), strict=True)],
        "llama": [median(parts) / tokens for parts in zip(*(each.engines for each in used), strict=True)],
    }


def _milliseconds(pid: int) -> float:
    # The clock of a process, as clock_getcpuclockid(3) numbers it.
    return 1e3 * time.clock_gettime((~pid << 3) | 2)


def _children(pid: int) -> list[int]:
    told = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(each) for each in " ".join(told).split()]
