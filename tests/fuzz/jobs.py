"""The processes that take turns at decoders."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from dataclasses import dataclass
from queue import Empty

from tests.fuzz.fuzzing import Found, fuzz
from tests.fuzz.table import DECODERS

MEMORY = 8 * 2**30
"""address space of one job"""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one job found in one turn."""

    decoder: str
    seed: str
    found: Found


def work(turns: multiprocessing.Queue[tuple[str, str, float]], results: multiprocessing.Queue[Turn]) -> None:
    """Take turns until there are none."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - what libraries print of hostile input
    while True:
        try:
            name, seed, seconds = turns.get(timeout=1)
        except Empty:
            return
        results.put(Turn(name, seed, fuzz(DECODERS[name], seed, seconds=seconds)))
