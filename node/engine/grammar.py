"""What the form of an answer may be: JSON, JSON by a schema, calls of tools, or a grammar of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypercluster.node.engine.chat import Tool
from hypercluster.node.errors import ErrorCode, NodeError

MOST_LETTERS = 1 << 17
"""of a schema or grammar"""


class BadFormat(NodeError):
    """A schema or grammar that is wrong, too large, or holds what is not supported."""

    code = ErrorCode.BAD_REQUEST


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Any JSON object."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that a schema describes. What of a schema cannot be enforced is refused if `strict`, and else ignored."""

    schema: Mapping[str, Any] | bool
    strict: bool = True


@dataclass(frozen=True, slots=True)
class Lark:
    """A grammar in llguidance's dialect of Lark."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Calls of tools, as the model's own template has them.

    Attributes:
        choice: "auto" calls or speaks, "required" calls at least one tool; a tool's name calls that one.
        parallel: more than one call in a turn.
    """

    tools: tuple[Tool, ...]
    choice: str = "auto"
    parallel: bool = True

    @property
    def named(self) -> str | None:
        """The one tool that must be called."""
        return None if self.choice in ("auto", "required") else self.choice


Format = JsonObject | JsonSchema | Lark | ToolUse


def check_format(format_: Format) -> None:
    """Refuse what cannot be enforced. Raises BadFormat, with a sentence that names it."""
    match format_:
        case JsonSchema():
            _size(json.dumps(format_.schema))
        case Lark():
            _size(format_.text)
        case ToolUse():
            names = [tool.name for tool in format_.tools]
            if not names:
                raise BadFormat("Tools are to be used and there are none.")
            if len(set(names)) < len(names):
                raise BadFormat("Two tools have one name.")
            if format_.named is not None and format_.named not in names:
                raise BadFormat(f"There is no tool {format_.named!r} to call.")


def _size(text: str) -> None:
    if len(text) > MOST_LETTERS:
        raise BadFormat(f"The schema or grammar has {len(text)} letters; {MOST_LETTERS} are the most.")
