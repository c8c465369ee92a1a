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
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from hypercluster.node.engine.chat import ROLES, ChatError, ChatRefused, Message, NoChatTemplate

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
    messages: Sequence[Message],
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
        raise NoChatTemplate("The model has no chat template; use a plain prompt instead.")
    if len(template) > MAX_TEMPLATE:
        raise NoChatTemplate(f"The model's chat template has {len(template)} characters; use a plain prompt.")
    for message in messages:  # a template writes the role as it is
        if message.role not in ROLES:
            raise ChatRefused(f"{message.role!r} is no role in a chat; roles are {', '.join(ROLES)}.")
    said = [(message.role, _text(message.content)) for message in messages]
    guard, letter = _unused(2, chain([template], *said, controls.texts))
    variables = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": add_assistant}
    first: ChatError | None = None
    for typed in (False, True):
        for turns in (said, _without_system(said)):
            if turns is None:
                continue
            neutral = [(role, re.sub(r"\S", letter, text)) for role, text in turns]
            safe = [(role, controls.broken(text, guard)) for role, text in turns]
            try:
                idle, real = _run(template, variables, [_plain(neutral, typed), _plain(safe, typed)])
                return _checked(Rendered(real, guard), idle, letter, neutral, controls)
            except ChatRefused as error:
                first = first or error
            except NoChatTemplate as error:
                first = first or error
                break
    assert first is not None
    raise first


def _checked(
    rendered: Rendered, idle: str, letter: str, neutral: list[tuple[str, str]], controls: Controls
) -> Rendered:
    if letter not in idle and any(letter in text for _, text in neutral):
        raise NoChatTemplate("The model's chat template does not write what is said; use a plain prompt.")
    written, expected = ([found[0] for found in controls.within(text)] for text in (rendered.guarded, idle))
    if written != expected or rendered.guard in idle:
        raise ChatRefused(
            "What is said in this chat would become control tokens in the hands of the model's chat template, "
            "so it is refused; leave out words that look like the model's own tokens."
        )
    return rendered


def _run(template: str, variables: dict[str, Any], chats: list[list[dict[str, Any]]]) -> list[str]:
    """The texts of the chats. Raises NoChatTemplate, ChatRefused."""
    job = {
        "template": template,
        "variables": {**variables, "tools": None, "documents": None},
        "chats": chats,
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


def _plain(turns: list[tuple[str, str]], typed: bool) -> list[dict[str, Any]]:
    """Messages as templates know them; `typed` as the lists of parts that some want."""
    return [
        {"role": role, "content": [{"type": "text", "text": text}] if typed else text} for role, text in turns
    ]


def _without_system(turns: list[tuple[str, str]]) -> list[tuple[str, str]] | None:
    """For templates without a system turn: its text in front of the first user message; None if there is none."""
    system = [text for role, text in turns if role == "system"]
    others = [turn for turn in turns if turn[0] != "system"]
    if not system or not others or others[0][0] != "user":
        return None
    return [("user", "\n\n".join([*system, others[0][1]])), *others[1:]]


def _text(content: str | tuple[str, ...]) -> str:
    text = content if isinstance(content, str) else "\n".join(content)
    return text.encode("utf-8", "replace").decode()


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
