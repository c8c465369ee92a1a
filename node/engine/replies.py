"""An answer taken apart while it comes: what is said, what is thought, and which tools are called."""

from __future__ import annotations

from dataclasses import dataclass


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
    """Takes the text of an answer as it comes and gives its pieces."""

    def push(self, text: str) -> list[Piece]:
        """The pieces that this text completes."""
        return [TextPiece(text)] if text else []

    def finish(self) -> list[Piece]:
        """What was held back until the end."""
        return []
