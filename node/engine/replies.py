"""An answer taken apart while it comes: what is said, what is thought, and which tools are called."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Collection
from dataclasses import dataclass

from hypercluster.node.engine.calls import CallReader, State
from hypercluster.node.engine.forms import Calls, Form


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Something that is said."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    """Something that is thought, without the tags around it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """A part of a call: the first one of call `index` (from 0) has id and name, all of them more of the arguments.

    The arguments of all pieces together are the text of a JSON object, unless the answer was cut.
    """

    index: int
    id: str
    name: str
    arguments: str


Piece = TextPiece | ReasoningPiece | ToolCallPiece


class Reply:
    """Takes the text of an answer as it comes and gives its pieces.

    What only looks like a call, or breaks off before it is one, is text.

    Args:
        form: of the model; None takes nothing apart.
        tools: names that may be called.
        sure: calls are well formed, so that their arguments are told as they come; else when they are complete.
        thinking: whether the answer begins within thoughts; asked when the first text comes.
        trim: leave out space in front of the text.
    """

    def __init__(
        self,
        form: Form | None = None,
        *,
        tools: Collection[str] = (),
        sure: bool = False,
        thinking: Callable[[], bool] = lambda: False,
        trim: bool = False,
    ) -> None:
        self._form = form or Form(Calls.GENERIC, None, lists_tools=False)
        self._tools, self._sure, self._thinking, self._trim = tools, sure, thinking, trim
        self._marks = tuple(mark for mark in (self._form.calls.value,) if mark)
        self._held = ""
        self._ended = False
        self._step: Callable[[], list[Piece] | None] = self._begin
        self._calls = 0
        self._reader: CallReader | None = None
        self._before = ""
        """what stood in front of the call that is read, its mark included"""
        self._blank = True
        """whether nothing was said yet on this line"""

    def push(self, text: str) -> list[Piece]:
        """The pieces that this text completes."""
        self._held += text
        return self._go_on()

    def finish(self) -> list[Piece]:
        """What was held back until the end."""
        self._ended = True
        return self._go_on()

    def _go_on(self) -> list[Piece]:
        pieces: list[Piece] = []
        while (found := self._step()) is not None:
            pieces += found
        return _merged(pieces)

    # Each step takes what it can of the held text and says which comes next. It returns None where it needs more.

    def _begin(self) -> list[Piece] | None:
        if not self._held and not self._ended:
            return None
        if self._form.tags is None:
            self._step = self._text
        elif self._thinking():
            self._step = self._thoughts
            self._trim = True
        else:
            opening, text = self._form.tags[0], self._held.lstrip()
            if text.startswith(opening):
                self._held, self._trim, self._step = text[len(opening) :], True, self._thoughts
            elif self._ended or not opening.startswith(text):
                self._step = self._text
            else:
                return None
        return []

    def _thoughts(self) -> list[Piece] | None:
        if self._trim and not self._trimmed():
            return None
        assert self._form.tags is not None
        closing = self._form.tags[1]
        at = self._held.find(closing)
        if at >= 0:
            thought = self._held[:at].rstrip()
            self._held, self._trim, self._step = self._held[at + len(closing) :], True, self._text
            return [ReasoningPiece(thought)] if thought else []
        thought = self._free((closing,))
        return [ReasoningPiece(thought)] if thought else None

    def _text(self) -> list[Piece] | None:
        """What is said, up to the mark of a call or to a line that begins like one."""
        if self._trim and not self._trimmed():
            return None
        if not self._tools:
            return self._said(len(self._held))
        found = [at for mark in self._marks if (at := self._held.find(mark)) >= 0]
        if not self._form.calls.triggered and (brace := self._brace()) is not None:
            found.append(brace)
        if found:
            at = min(found)
            mark = next((mark for mark in self._marks if self._held.startswith(mark, at)), "")
            said = self._held[:at].rstrip()
            self._before = self._held[len(said) : at] + mark
            self._held = said + self._held[at + len(mark) :]
            self._step = self._enter
            return self._said(len(said)) or []
        return self._said(len(self._free(self._marks, take=False)))

    def _brace(self) -> int | None:
        """Where a line begins with a brace."""
        at = -1
        while (at := self._held.find("{", at + 1)) >= 0:
            line = self._held[self._held.rfind("\n", 0, at) + 1 : at]
            if not line.strip() and (self._blank or "\n" in self._held[:at]):
                return at
        return None

    def _enter(self) -> list[Piece] | None:
        """Into the list of calls where there is one."""
        if self._form.calls is Calls.MISTRAL and not self._before.endswith("["):
            inner = self._held.lstrip()
            if not inner and not self._ended:
                return None
            if inner.startswith("["):
                self._before += self._held[: len(self._held) - len(inner) + 1]
                self._held = inner[1:]
        self._reader = CallReader(self._tools, sure=self._sure)
        self._step = self._call
        return []

    def _call(self) -> list[Piece] | None:
        assert self._reader is not None
        reader, told = self._reader, self._reader.telling
        if not self._held and not self._ended:
            return None
        self._held = reader.feed(self._held)
        if reader.state is State.BROKEN or (self._ended and not reader.telling):
            self._step = self._text
            if told:  # it was told as a call; what is left of it is nothing
                return []
            self._held = self._before + reader.raw + self._held
            return self._said(len(self._before + reader.raw))
        pieces: list[Piece] = []
        new = reader.taken()
        if reader.telling and not told:
            pieces.append(ToolCallPiece(self._calls, self._identifier(), reader.name or "", new))
        elif new:
            pieces.append(ToolCallPiece(self._calls, "", "", new))
        if reader.state is State.DONE:
            self._calls += 1
            self._step = self._leave
            return pieces
        return pieces or None

    def _leave(self) -> list[Piece] | None:
        """Out of a call: over what closes it, into the next one or on to the text."""
        rest = self._held.lstrip()
        closing = {Calls.HERMES: "</tool_call>", Calls.MISTRAL: "]"}.get(self._form.calls, ";")
        if closing.startswith(rest) and rest != closing:
            if not self._ended:
                return None
            rest = ""
        if self._form.calls is Calls.MISTRAL and rest.startswith(","):
            self._before, self._held, self._step = ",", rest[1:], self._enter
            return []
        self._held = rest.removeprefix(closing)
        self._trim, self._blank, self._step = True, True, self._text
        return []

    # --- what they share ------------------------------------------------------------------------------------------

    def _trimmed(self) -> bool:
        """Leave out space in front; whether anything else is there."""
        self._held = self._held.lstrip()
        self._trim = not self._held and not self._ended
        return bool(self._held)

    def _free(self, marks: Collection[str], *, take: bool = True) -> str:
        """What cannot be the beginning of a mark, or of the space in front of one."""
        keep = 0
        if not self._ended:
            keep = max((_overlap(self._held, mark) for mark in marks), default=0)
            keep = len(self._held) - len(self._held[: len(self._held) - keep].rstrip())
        text = self._held[: len(self._held) - keep]
        if take:
            self._held = self._held[len(text) :]
        return text

    def _said(self, letters: int) -> list[Piece] | None:
        text, self._held = self._held[:letters], self._held[letters:]
        if not text:
            return None
        line = text.rpartition("\n")
        self._blank = not line[2].strip() and (bool(line[1]) or self._blank)
        return [TextPiece(text)]

    def _identifier(self) -> str:
        letters = string.ascii_letters + string.digits
        mistral = self._form.calls is Calls.MISTRAL
        drawn = "".join(secrets.choice(letters) for _ in range(9 if mistral else 24))
        return drawn if mistral else f"call_{drawn}"


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of the text that begins the mark."""
    longest = min(len(mark) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(mark[:n])), 0)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one kind as one."""
    found: list[Piece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if isinstance(piece, TextPiece) and isinstance(last, TextPiece):
            found[-1] = TextPiece(last.text + piece.text)
        elif isinstance(piece, ReasoningPiece) and isinstance(last, ReasoningPiece):
            found[-1] = ReasoningPiece(last.text + piece.text)
        elif (
            isinstance(piece, ToolCallPiece) and isinstance(last, ToolCallPiece) and piece.index == last.index
        ):
            found[-1] = ToolCallPiece(last.index, last.id, last.name, last.arguments + piece.arguments)
        else:
            found.append(piece)
    return found
