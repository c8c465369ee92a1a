"""What a chat is: turns, the tools that the model may call, and the calls that it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypercluster.node.errors import NodeError

ROLES = ("system", "user", "assistant", "tool")


class ChatError(NodeError):
    """A chat that cannot be put before the model."""


class NoChatTemplate(ChatError):
    """The model brings no chat template that works."""


class ChatRefused(ChatError):
    """The template works and does not take this chat, or what is said in it would act on the model."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is the JSON schema of its arguments, an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made; `arguments` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: its role, one of ROLES, and what was said, in one part or several.

    Attributes:
        tool_calls: that an assistant made in this turn.
        tool_call_id, name: which call the turn of a tool answers, and the tool's name.
        reasoning: what an assistant thought before it spoke; most templates leave it out.
    """

    role: str
    content: str | tuple[str, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """Turns that the model is to answer.

    Attributes:
        tools: that it may call.
        reasoning: whether it is to think first, where its template can tell it; None leaves it to the template.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    reasoning: bool | None = None
