"""Turns of a chat as OpenAI's bodies have them."""

from __future__ import annotations

import json
from typing import Any

from hypercluster.node.engine.chat import Message, Tool, ToolCall
from hypercluster.node.engine.grammar import BadFormat, JsonSchema, check_format
from hypercluster.node.gateway.errors import bad
from hypercluster.node.gateway.reading import Fields, checked_text, kind_of

MOST_MESSAGES = 4096
MOST_PARTS = 1024
MOST_TOOLS = 256
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def read_messages(body: Fields) -> tuple[Message, ...]:
    """The turns in "messages". Raises ApiError."""
    if not body.has("messages"):
        body.missing("messages")
    found = tuple(_message(each) for each in body.each("messages", MOST_MESSAGES))
    if not found:
        body.refuse("messages", "messages is empty: send one message at least.")
    return found


def read_tools(body: Fields) -> tuple[Tool, ...]:
    """The functions in "tools". Raises ApiError, for what is not a function too."""
    found = []
    for each in body.each("tools", MOST_TOOLS):
        if (kind := each.text("type")) not in (None, "function"):
            each.refuse("type", f"{each.name('type')} is {kind!r}: only functions can be called here.")
        function = each.fields("function")
        if function is None:
            each.missing("function")
        found.append(read_function(function))
    if len({tool.name for tool in found}) < len(found):
        body.refuse("tools", "Two tools have one name.")
    return tuple(found)


def read_function(function: Fields) -> Tool:
    """A function with name, description and parameters. Raises ApiError."""
    name = function.text("name")
    if not name:
        function.missing("name")
    parameters = function.fields("parameters")
    if function.flag("strict") and parameters is not None:
        try:
            check_format(JsonSchema(parameters.values))
        except BadFormat as error:
            function.refuse("parameters", f"{parameters.where} cannot be kept strictly: {error}")
    return Tool(
        name,
        function.text("description") or "",
        parameters.values
        if parameters is not None and parameters.values
        else {"type": "object", "properties": {}},
    )


def _message(each: Fields) -> Message:
    if not each.has("role"):
        each.missing("role")
    role = _ROLES[each.one_of("role", *_ROLES) or ""]
    calls = tuple(_call(call) for call in each.each("tool_calls", MOST_TOOLS))
    if calls and role != "assistant":
        each.refuse("tool_calls", f"{each.name('tool_calls')}: only an assistant calls tools.")
    content = read_content(each, "content")
    if content is None:
        if role != "assistant":
            each.missing("content")
        content = each.text("refusal") or ""
    return Message(
        role,
        content,
        tool_calls=calls,
        tool_call_id=each.text("tool_call_id") or "",
        name=each.text("name") or "",
        reasoning=each.text("reasoning_content") or each.text("reasoning") or "",
    )


def read_content(
    each: Fields, field: str, texts: tuple[str, ...] = ("text", "refusal")
) -> str | tuple[str, ...] | None:
    """What is said: a text, or the texts of its parts. Parts of another kind, such as images, are refused by name."""
    value: Any = each.get(field)
    if value is None:
        return None
    if isinstance(value, str):
        return checked_text(value, each.name(field))
    if not isinstance(value, list):
        each.refuse(field, f"{each.name(field)} is {kind_of(value)}: it must be a text or a list of parts.")
    found = []
    for part in each.each(field, MOST_PARTS):
        kind = part.text("type")
        if kind is None:
            part.missing("type")
        if kind not in texts:
            raise bad(part.where, f"{part.where} is of type {kind[:40]!r}: models here read text only.")
        named = "refusal" if kind == "refusal" else "text"
        text = part.text(named)
        if text is None:
            part.missing(named)
        found.append(text)
    return tuple(found)


def _call(call: Fields) -> ToolCall:
    function = call.fields("function")
    if function is None:
        call.missing("function")
    name, arguments = function.text("name"), function.get("arguments")
    if not name:
        function.missing("name")
    if isinstance(arguments, dict):  # some clients send what they have parsed
        arguments = json.dumps(arguments)
    elif arguments is not None:
        arguments = function.text("arguments")
    return ToolCall(call.text("id") or "", name, arguments or "{}")
