"""A step that was signed for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.node.wire.messages import Step


@dataclass(slots=True)
class Paid:
    """A step that was signed for: what it costs in wei, when it was begun, and how long signing took."""

    step: Step
    cost: int
    began: float
    sign_ms: float
    sent: bool = False
    answered: bool = False
