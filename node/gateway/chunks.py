"""What comes of a request, piece by piece and in no API's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from hypercluster.node.client.events import Token

Reason = Literal["stop", "length", "tool_calls"]
"""why a choice ended, in the words that all SDKs know: the model or a stop text; a bound of tokens, context or money;
it calls tools"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request took; over all of its choices. Costs in wei of HCT."""

    prompt: int
    """tokens"""
    cached: int
    """of those, tokens that a session held already"""
    generated: int
    """tokens, thought included"""
    thought: int
    """of those, tokens of reasoning"""
    cost_wei: int
    """paid to providers; what is `risked` included"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing yet, and why: a place in the queue, channels that open, a prompt that goes through the layers."""

    comment: str
    prompt: int = 0
    """tokens of the prompt, once it is read"""


@dataclass(frozen=True, slots=True)
class PathKnown:
    """Sessions for choice `index` are opened over these hops next, as facts.known_path lists them."""

    index: int
    path: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of what choice `index` says; `tokens` are those drawn for it since its last piece, of any kind."""

    index: int
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what choice `index` thinks before it speaks."""

    index: int
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A piece of call number `call` of choice `index`: its first piece has `id` and `name`, which later are empty."""

    index: int
    call: int
    id: str
    name: str
    arguments: str
    """more of the JSON text"""
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """Choice `index` is whole. `stop` is the text that ended it, if one did; `tokens` as with Text."""

    index: int
    reason: Reason
    stop: str | None = None
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """All choices are whole; always the last chunk, unless the request fails.

    Attributes:
        facts: what only this network has, for the object "hypercluster": request_id, finish, path, seed, doubtful, ...
    """

    usage: Usage
    facts: dict[str, Any] = field(default_factory=dict)


Chunk = Waiting | PathKnown | Text | Reasoning | ToolCall | Ended | Done
