"""Reads one call of a tool, a JSON object with a name and arguments, letter by letter as it comes."""

from __future__ import annotations

import json
from collections.abc import Collection
from enum import Enum, auto

MOST_LETTERS = 1 << 20
"""of a call that is not told before it is complete"""
_KEYS = ("arguments", "parameters")


class State(Enum):
    """How far a call is."""

    READING = auto()
    BROKEN = auto()
    """it is none"""
    DONE = auto()


class _Place(Enum):
    """Where in the object the next letter is."""

    OPEN = auto()
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    VALUE = auto()
    IN_VALUE = auto()
    NEXT = auto()


class CallReader:
    """Reads a call of one of the tools `names`.

    Where calls are `sure` to be well formed, `taken` gives the arguments as they come, and else when all is there and
    they are an object.
    """

    def __init__(self, names: Collection[str], *, sure: bool) -> None:
        self._names, self._sure = names, sure
        self.state = State.READING
        self.name: str | None = None
        self._raw: list[str] = []
        self._letters = 0
        self._place = _Place.OPEN
        self._key = ""
        self._value: list[str] = []
        self._depth, self._quoted, self._escaped = 0, False, False
        self._arguments = "{}"
        self._told = 0
        self._telling = False

    @property
    def raw(self) -> str:
        """All that was read."""
        return "".join(self._raw)

    @property
    def telling(self) -> bool:
        """Whether it can no longer be anything but a call."""
        return self._telling

    def feed(self, text: str) -> str:
        """Read on, and return what comes after the call."""
        for at, letter in enumerate(text):
            self._read(letter)
            if self.state is not State.READING:
                self._raw.append(text[: at + 1])
                return text[at + 1 :]
        self._raw.append(text)
        self._letters += len(text)
        if not self._telling and self._letters > MOST_LETTERS:
            self.state = State.BROKEN
        return ""

    def taken(self) -> str:
        """The arguments that have come since it was last asked."""
        if not self._telling:
            return ""
        within = self._place is _Place.IN_VALUE and self._key in _KEYS
        held = self._value if within else self._arguments
        new, self._told = "".join(held[self._told :]), len(held)
        return new

    def _read(self, letter: str) -> None:
        place = self._place
        if place is _Place.IN_VALUE:
            self._read_value(letter)
        elif place is _Place.IN_KEY:
            self._value.append(letter)
            if self._closes(letter):
                self._key, self._place = self._unquoted() or "", _Place.COLON
        elif letter in " \t\r\n":
            pass
        elif place is _Place.OPEN and letter == "{":
            self._place = _Place.KEY
        elif place is _Place.KEY and letter == '"':
            self._place, self._value = _Place.IN_KEY, [letter]
        elif place is _Place.COLON and letter == ":":
            self._place = _Place.VALUE
        elif place is _Place.VALUE:
            self._begin_value(letter)
        elif place is _Place.NEXT and letter == ",":
            self._place = _Place.KEY
        elif letter == "}" and place in (_Place.NEXT, _Place.KEY):
            self._end()
        else:
            self.state = State.BROKEN

    def _begin_value(self, letter: str) -> None:
        self._value, self._depth = [letter], int(letter in "{[")
        self._quoted, self._escaped = letter == '"', False
        self._place = _Place.IN_VALUE
        wrong = (self._key == "name" and letter != '"') or (self._key in _KEYS and letter not in '{"')
        if wrong or letter in "}],:":
            self.state = State.BROKEN
        elif self._sure and self._key in _KEYS and self.name is not None and letter == "{":
            self._telling = True

    def _read_value(self, letter: str) -> None:
        if not self._depth and not self._quoted and letter in ",} \t\r\n":
            # a number or a word has no end of its own
            self._place = _Place.NEXT
            self._end_value()
            self._read(letter)
            return
        self._value.append(letter)
        if self._quoted:
            if self._closes(letter):
                self._quoted = False
        elif letter == '"':
            self._quoted = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
        if not self._depth and not self._quoted and letter in '"}]':
            self._place = _Place.NEXT
            self._end_value()

    def _closes(self, letter: str) -> bool:
        """Whether this letter ends the text in quotes that it is in."""
        if self._escaped:
            self._escaped = False
            return False
        self._escaped = letter == "\\"
        return letter == '"'

    def _end_value(self) -> None:
        if self._key == "name":
            self.name = self._unquoted()
            if self.name not in self._names:
                self.state = State.BROKEN
        elif self._key in _KEYS:
            inner = self._unquoted() if self._value[0] == '"' else "".join(self._value)
            if inner is None:
                self.state = State.BROKEN
            else:
                self._arguments = inner

    def _unquoted(self) -> str | None:
        try:
            text = json.loads("".join(self._value))
        except ValueError:
            return None
        return text if isinstance(text, str) else None

    def _end(self) -> None:
        if self.name is None:
            self.state = State.BROKEN
            return
        if not self._telling:
            try:
                if not isinstance(json.loads(self._arguments), dict):
                    self.state = State.BROKEN
                    return
            except (ValueError, RecursionError):
                self.state = State.BROKEN
                return
        self._telling = True
        self.state = State.DONE
