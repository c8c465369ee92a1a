"""Mutated inputs for one decoder, from its corpus and from whatever led to a new outcome."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fuzz.decoder import Crash, Decoder, attempt, silence
from tests.fuzz.mutation import mutated

LONGEST = 100_000
"""bytes of an input that is mutated further"""


@dataclass(slots=True)
class Found:
    """What a run over one decoder saw."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: dict[str, Crash] = field(default_factory=dict)
    """one of each kind"""


def fuzz(decoder: Decoder, seed: str, *, inputs: int | None = None, seconds: float | None = None) -> Found:
    """Give a decoder `inputs` mutated inputs, or as many as `seconds` allow, drawn by `seed`."""
    found, began = Found(), time.monotonic()
    for _ in fuzzing(decoder, seed, found):
        if inputs is not None and found.inputs >= inputs:
            break
        if seconds is not None and time.monotonic() > began + seconds:
            break
    return found


def fuzzing(decoder: Decoder, seed: str, found: Found) -> Iterator[None]:
    """The same without an end: `found` grows with each input."""
    draw = random.Random(f"{decoder.name} {seed}")
    seeds = decoder.seeds()
    while True:
        data = mutated(seeds, decoder.shape, draw)
        with silence():
            outcome = attempt(decoder, data)
        found.inputs += 1
        if isinstance(outcome, Crash):
            found.crashes.setdefault(outcome.kind, outcome)
        else:
            found.outcomes[outcome] += 1
            if found.outcomes[outcome] == 1 and len(data) <= LONGEST:
                # It got further, or elsewhere, than all before.
                seeds.append(data)
        yield
