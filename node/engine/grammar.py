"""What the form of an answer may be: JSON, JSON by a schema, calls of tools, or a grammar of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypercluster.node.engine.chat import Tool
from hypercluster.node.errors import ErrorCode, NodeError

MOST_LETTERS = 1 << 17
"""of a schema or grammar, or of those of all tools together"""
MOST_PROPERTIES = 500
"""of one object: more would take llguidance seconds"""


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
    """Calls of tools, as the model's own template has them. A schema that cannot be enforced is not.

    Attributes:
        choice: "auto" calls or speaks, "required" calls at least one tool; a tool's name calls that one, once.
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
    """Refuse what cannot be enforced, in some ms. Raises BadFormat, with a sentence that names it."""
    match format_:
        case JsonSchema():
            check_size(format_.schema)
            _try(format_)
        case Lark():
            if len(format_.text) > MOST_LETTERS:
                raise BadFormat(f"The grammar has {len(format_.text)} letters; {MOST_LETTERS} are the most.")
            _try(format_)
        case ToolUse():
            names = [tool.name for tool in format_.tools]
            if not names:
                raise BadFormat("Tools are to be used and there are none.")
            if len(set(names)) < len(names):
                raise BadFormat("Two tools have one name.")
            if format_.named is not None and format_.named not in names:
                raise BadFormat(f"There is no tool {format_.named!r} to call.")
            check_size([tool.parameters for tool in format_.tools])


def check_size(schema: Any) -> None:
    """Refuse a schema that would take long. Raises BadFormat."""
    try:
        letters = len(json.dumps(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFormat("The schema is no JSON, or nested too deeply.") from error
    if letters > MOST_LETTERS:
        raise BadFormat(f"The schema has {letters} letters; {MOST_LETTERS} are the most.")
    for part in _parts(schema):
        if isinstance(part, Mapping) and len(part) > MOST_PROPERTIES:
            raise BadFormat(
                f"An object of the schema has {len(part)} properties; {MOST_PROPERTIES} are the most."
            )


def _parts(value: Any) -> Iterator[Any]:
    todo = [value]
    while todo:
        part = todo.pop()
        yield part
        if isinstance(part, Mapping):
            todo += part.values()
        elif isinstance(part, list | tuple):
            todo += part


def supported(format_: ToolUse) -> ToolUse:
    """The same with any object as the arguments of tools whose schemas cannot be enforced."""

    def kept(tool: Tool) -> Tool:
        try:
            _try(ToolUse((tool,), "required"))
        except BadFormat:
            return replace(tool, parameters={"type": "object"})
        return tool

    return replace(format_, tools=tuple(map(kept, format_.tools)))


def _try(format_: Format) -> None:
    from hypercluster.node.engine.guidance import check_grammar  # llguidance, when it is needed
    from hypercluster.node.engine.lark import grammar_of

    check_grammar(grammar_of(format_))
