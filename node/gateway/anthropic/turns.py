"""Turns of a conversation in blocks, as Anthropic's API has them, read into a chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hypercluster.node.engine.chat import Message, Tool, ToolCall
from hypercluster.node.gateway.errors import bad
from hypercluster.node.gateway.reading import Fields, checked_text, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_MESSAGES = 100_000
MOST_BLOCKS = 10_000
MOST_TOOLS = 256
_UNSEEN = {
    "image": "this network's models read text only",
    "document": "this network's models read text only; send what it says as text",
    "container_upload": "no files are kept here",
}


def read_system(body: Fields) -> list[Message]:
    """What is told to the model before the conversation: a text, or blocks of text."""
    texts = tuple(text for text in _texts(body, "system") if text)
    return [Message("system", texts[0] if len(texts) == 1 else texts)] if texts else []


def read_messages(body: Fields) -> list[Message]:
    """The conversation. Raises ApiError for what the model could not be told."""
    if not body.listed("messages", MOST_MESSAGES):
        if body.has("messages"):
            body.refuse("messages", "messages is empty: there has to be one at least.")
        body.missing("messages")
    found: list[Message] = []
    names: dict[str, str] = {}
    for message in body.each("messages", MOST_MESSAGES):
        match message.one_of("role", "user", "assistant", "system"):
            case "assistant":
                turn = _assistant(message)
                names |= {call.id: call.name for call in turn.tool_calls}
                found.append(turn)
            case "user":
                found += _user(message, names)
            case "system":
                found.append(Message("system", tuple(_texts(message, "content"))))
            case None:
                message.missing("role")
    if not any(_said(message) for message in found):
        body.refuse("messages", "messages has nothing that was said in it.")
    return found


def read_tools(body: Fields) -> tuple[Tool, ...]:
    """The tools that the model may call; those that Anthropic runs itself are refused."""
    found = []
    for tool in body.each("tools", MOST_TOOLS):
        kind = tool.text("type") or "custom"
        if kind != "custom":
            tool.refuse("type", f"{tool.name('type')} is {kind!r}: the gateway runs no tools of its own.")
        name = tool.text("name") or tool.missing("name")
        schema = tool.fields("input_schema")
        found.append(
            Tool(name, tool.text("description") or "", schema.values if schema else {"type": "object"})
        )
    return tuple(found)


def _said(message: Message) -> bool:
    return bool(message.tool_calls or (any(message.content) if message.content else False))


def _user(message: Fields, names: dict[str, str]) -> Iterator[Message]:
    said: list[str] = []
    for kind, block in _blocks(message, "content"):
        if kind == "text":
            said.append(_text(block))
            continue
        if kind != "tool_result":
            _refuse(block, kind, "user")
        if said:
            yield Message("user", tuple(said))
            said = []
        answered = block.text("tool_use_id") or block.missing("tool_use_id")
        yield Message(
            "tool",
            "\n".join(_texts(block, "content")),
            tool_call_id=answered,
            name=names.get(answered, ""),
        )
    if said:
        yield Message("user", said[0] if len(said) == 1 else tuple(said))


def _assistant(message: Fields) -> Message:
    said: list[str] = []
    thought: list[str] = []
    calls: list[ToolCall] = []
    for kind, block in _blocks(message, "content"):
        match kind:
            case "text":
                said.append(_text(block))
            case "thinking":
                thought.append(block.text("thinking") or "")
            case "redacted_thinking":
                pass  # nobody here could read it
            case "tool_use":
                given = block.fields("input")
                calls.append(
                    ToolCall(
                        block.text("id") or block.missing("id"),
                        block.text("name") or block.missing("name"),
                        json.dumps(given.values if given else {}, ensure_ascii=False),
                    )
                )
            case _:
                _refuse(block, kind, "assistant")
    return Message("assistant", "".join(said), tool_calls=tuple(calls), reasoning="".join(thought))


def _blocks(fields: Fields, name: str) -> Iterator[tuple[str, Fields]]:
    """The blocks of a content, with their types; a text alone is one block."""
    value: Any = fields.get(name)
    if isinstance(value, str):
        yield (
            "text",
            Fields({"type": "text", "text": checked_text(value, fields.name(name))}, fields.name(name)),
        )
        return
    if value is not None and not isinstance(value, list):
        raise bad(fields.name(name), f"{fields.name(name)} is {kind_of(value)}: it must be a text or a list.")
    for block in fields.each(name, MOST_BLOCKS):
        yield block.text("type") or block.missing("type"), block


def _texts(fields: Fields, name: str) -> Sequence[str]:
    """The texts of a content in which only text may stand."""
    found = []
    for kind, block in _blocks(fields, name):
        if kind != "text":
            _refuse(block, kind, name)
        found.append(_text(block))
    return found


def _text(block: Fields) -> str:
    text = block.text("text")
    return block.missing("text") if text is None else text


def _refuse(block: Fields, kind: str, place: str) -> None:
    why = _UNSEEN.get(kind, f"it is no block that a {place} turn may hold here")
    block.refuse("type", f"{block.name('type')} is {kind!r}: {why}.")
