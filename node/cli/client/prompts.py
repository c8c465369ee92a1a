"""Prompts: from the command line, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from hypercluster.node.cli.console import fail


def read_prompt(given: str | None, file: Path | None) -> str:
    """The text to continue: `given`, or standard input where that is "-", or what `file` holds.

    Of a file and of standard input the last line end does not count. Raises Failed with a sentence.
    """
    if (given is None) == (file is None):
        fail("give the prompt as an argument, as - to read it from standard input, or with --file.")
    if file is not None:
        return _text(file.read_bytes(), str(file))
    if given == "-":
        return _text(sys.stdin.buffer.read(), "standard input")
    assert given is not None
    return given


def _text(data: bytes, where: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        fail(f"{where} is not UTF-8 text: byte {error.start} cannot be read.")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        fail(f"{where} is empty: there is nothing to continue.")
    return text
