"""What a body of /v1/responses puts in: items of many kinds, made into turns of a chat."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NoReturn

from hypercluster.node.engine.chat import Message, Tool, ToolCall
from hypercluster.node.gateway.errors import ApiError, bad
from hypercluster.node.gateway.openai.messages import MOST_MESSAGES, read_content
from hypercluster.node.gateway.reading import Fields, checked_text

TEXTS = ("input_text", "output_text", "text", "refusal")
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SILENT = ("reasoning", "web_search_call", "file_search_call")
"""kinds of items that a model here has no use for and that clients send back as they came"""


class Remembered:
    """Texts that went out lately, since AI SDKs refer to them by their ids instead of sending them back.

    Of each key its own, forgotten when the gateway ends or others come; nothing depends on it but those references.
    """

    MOST = 1024
    MOST_LETTERS = 1 << 16
    """of one text; a longer one is not kept"""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[str | None, str], str] = OrderedDict()

    def keep(self, key_id: str | None, item_id: str, text: str) -> None:
        """Remember what an item said."""
        if len(text) > self.MOST_LETTERS:
            return
        self._texts[key_id, item_id] = text
        while len(self._texts) > self.MOST:
            self._texts.popitem(last=False)

    def text(self, key_id: str | None, item_id: str) -> str | None:
        """What it said; None where that is not known."""
        return self._texts.get((key_id, item_id))


def read_input(body: Fields, remembered: Remembered, key_id: str | None) -> tuple[Message, ...]:
    """The turns in "instructions" and "input". Raises ApiError."""
    found: list[Message] = []
    if instructions := body.text("instructions"):
        found.append(Message("system", instructions))
    given = body.get("input")
    if given is None:
        body.missing("input")
    if isinstance(given, str):
        if not given:
            body.refuse("input", "input is empty: give at least one character.")
        return (*found, Message("user", checked_text(given, "input")))
    count = len(found)
    for item in body.each("input", MOST_MESSAGES):
        _take(item, found, remembered, key_id)
    if len(found) == count:
        body.refuse("input", "input has nothing to answer: send one message at least.")
    return tuple(found)


def _take(item: Fields, found: list[Message], remembered: Remembered, key_id: str | None) -> None:
    """Add what an item says to the turns so far."""
    kind = item.text("type") or "message"
    match kind:
        case "message":
            found.append(_message(item))
        case "function_call":
            _add_call(item, found)
        case "function_call_output":
            found.append(_result(item))
        case "item_reference":
            _refer(item, found, remembered, key_id)
        case _ if kind not in _SILENT:
            raise bad(item.where, f"{item.where} is of type {kind[:40]!r}, which models here cannot read.")


def _message(item: Fields) -> Message:
    if not item.has("role"):
        item.missing("role")
    role = _ROLES[item.one_of("role", *_ROLES) or ""]
    content = read_content(item, "content", TEXTS)
    if content is None:
        item.missing("content")
    return Message(role, content)


def _add_call(item: Fields, found: list[Message]) -> None:
    """A call belongs to the assistant's turn before it, if there is one."""
    call = ToolCall(
        item.text("call_id") or _lacks(item, "call_id"),
        item.text("name") or _lacks(item, "name"),
        item.text("arguments") or "{}",
    )
    if found and found[-1].role == "assistant":
        last = found.pop()
        found.append(Message("assistant", last.content, tool_calls=(*last.tool_calls, call)))
    else:
        found.append(Message("assistant", "", tool_calls=(call,)))


def _result(item: Fields) -> Message:
    output = read_content(item, "output", TEXTS)
    if output is None:
        item.missing("output")
    return Message("tool", output, tool_call_id=item.text("call_id") or _lacks(item, "call_id"))


def _refer(item: Fields, found: list[Message], remembered: Remembered, key_id: str | None) -> None:
    item_id = item.text("id") or _lacks(item, "id")
    if item_id.startswith("rs_"):
        return
    text = remembered.text(key_id, item_id)
    if text is None:
        item.refuse("id", f"{item.name('id')}: nothing is stored here; send the item itself (store: false).")
    found.append(Message("assistant", text))


def _lacks(item: Fields, field: str) -> NoReturn:
    item.missing(field)


def refuse_state(body: Fields) -> None:
    """Refuse what needs a server that remembers. Raises ApiError."""
    why: dict[str, str] = {
        "previous_response_id": "nothing is stored here; send the whole conversation in input",
        "conversation": "nothing is stored here; send the whole conversation in input",
        "prompt": "there are no stored prompts here; send instructions and input",
        "background": "answers are not kept until they are asked for; stream them",
    }
    for name, reason in why.items():
        if body.get(name) not in (None, False):
            raise ApiError(400, "unsupported_parameter", f"{name} is not offered: {reason}.", param=name)


def tool_document(tool: Tool) -> dict[str, Any]:
    """A tool as a response tells it again."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": False,
    }
