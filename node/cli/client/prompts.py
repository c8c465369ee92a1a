"""Prompts: from the command line, a file, or standard input."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import IO

from hypercluster.node.cli.console import fail

MOST_BYTES = 16 * 2**20
"""of a prompt, many times what any model holds: a pipe or a device may never end"""


def read_prompt(given: str | None, file: Path | None) -> str:
    """The text to continue: `given`, or standard input where that is "-", or what `file` holds.

    Of a file and of standard input the last line end does not count, nor a byte order mark before the first letter.
    Raises Failed with a sentence.
    """
    if (given is None) == (file is None):
        fail("give the prompt as an argument, as - to read it from standard input, or with --file.")
    if file is not None:
        with file.open("rb") as stream:
            return _text(stream, str(file))
    if given == "-":
        return _text(sys.stdin.buffer, "standard input")
    assert given is not None
    return given


def _text(stream: IO[bytes], where: str) -> str:
    data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        fail(f"{where} holds more than {MOST_BYTES // 2**20} MiB: no model takes a prompt as long.")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        fail(f"{where} is not UTF-8 text: byte {error.start} cannot be read.")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        fail(f"{where} is empty: there is nothing to continue.")
    return text
