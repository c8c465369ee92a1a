"""What every command prints with: results as text or JSON, texts as they are, errors as one sentence.

Results go to standard output and everything else to standard error. A pipe or file gets lines of any length, a
terminal lines that fit it; neither gets control characters of others.
"""

import getpass
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NoReturn, TextIO, TypeVar

import typer
from rich.console import Console, ConsoleDimensions, ConsoleRenderable
from rich.text import Text

from hypercluster.market.money.units import named
from hypercluster.node.home.keys import first_line
from hypercluster.node.home.settings import Settings

D = TypeVar("D")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Shown = str | ConsoleRenderable
"""A sentence, taken literally, or a table"""

WIDE = 100_000
NARROWEST = 20
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


class Failed(Exception):
    """A command cannot do what was asked; the message is the sentence for its user.

    With `document`, `--json` prints that, "error" added, instead of an object of the error alone.
    """

    def __init__(self, sentence: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.document = document


class Output(Console):
    """A console without a limit of width where nobody looks on, and without markup by accident."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, emoji=False)

    @property
    def to_terminal(self) -> bool:
        """Whether this goes to a terminal."""
        return self.file.isatty()

    @property
    def size(self) -> ConsoleDimensions:
        """What fits on a line: on a terminal at least NARROWEST characters, elsewhere anything."""
        width, height = super().size
        return ConsoleDimensions(max(width, NARROWEST) if self.to_terminal else WIDE, height or 25)

    @size.setter
    def size(self, new: tuple[int, int]) -> None:
        """Needed by its parent."""
        self._width, self._height = new

    def print(self, *objects: Any, **how: Any) -> None:
        """As its parent's, but of the token that pays, and lines that are too long for a terminal are not cut."""
        spoken = (named(each) if isinstance(each, str) else each for each in objects)
        super().print(*spoken, **{"crop": False, **how})


out = Output()
err = Output(stderr=True)


def show(document: D, view: Callable[[D], Shown | Iterable[Shown]], json_: bool) -> None:
    """Print what a command found: the document itself as JSON, or what `view` makes of it for people.

    Args:
        document: plain data, amounts as integers in wei.
        view: gives a sentence or a table, or several; mostly a generator function.
        json_: which of the two.
    """
    if json_:
        print_json(document)
        return
    shown = view(document)
    for each in [shown] if isinstance(shown, str | ConsoleRenderable) else shown:
        say(each)


def say(shown: Shown, console: Output = out) -> None:
    """Print a sentence, taken literally, or a table."""
    console.print(
        Text(visible(named(shown))) if isinstance(shown, str) else shown, soft_wrap=isinstance(shown, str)
    )


def print_json(data: Any) -> None:
    """One JSON document on standard output, nothing else; a number that JSON lacks becomes null."""
    sys.stdout.write(json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(each) for each in data] if isinstance(data, list | tuple) else data


def write_text(stream: TextIO, text: str) -> None:
    """Write what a model said, at once: to a pipe or file as it is, to a terminal with `visible`.

    Characters that the stream's encoding lacks are written as \\u escapes.
    """
    written = visible(text) if stream.isatty() else text
    encoding = stream.encoding or "utf-8"
    stream.write(written.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def visible(text: str) -> str:
    """The text with what could mislead or drive a terminal written as escapes: all controls but tab and newline."""
    return _HARMFUL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def fail(sentence: str, document: dict[str, Any] | None = None) -> NoReturn:
    """End the command with a sentence and exit code 1. Raises Failed."""
    raise Failed(sentence, document)


def password(settings: Settings, *, new: bool = False) -> str:
    """The password of the keys: the first line of HC_PASSWORD_FILE, else asked for on the terminal.

    With `new` it is asked for twice. Never taken from argv, where every process of the machine can read it.
    Raises Failed, KeystoreError.
    """
    if settings.password_file:
        return first_line(settings.password_file)
    if not sys.stdin.isatty():
        fail("no terminal to ask for the password on; set HC_PASSWORD_FILE to a file that holds it.")
    first = getpass.getpass("Password for the keys: ")
    if new and first != getpass.getpass("The same again: "):
        fail("the two passwords differ.")
    if new and not first:
        fail("an empty password protects nothing.")
    return first
