"""Where the time of a session goes."""

from __future__ import annotations

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
