"""Formats as grammars in llguidance's dialect of Lark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypercluster.node.engine.chat import Tool
from hypercluster.node.engine.forms import Calls, Form
from hypercluster.node.engine.grammar import Format, JsonObject, JsonSchema, Lark, ToolUse

SPACE = r"[ \t]{1,2}|\r?\n[ \t]{0,40}"
"""between the parts of JSON: on one line or indented, and never on and on"""
_PLAIN = Form(Calls.GENERIC, None, lists_tools=False)
_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
_LETTERS = "LETTERS: /(.|\\n)*/\n"
_SPACES = "SPACE: /[ \\n]{1,4}/\n"


def grammar_of(format_: Format, form: Form = _PLAIN, *, thinking: bool = False) -> str:
    """The grammar of answers that have this format, of a model that writes calls in this form.

    Where the model's template has tags for thoughts, they may come first; they must where it is `thinking` already.
    Schemas of tools that llguidance does not know are to be left out before.
    """
    match format_:
        case JsonObject():
            body = f"body: {_json(_ANY_OBJECT)}\n"
        case JsonSchema():
            body = f"body: {_json(format_.schema, strict=format_.strict)}\n"
        case Lark():
            if not form.tags:
                return json.dumps({"grammars": [{"lark_grammar": format_.text}]})
            own = {"name": "own", "lark_grammar": format_.text}
            return json.dumps(
                {"grammars": [{"lark_grammar": _thoughts(form, thinking) + "body: @own\n"}, own]}
            )
        case ToolUse():
            body = _calls(format_, form)
    return _thoughts(form, thinking) + body


def tools_of(format_: ToolUse) -> tuple[Tool, ...]:
    """The tools that may be called."""
    return tuple(tool for tool in format_.tools if format_.named in (None, tool.name))


def _thoughts(form: Form, thinking: bool) -> str:
    """The rule `start`: the body, and what may be thought before it."""
    if not form.tags:
        return "start: body\n"
    opening, closing = map(_text, form.tags)
    start = "start: thoughts SPACE? body\n" if thinking else "start: body | opened thoughts SPACE? body\n"
    opened = "" if thinking else f"opened: {opening}\n"
    return f"{start}{opened}thoughts[lazy]: LETTERS {closing}\n{_LETTERS}{_SPACES}"


def _calls(format_: ToolUse, form: Form) -> str:
    """The rule `body` of calls, and of text around them where none is required."""
    tools = tools_of(format_)
    several = format_.parallel and format_.named is None
    key = json.dumps(form.calls.key)
    names = " | ".join(f"call{i}" for i in range(len(tools)))
    rules = f"call: {names}\n"
    for i, tool in enumerate(tools):
        name = json.dumps(tool.name, ensure_ascii=False)
        head = f'{{"name": {name}, {key}: '
        rules += f"call{i}: {_text(head)} args{i} {_text('}')}\nargs{i}: {_json(tool.parameters)}\n"
    match form.calls:
        case Calls.HERMES:
            opening, closing = _text("<tool_call>"), _text("\n</tool_call>")
            more = f" (/\\n{{1,2}}/ {opening} inner)*" if several else ""
            rules += f'inner: "\\n" call {closing}\n'
            return rules + _around(format_, f"{opening} inner{more}", opening, f"inner{more}", form)
        case Calls.MISTRAL:
            opening = _text("[TOOL_CALLS]")
            more = ' (", " call)*' if several else ""
            rules += f'inner: ("[" | " [") call{more} "]"\n'
            return rules + _around(format_, f"{opening} inner", opening, "inner", form)
        case Calls.LLAMA | Calls.GENERIC:
            more = ' ("\\n" call)*' if several else ""
            return rules + f"body: call{more}\n"


def _around(format_: ToolUse, calls: str, opening: str, rest: str, form: Form) -> str:
    """Calls alone where they are required; else any text, in which the opening of a call is one."""
    if format_.choice != "auto":
        return f"body: {calls}\n"
    letters = "" if form.tags else _LETTERS
    return f"body: LETTERS | opening {rest}\nopening[lazy]: LETTERS {opening}\n{letters}"


def _json(schema: Mapping[str, Any] | bool, *, strict: bool = False) -> str:
    options = {"whitespace_pattern": SPACE, "coerce_one_of": True, "lenient": not strict}
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    return f"%json {json.dumps({**schema, 'x-guidance': options})}"


def _text(text: str) -> str:
    """A text as it stands in a grammar."""
    return json.dumps(text, ensure_ascii=False)
