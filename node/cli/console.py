"""What the command lines share: errors in a sentence, JSON for programs, passwords without argv."""

import getpass
import json
import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError
from hypercluster.node.home.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Bootstrap = Annotated[
    list[str] | None, typer.Option(help="Multiaddr with /p2p/ of a node to join through (HC_BOOTSTRAP).")
]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def application(help_text: str) -> typer.Typer:
    """A Typer app with the conventions of all our commands."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line; an error that we know ends in one sentence and exit code 1, Ctrl-C in 130."""
    try:
        logging.basicConfig(
            level=Settings().log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
    except ValueError as error:
        wrong = " ".join(str(error).split())
        fail(f"a setting in the environment or in the file .env is wrong: {wrong}.")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _interrupt)
    try:
        app(prog_name=name)
    except (MarketError, NodeError) as error:
        fail(str(error))
    except BaseExceptionGroup as group:
        # trio wraps what happens in a nursery.
        known = group.subgroup((MarketError, NodeError, KeyboardInterrupt))
        if known is None:
            raise
        first = _leaf(known)
        if isinstance(first, KeyboardInterrupt):
            raise SystemExit(130) from None
        fail(str(first))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    raise SystemExit(0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM and a closed terminal end a command as Ctrl-C does, so that it takes along what it started.

    Also in the background, where shells have Ctrl-C ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def fail(sentence: str) -> NoReturn:
    """Print one sentence on standard error and end with exit code 1."""
    err.print(f"[bold red]error:[/] {escape(sentence)}", soft_wrap=True)
    raise SystemExit(1)


def print_json(data: Any) -> None:
    """One JSON document on standard output, nothing else."""
    typer.echo(json.dumps(data, indent=2))


def password(settings: Settings, *, new: bool = False) -> str:
    """The password of the keys: the first line of HC_PASSWORD_FILE, else asked for on the terminal.

    With `new` it is asked for twice. Never taken from argv, where every process of the machine can read it.
    """
    if settings.password_file:
        try:
            return settings.password_file.read_text().splitlines()[0]
        except (OSError, IndexError):
            fail(f"the password file {settings.password_file} cannot be read or is empty.")
    if not sys.stdin.isatty():
        fail("no terminal to ask for the password on; set HC_PASSWORD_FILE to a file that holds it.")
    first = getpass.getpass("Password for the keys: ")
    if new and first != getpass.getpass("The same again: "):
        fail("the two passwords differ.")
    if new and not first:
        fail("an empty password protects nothing.")
    return first
