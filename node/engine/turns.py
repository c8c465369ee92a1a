"""Turns, tools and calls as the values that chat templates read, and in plain words for templates that know of none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypercluster.node.engine.chat import ROLES, Chat, Message, Tool
from hypercluster.node.engine.forms import Calls, Form

_SCHEMA_WORDS = frozenset(
    {"function", "object", "array", "string", "number", "integer", "boolean", "null", *ROLES, "text"}
)
"""values that templates compare with, which say nothing"""
_MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}")
_TOLD = """\
You can call these functions, described as JSON, one a line:
{tools}
To call one, answer with nothing but a JSON object on a line of its own, such as
{{"name": "NAME OF THE FUNCTION", "arguments": {{"NAME": "VALUE"}}}}
and you are told what it returns. Where no function helps, answer in words."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What templates disagree about: whether content is a list of typed `parts`, whether the arguments of a call are
    the text of JSON (`written`) or its value, and whether a `system` turn is one or goes in front of the user's.
    """

    parts: bool = False
    written: bool = False
    system: bool = True


def values(chat: Chat, shape: Shape) -> dict[str, Any]:
    """What the template reads: `messages`, and `tools` where there are some. What is absent has no key."""
    turns = chat.messages if shape.system else without_system(chat.messages)
    found: dict[str, Any] = {"messages": [_turn(turn, shape) for turn in turns]}
    if chat.tools:
        found["tools"] = [{"type": "function", "function": _described(tool)} for tool in chat.tools]
    return found


def _turn(turn: Message, shape: Shape) -> dict[str, Any]:
    text = text_of(turn.content)
    found: dict[str, Any] = {
        "role": turn.role,
        "content": [{"type": "text", "text": text}] if shape.parts else text,
    }
    if turn.reasoning:
        found["reasoning_content"] = turn.reasoning
    if turn.tool_calls:
        found["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": call.arguments if shape.written else _read(call.arguments),
                },
            }
            for call in turn.tool_calls
        ]
    if turn.tool_call_id:
        found["tool_call_id"] = turn.tool_call_id
    if turn.name:
        found["name"] = turn.name
    return found


def _described(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def _read(arguments: str) -> Any:
    """The object that a call's arguments are, or the text where it is none."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def fitted(chat: Chat, form: Form) -> Chat:
    """The chat as a model of this form can have it.

    A template that knows of no tools is told of them by a system turn, and of calls and results in words. Mistral's
    wants identifiers of nine letters.
    """
    if form.calls is Calls.MISTRAL:
        return replace(chat, messages=tuple(map(_with_short_ids, chat.messages)))
    if form.lists_tools:
        return chat
    if not chat.tools and not any(turn.tool_calls or turn.role == "tool" for turn in chat.messages):
        return chat
    turns = [_in_words(turn, chat.messages) for turn in chat.messages]
    if chat.tools:
        described = "\n".join(json.dumps(_described(tool), ensure_ascii=False) for tool in chat.tools)
        told = Message("system", _TOLD.format(tools=described))
        if turns and turns[0].role == "system":
            told = replace(told, content=f"{text_of(turns.pop(0).content)}\n\n{told.content}")
        turns.insert(0, told)
    return replace(chat, messages=_joined(turns), tools=())


def _with_short_ids(turn: Message) -> Message:
    calls = tuple(replace(call, id=_short(call.id)) for call in turn.tool_calls)
    answered = _short(turn.tool_call_id) if turn.role == "tool" else turn.tool_call_id
    return replace(turn, tool_calls=calls, tool_call_id=answered)


def _short(identifier: str) -> str:
    if _MISTRAL_ID.fullmatch(identifier):
        return identifier
    return hashlib.sha256(identifier.encode("utf-8", "replace")).hexdigest()[:9]


def _in_words(turn: Message, turns: Sequence[Message]) -> Message:
    if turn.role == "tool":
        called = (call.name for each in turns for call in each.tool_calls if call.id == turn.tool_call_id)
        name = turn.name or next(called, "") or "the function"
        return Message("user", f"{name} returned:\n{text_of(turn.content)}")
    if turn.tool_calls:
        calls = (
            json.dumps({"name": call.name, "arguments": _read(call.arguments)}, ensure_ascii=False)
            for call in turn.tool_calls
        )
        said = [text] if (text := text_of(turn.content)) else []
        return replace(turn, content="\n".join([*said, *calls]), tool_calls=())
    return turn


def _joined(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Users' turns that follow each other as one, since many templates want the roles to alternate."""
    found: list[Message] = []
    for turn in turns:
        if found and turn.role == found[-1].role == "user":
            both = f"{text_of(found[-1].content)}\n\n{text_of(turn.content)}"
            found[-1] = replace(found[-1], content=both)
        else:
            found.append(turn)
    return tuple(found)


def without_system(turns: Sequence[Message]) -> tuple[Message, ...]:
    """For templates without a system turn: its text in front of the first user's; the same turns if there is none."""
    system = [text_of(turn.content) for turn in turns if turn.role == "system"]
    others = [turn for turn in turns if turn.role != "system"]
    if not system or not others or others[0].role != "user":
        return tuple(turns)
    first = replace(others[0], content="\n\n".join([*system, text_of(others[0].content)]))
    return (first, *others[1:])


def text_of(content: str | tuple[str, ...]) -> str:
    """What was said, its parts joined by line ends."""
    return content if isinstance(content, str) else "\n".join(content)


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text in it changed, keys of objects too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(name)): mapped(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [mapped(each, change) for each in value]
    return value


def neutral(value: Any, letter: str, harmless: Callable[[str], bool]) -> Any:
    """The value with every text in it replaced by a letter, but for words of schemas and harmless keys."""

    def change(text: str) -> str:
        return text if text in _SCHEMA_WORDS else re.sub(r"\S", letter, text)

    if isinstance(value, Mapping):
        return {
            name if harmless(name) else change(name): neutral(each, letter, harmless)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [neutral(each, letter, harmless) for each in value]
    return change(value) if isinstance(value, str) else value


def texts_in(value: Any) -> Iterator[str]:
    """All texts of a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


def written_as_json(chat: Chat, text: str) -> bool:
    """Whether the arguments of all calls stand in the text, as JSON of any spacing."""
    solid = "".join(text.split())
    calls = (call for turn in chat.messages for call in turn.tool_calls)
    return all(
        "".join(json.dumps(_read(call.arguments), ensure_ascii=False).split()) in solid for call in calls
    )
