"""What a request tells before its completion begins, and the refusal to wait for it."""

from __future__ import annotations

from dataclasses import dataclass

from hypercluster.node.client import events
from hypercluster.node.errors import ErrorCode, NodeError


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits for a session; `position` is 1 for the next in turn, `seconds` how long it has waited."""

    position: int
    seconds: float


class QueueFull(NodeError):
    """Too many wait for this model, or this one waited too long; to be tried again after `retry_after` seconds."""

    code = ErrorCode.FULL

    def __init__(self, sentence: str, retry_after: float) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


Event = Queued | events.Event
