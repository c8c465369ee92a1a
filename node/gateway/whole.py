"""An answer that is sent in one piece: all its chunks put together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypercluster.node.gateway.chunks import Chunk, Done, Ended, Reason, Reasoning, Text, ToolCall, Usage

if TYPE_CHECKING:
    from hypercluster.node.client.events import Token


@dataclass(slots=True)
class Call:
    """A tool that is called; `arguments` is JSON."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Choice:
    """One whole answer."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    """with their probabilities, where those were asked for"""
    reason: Reason = "stop"
    stop: str | None = None

    def take(self, chunk: Text | Reasoning | ToolCall | Ended) -> None:
        """Add one of its chunks."""
        self.tokens += chunk.tokens
        match chunk:
            case Text():
                self.text += chunk.text
            case Reasoning():
                self.reasoning += chunk.text
            case ToolCall():
                if chunk.call == len(self.calls):
                    self.calls.append(Call(chunk.id, chunk.name))
                self.calls[chunk.call].arguments += chunk.arguments
            case Ended():
                self.reason, self.stop = chunk.reason, chunk.stop


@dataclass(slots=True)
class Whole:
    """All choices, what they took, and the facts of Done."""

    choices: list[Choice]
    usage: Usage = field(default_factory=lambda: Usage(0, 0, 0, 0, 0))
    facts: dict[str, Any] = field(default_factory=dict)
    first: float | None = None
    """when its first piece came, by the monotonic clock"""


async def gathered(chunks: AsyncIterable[Chunk], choices: int) -> Whole | None:
    """The whole of a stream; None where it ended without Done."""
    whole = Whole([Choice() for _ in range(choices)])
    async for chunk in chunks:
        if isinstance(chunk, Text | Reasoning | ToolCall | Ended):
            whole.first = whole.first or time.monotonic()
            whole.choices[chunk.index].take(chunk)
        elif isinstance(chunk, Done):
            whole.usage, whole.facts = chunk.usage, chunk.facts
            return whole
    return None
