"""Where the time of a session goes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timing:
    """Where a hop's time went, in ms, one entry per step.

    `compute` and `waited` (checks, queue and ledger) are what the provider reports; what is left of `total`
    after these and `sign` is the wire, with encoding and waking up on both sides.
    """

    total: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)
    sign: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def add(self, total: float, compute: float, sign: float, waited: float) -> None:
        """One more step."""
        for times, ms in zip(
            (self.total, self.compute, self.sign, self.waited), (total, compute, sign, waited), strict=True
        ):
            times.append(ms)

    def typical(self) -> Typical:
        """Medians over all steps; zeros where there were none."""
        steps = zip(self.total, self.compute, self.sign, self.waited, strict=True)
        wire = [max(0.0, total - compute - sign - waited) for total, compute, sign, waited in steps]
        return Typical(
            compute_ms=_median(self.compute), wire_ms=_median(wire), waited_ms=_median(self.waited)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """Where the time of one step goes, in ms, signing left out."""

    compute_ms: float
    wire_ms: float
    waited_ms: float


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
