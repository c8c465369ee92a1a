"""How a command ends: the exit code and the one sentence for whatever it raised."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import typer
from rich.text import Text

from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import named
from hypercluster.market.redaction import redact
from hypercluster.node.cli.console import Failed, err, print_json, visible
from hypercluster.node.errors import NodeError

OK = 0
FAILED = 1
"""an error that we know"""
USAGE = 2
"""the command line is wrong; nothing was begun"""
IN_USE = 75
"""another process holds the home; later it may go (EX_TEMPFAIL of sysexits)"""
BUG = 70
INTERRUPTED = 130
"""Ctrl-C, SIGTERM, or the terminal was closed"""
NO_READER = 141
"""whoever read our output has left"""

_PREFIX = re.compile(r"Invalid value(?:: | for ([^:]*: ))")
_TWICE = re.compile(r"^--[\w-]+: (?=--)")
_HOMELESS = "Could not determine home directory."
"""what pathlib says of ~nobody"""
UsageError: type[BaseException] = typer.BadParameter.__mro__[1]
"""root of what typer's parser raises; it has no public name"""


@dataclass(frozen=True)
class Ending:
    """An exit code; why, if that is to be told; and with --json the document to print instead of the reason."""

    code: int
    sentence: str = ""
    document: dict[str, Any] | None = None


def ending_of(error: BaseException, program: str) -> Ending:
    """How a command ends that raised `error`; of a group, its most telling part counts."""
    leaves = list(_leaves(error))
    for kind in (SystemExit, typer.Exit, KeyboardInterrupt, typer.Abort, BrokenPipeError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return _quiet(leaf)
    for leaf in leaves:
        if isinstance(leaf, UsageError):
            return Ending(USAGE, _usage(leaf))
        if isinstance(leaf, Failed):
            return Ending(FAILED, str(leaf), leaf.document)
        if isinstance(leaf, MarketError | NodeError):
            from hypercluster.node.home.lock import HomeInUse

            return Ending(IN_USE if isinstance(leaf, HomeInUse) else FAILED, str(leaf))
    for leaf in leaves:
        if isinstance(leaf, RuntimeError) and str(leaf) == _HOMELESS:
            return Ending(FAILED, "a path begins with ~ and the home of nobody here: give a whole path.")
        if isinstance(leaf, MemoryError):
            return Ending(FAILED, "the memory of this machine is not enough.")
        if isinstance(leaf, OSError) and leaf.strerror:
            return Ending(FAILED, _system(leaf))
    logging.getLogger(program).debug("The trace of the bug:", exc_info=error)
    first = leaves[0]
    told = f"{type(first).__name__}: {first}" if str(first) else type(first).__name__
    return Ending(
        BUG,
        f"this is a bug in {program}, {_where(first)}: {told.rstrip('.')}; "
        "run it again with HC_LOG_LEVEL=debug for the trace.",
    )


def tell(ending: Ending, *, json_: bool) -> None:
    """Print why a command failed: a sentence on standard error and with `json_` a document on standard output."""
    sentence = named(redact(ending.sentence))
    if sentence and ending.code != INTERRUPTED:
        with suppress(OSError):  # nobody reads standard error
            err.print("[bold red]error:[/]", Text(visible(sentence)), soft_wrap=True)
            sys.stderr.flush()
    try:
        if json_ and sentence:
            print_json((ending.document or {}) | {"error": sentence})
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what cannot be written is not tried again at the end


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _quiet(error: BaseException) -> Ending:
    """The end of what needs no words, or has had them."""
    if isinstance(error, typer.Exit):
        return Ending(error.exit_code)
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        return Ending(NO_READER)  # rich ends with a SystemExit then
    if isinstance(error, SystemExit):
        return Ending(error.code if isinstance(error.code, int) else FAILED if error.code else OK)
    return Ending(INTERRUPTED, "interrupted.")


def _usage(error: BaseException) -> str:
    """What is wrong with the command line, and where to read on."""
    told = " ".join(str(getattr(error, "format_message", error.__str__)()).split())
    told = _PREFIX.sub(lambda match: (match[1] or "").replace("'", ""), told)
    told = _TWICE.sub("", told.replace("Value error, ", "", 1)).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{told}; see {context.command_path} --help." if context else f"{told}."


def _system(error: OSError) -> str:
    if error.filename is None:
        what = "the output cannot be written" if error.errno == errno.ENOSPC else "the system refuses"
    else:
        what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return f"{what}: {error.strerror}."


def _where(error: BaseException) -> str:
    """Module and line in which an error was raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__')} line {trace.tb_lineno}" if trace else "somewhere"
