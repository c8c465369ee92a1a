"""Time parts of a step where the caches hold them, and behind a stage, where they hold weights: bench_cold.py.

A token of a stage streams its weights through the caches of the processor, and whatever a node does next comes from
memory. Here 160 MB are read before each call; the same call once more right behind it is the warm one. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import trio
from rich.console import Console
from rich.table import Table

from hypercluster.node.rows import mild, rows_root
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.links import Rows

WEIGHTS = 40_000_000
"""float32 numbers that are read in between"""
WIDTH = 2048
"""of a row of the 1B shape"""


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=40, help="calls of each part (default 40)")
    times = trio.run(measured, parser.parse_args().times)
    table = Table("microseconds", "cold", "warm", title=f"a row of {WIDTH} numbers")
    for part, (cold, warm) in times.items():
        table.add_row(part, f"{cold:.1f}", f"{warm:.1f}")
    Console(highlight=False).print(table)


async def measured(times: int) -> dict[str, tuple[float, float]]:
    """Microseconds of each part, cold and warm."""
    weights = np.ones(WEIGHTS, np.float32)
    found: dict[str, tuple[float, float]] = {}
    for part, call in parts().items():
        pairs = []
        for _ in range(times):
            weights.sum()
            pairs.append((timed(call), timed(call)))
        cold, warm = zip(*pairs, strict=True)
        found[part] = statistics.median(cold), statistics.median(warm)
    return found


def parts() -> dict[str, Callable[[], Any]]:
    """Calls that a provider makes for each token."""
    row = np.ones((1, WIDTH), np.float32)
    message = Rows(1, 1, row.tobytes())
    sent = encode(message)

    def scope() -> None:
        with trio.move_on_after(1):
            pass

    return {
        "a row looked through": lambda: mild(row),
        "its root": lambda: rows_root(message.data, 1),
        "a message encoded": lambda: encode(message),
        "and decoded": lambda: decode(sent),
        "a deadline of trio": scope,
        "this thread's clock": time.thread_time,
    }


def timed(call: Callable[[], Any]) -> float:
    """Microseconds of one call."""
    began = time.perf_counter()
    call()
    return 1e6 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
