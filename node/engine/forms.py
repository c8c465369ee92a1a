"""How the models of a family write thoughts and calls of tools, as their chat templates show it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_TOOLS = re.compile(r"\btools\b")
_TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"))


class Calls(Enum):
    """A way to write calls of tools."""

    HERMES = "<tool_call>"
    """each as JSON with `name` and `arguments` between <tool_call> and </tool_call>: Hermes, Qwen"""
    LLAMA = "<|python_tag|>"
    """the answer is JSON with `name` and `parameters`: Llama 3"""
    MISTRAL = "[TOOL_CALLS]"
    """a list of such JSON with `arguments` after [TOOL_CALLS]: Mistral"""
    GENERIC = ""
    """one such JSON a line, which the model is told in words: for whoever knows of no tools"""

    @property
    def key(self) -> str:
        """What the arguments are called."""
        return "parameters" if self is Calls.LLAMA else "arguments"

    @property
    def triggered(self) -> bool:
        """Whether a call begins with a mark that is nothing else."""
        return self in (Calls.HERMES, Calls.MISTRAL)


@dataclass(frozen=True, slots=True)
class Form:
    """Of one model.

    Attributes:
        calls: how it writes calls.
        tags: around what it thinks; None where the template knows of no thoughts.
        lists_tools: whether its template tells it of tools and of their results.
    """

    calls: Calls
    tags: tuple[str, str] | None
    lists_tools: bool

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that stand for something, and are shown though they may be control tokens."""
        own = {
            Calls.HERMES: ("<tool_call>", "</tool_call>"),
            Calls.LLAMA: ("<|python_tag|>",),
            Calls.MISTRAL: ("[TOOL_CALLS]",),
            Calls.GENERIC: (),
        }
        return (*own[self.calls], *(self.tags or ()))


def form_of(template: str | None) -> Form:
    """The form of a model with this chat template."""
    text = template or ""
    tags = next((pair for pair in _TAGS if pair[1] in text), None)
    if not _TOOLS.search(text):
        return Form(Calls.GENERIC, tags, lists_tools=False)
    for calls in (Calls.MISTRAL, Calls.HERMES):
        if calls.value in text:
            return Form(calls, tags, lists_tools=True)
    llama = Calls.LLAMA.value in text or '"parameters": ' in text
    return Form(Calls.LLAMA if llama else Calls.GENERIC, tags, lists_tools=True)
