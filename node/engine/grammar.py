"""What the form of an answer may be: JSON, JSON by a schema, calls of tools, or a grammar of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypercluster.node.engine.chat import Tool
from hypercluster.node.errors import ErrorCode, NodeError

MOST_LETTERS = 1 << 16
"""of a schema or grammar, or of the schemas of all tools together"""
MOST_PROPERTIES = 500
"""of one object, or entries of a list other than an enum"""
MOST_SQUARES = 2 * MOST_PROPERTIES**2
"""of these numbers, all of a schema added up, as llguidance's time does"""
MOST_LEVELS = 600
"""of nesting, with that of every definition that is referred to"""


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
            _letters([tool.parameters for tool in format_.tools])


def check_size(schema: Any) -> None:
    """Refuse a schema that would take long, or much stack. Raises BadFormat."""
    _letters(schema)
    parts = list(_parts(schema))
    widths = [len(part) for name, part, _ in parts if name not in ("enum", "examples")]
    if max(widths, default=0) > MOST_PROPERTIES or sum(width * width for width in widths) > MOST_SQUARES:
        raise BadFormat(
            f"The schema has too many properties: {max(widths)} of one object, where {MOST_PROPERTIES} are the most, "
            "and fewer of several."
        )
    levels = 1 + max((level for _, _, level in parts), default=0)
    references = {part["$ref"] for _, part, _ in parts if isinstance(part, Mapping) and _refers(part)}
    for reference in references:
        target = _target(schema, reference)
        levels += 1 + max((level for _, _, level in _parts(target)), default=0)
    if levels > MOST_LEVELS:
        raise BadFormat(
            f"The schema has {levels} levels, those of definitions added up; {MOST_LEVELS} are the most."
        )


def _letters(schema: Any) -> None:
    try:
        letters = len(json.dumps(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFormat("The schema is no JSON, or nested too deeply.") from error
    if letters > MOST_LETTERS:
        raise BadFormat(f"The schema has {letters} letters; {MOST_LETTERS} are the most.")


def _parts(value: Any) -> Iterator[tuple[str, Any, int]]:
    """All objects and lists of a value: under which name they stand, and how deep."""
    todo = [("", value, 0)]
    while todo:
        name, part, level = todo.pop()
        if isinstance(part, Mapping):
            yield name, part, level
            todo += [(str(key), each, level + 1) for key, each in part.items()]
        elif isinstance(part, list | tuple):
            yield name, part, level
            todo += [(name if name == "enum" else "", each, level + 1) for each in part]


def _refers(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("$ref"), str)


def _target(schema: Any, reference: str) -> Any:
    """What a reference within the schema is to; all of it where that is not found."""
    found = schema
    for name in reference.removeprefix("#").split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list | tuple) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return schema
    return found


def supported(format_: ToolUse) -> ToolUse:
    """The same with any object as the arguments of tools whose schemas cannot be enforced."""

    def kept(tool: Tool) -> Tool:
        try:
            check_size(tool.parameters)
            _try(ToolUse((tool,), "required"))
        except BadFormat:
            return replace(tool, parameters={"type": "object"})
        return tool

    return replace(format_, tools=tuple(map(kept, format_.tools)))


def _try(format_: Format) -> None:
    from hypercluster.node.engine.guidance import check_grammar  # llguidance, when it is needed
    from hypercluster.node.engine.lark import grammar_of

    check_grammar(grammar_of(format_))
