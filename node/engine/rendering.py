"""Chats as the model's own template writes them, in such a way that what people say never becomes a control token.

Every control token that a message spells out is broken by a guard, a letter that occurs nowhere else, before the
template sees the message. What is then still whole in the result was written by the template. That could fail
only where a template changes or joins texts, so each chat is rendered once more with all that is said replaced
by a meaningless letter: unless both results hold the same control tokens, the chat is refused.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any

from hypercluster.node.engine.chat import ROLES, Chat, ChatError, ChatRefused, Message, NoChatTemplate
from hypercluster.node.engine.forms import form_of
from hypercluster.node.engine.turns import (
    Shape,
    fitted,
    mapped,
    neutral,
    texts_in,
    values,
    without_system,
    written_as_json,
)

MAX_TEMPLATE = 1 << 20  # characters
MAX_GROWTH = 1 << 20  # characters that a template may write beyond ten times what was said
SECONDS = 20  # for a process that may have to wait for a processor
_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
_JINJA = Path(__file__).with_name("jinja.py")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A chat as the template writes it; `guard` stands inside of what only looks like a control token."""

    guarded: str
    guard: str

    @property
    def text(self) -> str:
        """What the model reads."""
        return self.guarded.replace(self.guard, "")


class Controls:
    """The texts of a model's control tokens, found in other texts; the longest where several begin alike."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = sorted({text for text in texts if len(text) > 1}, key=len, reverse=True)
        # most letters begin none of them, which one look at a set tells
        first = "[" + "".join(re.escape(letter) for letter in sorted({text[0] for text in self.texts})) + "]"
        any_of = f"(?={first})(?:{'|'.join(map(re.escape, self.texts))})" if self.texts else "(?!)"
        self._pattern = re.compile(any_of)
        self._beginnings = re.compile(f"(?={any_of})(.)", re.IGNORECASE | re.DOTALL)

    def within(self, text: str) -> Iterator[re.Match[str]]:
        """All that stand in a text, in order."""
        return self._pattern.finditer(text)

    def broken(self, text: str, guard: str) -> str:
        """The text with `guard` behind the first letter of each, and of what differs by capitals only."""
        return self._beginnings.sub(lambda found: found[1] + guard, text)

    def pieces(self, text: str) -> list[str]:
        """The text cut at the same places."""
        cuts = [0, *(found.end(1) for found in self._beginnings.finditer(text)), len(text)]
        return [text[start:stop] for start, stop in pairwise(cuts) if start < stop]


def render(
    template: str | None,
    chat: Chat | Sequence[Message],
    controls: Controls,
    *,
    bos: str = "",
    eos: str = "",
    add_assistant: bool = True,
) -> Rendered:
    """Write a chat with a model's template, by default up to where the assistant begins.

    Parts of a message are joined by line ends. A system message that the template does not take goes in front of
    the first user message. Takes some 50 ms, in a process of its own. Raises NoChatTemplate, ChatRefused.
    """
    if not template:
        raise NoChatTemplate("The model has no chat template; chats are put before it as plain text.")
    if len(template) > MAX_TEMPLATE:
        raise NoChatTemplate(f"The model's chat template has {len(template)} characters; use a plain prompt.")
    chat = chat if isinstance(chat, Chat) else Chat(tuple(chat))
    for message in chat.messages:  # a template writes the role as it is
        if message.role not in ROLES:
            raise ChatRefused(f"{message.role!r} is no role in a chat; roles are {', '.join(ROLES)}.")
    variables = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": add_assistant}
    if chat.reasoning is not None:
        variables |= {"enable_thinking": chat.reasoning, "thinking": chat.reasoning}
    try:
        return _rendered(template, fitted(chat, form_of(template)), controls, variables)
    except RecursionError as error:
        raise ChatRefused("A tool's schema, or what a tool was called with, is nested too deeply.") from error


def _rendered(template: str, chat: Chat, controls: Controls, variables: dict[str, Any]) -> Rendered:
    """In the first of the shapes that the template takes and in which it writes the arguments of calls as JSON."""
    called = any(turn.tool_calls for turn in chat.messages)
    systems = (True, False) if without_system(chat.messages) != chat.messages else (True,)
    found: Rendered | None = None
    first: ChatError | None = None
    for written, parts in product((False, True) if called else (False,), (False, True)):
        for system in systems:
            try:
                rendered = _in_shape(template, chat, Shape(parts, written, system), controls, variables)
            except ChatRefused as error:
                first = first or error
            except NoChatTemplate as error:
                first = first or error
                break
            else:
                if not called or written_as_json(chat, rendered.text):
                    return rendered
                found = found or rendered
                break
        if found and written:
            break
    if found:
        return found
    assert first is not None
    raise first


def _in_shape(
    template: str, chat: Chat, shape: Shape, controls: Controls, variables: dict[str, Any]
) -> Rendered:
    said = mapped(values(chat, shape), lambda text: text.encode("utf-8", "replace").decode())
    guard, letter = _unused(2, chain([template], texts_in(said), controls.texts))
    safe = mapped(said, lambda text: controls.broken(text, guard))
    idle = neutral(said, letter, lambda key: controls.broken(key, guard) == key)
    guarded, empty = _run(template, variables, [safe, idle])
    return _checked(Rendered(guarded, guard), empty, letter, idle["messages"], controls)


def _checked(
    rendered: Rendered, idle: str, letter: str, turns: list[dict[str, Any]], controls: Controls
) -> Rendered:
    if letter not in idle and any(letter in json.dumps(turn, ensure_ascii=False) for turn in turns):
        raise NoChatTemplate("The model's chat template does not write what is said; use a plain prompt.")
    written, expected = ([found[0] for found in controls.within(text)] for text in (rendered.guarded, idle))
    if written != expected or rendered.guard in idle:
        raise ChatRefused(
            "What is said in this chat would become control tokens in the hands of the model's chat template, "
            "so it is refused; leave out words that look like the model's own tokens."
        )
    return rendered


def _run(template: str, variables: dict[str, Any], chats: list[dict[str, Any]]) -> list[str]:
    """The texts of the chats. Raises NoChatTemplate, ChatRefused."""
    job = {
        "template": template,
        "variables": variables,
        "chats": [{"tools": None, "documents": None, **chat} for chat in chats],
        "characters": 10 * len(json.dumps(chats)) + MAX_GROWTH,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(_JINJA)],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NoChatTemplate("The model's chat template takes too long; use a plain prompt.") from error
    if done.returncode:
        raise NoChatTemplate(
            "The model's chat template breaks down, or takes too much time or memory; use a plain prompt."
        )
    texts = []
    for result in json.loads(done.stdout):
        if "refused" in result:
            raise ChatRefused(
                f"The model's chat template does not take this chat: {_sentence(result['refused'])}"
            )
        if "broken" in result:
            raise NoChatTemplate(f"The model's chat template does not work: {_sentence(result['broken'])}")
        texts.append(result["text"])
    return texts


def _unused(count: int, texts: Iterable[str]) -> list[str]:
    """Letters of Unicode's private areas that none of the texts uses."""
    used = set().union(*texts)
    free = (letter for letter in map(chr, chain(*_PRIVATE)) if letter not in used)
    found = [letter for _, letter in zip(range(count), free, strict=False)]
    if len(found) < count:
        raise ChatRefused("The chat uses every private letter of Unicode; leave some of them out.")
    return found


def _sentence(reason: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in reason)[:200].strip().rstrip(".")
    return f"{shown or 'it gives no reason'}."
