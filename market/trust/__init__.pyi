# The face of the room: what others use, loaded when it is first used. See docs/architecture.md, "Faces".

from .audit import (
    BadBounds,
    Bounds,
    Difference,
    Thresholds,
    is_sampled,
)
from .merkle import BadProof
from .receipt import (
    DisputeDomain,
    Finding,
    Receipt,
    Stage,
    Verdict,
    profile_hash,
)
from .reputation import (
    Evidence,
    Reputation,
    Tally,
)
from .standing import Standing

__all__ = [
    "BadBounds",
    "BadProof",
    "Bounds",
    "Difference",
    "DisputeDomain",
    "Evidence",
    "Finding",
    "Receipt",
    "Reputation",
    "Stage",
    "Standing",
    "Tally",
    "Thresholds",
    "Verdict",
    "is_sampled",
    "profile_hash",
]
