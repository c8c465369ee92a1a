"""A program of ours: commands that refuse what is empty, --version, and how each of them ends (docs/commands.md)."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from hypercluster.market.money.units import pay_in
from hypercluster.node.cli.console import Failed
from hypercluster.node.cli.elsewhere import RUNS, config_option, found_elsewhere, options_of, variable_of
from hypercluster.node.cli.ending import OK, USAGE, ending_of, tell
from hypercluster.node.cli.networked import profile_option
from hypercluster.node.home.config import VARIABLE
from hypercluster.node.home.logs import log_to_stderr
from hypercluster.node.home.resources import told_unit
from hypercluster.node.home.settings import Settings

NARROWEST_HELP = 72


class Command(TyperCommand):
    """A command in which an empty value is refused wherever it stands.

    One that runs for long takes its options from the environment and a file as well (elsewhere.py).
    """

    def __init__(self, name: str | None, **how: Any) -> None:
        super().__init__(name, **how)
        self._runs = name in RUNS
        if self._runs:
            self.params.append(config_option())

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As typer's, with the variable of each option."""
        if self._runs:
            for name, parameter in options_of(self.params):
                parameter.envvar, parameter.show_envvar = variable_of(name), True
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the command line, and what else says something. Raises UsageError, BadConfig."""
        if not ctx.resilient_parsing:
            given, *_ = self.make_parser(ctx).parse_args(args=list(args))
            for parameter in self.params:
                literal = getattr(parameter, "metavar", None) == "LITERAL"
                for value in _values(given.get(parameter.name)):
                    _check(value if literal else value.strip(), ctx, " / ".join(parameter.opts))
            if self._runs and not {"-h", "--help"} & set(args):
                return self._parse_with(given.get("config"), ctx, args)
        return super().parse_args(ctx, args)

    def _parse_with(self, config: str | None, ctx: typer.Context, args: list[str]) -> list[str]:
        if config is not None:
            os.environ[VARIABLE] = config  # where settings are read, here and in what this command starts
        found = found_elsewhere(ctx, self.params)
        ctx.default_map = {**(ctx.default_map or {}), **{name: each.value for name, each in found.items()}}
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            name = getattr(error.param, "name", None) or ""
            source = ctx.get_parameter_source(name)
            if name in found and source is not None and source.name == "DEFAULT_MAP":
                error.message = f"{error.message.rstrip('.')} (it stands in {found[name].where})"
            raise

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command. Raises Failed where a setting is wrong."""
        start_logging()
        return super().invoke(ctx)


def _values(raw: Any) -> Iterator[str]:
    yield from (each for each in (raw if isinstance(raw, list | tuple) else [raw]) if isinstance(each, str))


def _check(value: str, context: typer.Context, name: str) -> None:
    if not value:
        raise typer.BadParameter(f"{name} is empty: give it a value or leave it out", context)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(
            f"{name}: what was given is not UTF-8, use another name or text", context
        ) from None


class NetworkCommand(Command):
    """One that joins a network or looks at one, whose profile may be named."""

    def __init__(self, name: str | None, **how: Any) -> None:
        super().__init__(name, **how)
        self.params.append(profile_option())


class Application(typer.Typer):
    """A program whose commands follow our conventions."""

    kind: type[Command] = Command

    def command(self, *args: Any, **settings: Any) -> Callable[..., Any]:
        """As typer's, with our kind of command."""
        return super().command(*args, **({"cls": self.kind} | settings))


def application(help_text: str, *, network: bool = False) -> Application:
    """A program of several commands, with --version and completion for shells.

    With `network` each of them takes --profile.
    """
    app = Application(rich_markup_mode="rich", pretty_exceptions_enable=False)

    if network:
        app.kind = NetworkCommand

    @app.callback(help=help_text, epilog=_settings(), invoke_without_command=True)
    def program(
        context: typer.Context,
        version: Annotated[
            bool,
            typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit."),
        ] = False,
    ) -> None:
        if context.invoked_subcommand is None:
            context.get_help()
            raise typer.Exit(USAGE)

    return app


def group(help_text: str) -> Application:
    """Commands under a common word of a program."""
    app = Application(rich_markup_mode="rich", pretty_exceptions_enable=False)

    @app.callback(help=help_text, invoke_without_command=True)
    def words(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            context.get_help()
            raise typer.Exit(USAGE)

    return app


def _settings() -> str:
    """What the environment may say, for the help."""
    each = (
        f"[bold]HC_{name.upper()}[/]: {field.description}" for name, field in Settings.model_fields.items()
    )
    return "\n\n".join(("Settings, from the environment or a file .env:", *each))


def _version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(context.find_root().info_name, version("hypercluster"))  # noqa: T201
        raise typer.Exit


def run(app: typer.Typer, name: str, obj: Any = None) -> NoReturn:
    """Run a program and end the process with one of the exit codes of ending.py.

    Commands find `obj` in their context.
    """
    arguments = sys.argv[1:]
    code = OK
    try:
        _run(app, name, arguments, obj)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - whatever it was, it ends in a sentence
        ending = ending_of(error, name)
        code = ending.code
        tell(ending, json_=_wants_json(arguments))
    signal.signal(signal.SIGINT, lambda *_: os._exit(code))  # nothing is left to be lost
    raise SystemExit(code)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json was given, also on a command line that is wrong elsewhere."""
    return "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _run(app: typer.Typer, name: str, arguments: Sequence[str], obj: Any) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    width = max(shutil.get_terminal_size().columns, NARROWEST_HELP)
    told = os.environ.get("TERMINAL_WIDTH", "")
    if not (told.isascii() and told.isdigit()):  # as which typer reads it
        os.environ["TERMINAL_WIDTH"] = str(width)  # narrower, its help cuts the names of options
    command = typer.main.get_command(app)
    if f"_{name}_complete".replace("-", "_").upper() in os.environ:
        command.main(prog_name=name)  # a shell asks what could follow; ends the process
    pay_in(told_unit)
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # the second is not on Windows
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _interrupt)
    with command.make_context(name, list(arguments), obj=obj) as context:
        command.invoke(context)


class _AsTheyStand(Settings):
    """The settings without what a profile says, which need not be read to know whether they are right."""

    @property
    def network_profile(self) -> None:
        """None."""
        return None


def start_logging() -> None:
    """Write the log to standard error, as much of it as HC_LOG_LEVEL says. Raises Failed for any wrong setting."""
    try:
        settings = _AsTheyStand()
    except ValueError as error:
        where = f"the environment, the file .env, or that of {VARIABLE}"
        raise Failed(f"{_wrong(error)} ({where}).") from None
    log_to_stderr(settings.log_level, settings.log_format)


def _wrong(error: ValueError) -> str:
    """Which setting is wrong and why, without its value, which may be secret."""
    if not hasattr(error, "errors"):
        return f"the settings cannot be read: {error}"
    first = error.errors()[0]
    reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"HC_{str(first['loc'][0]).upper()}: {reason}" if first["loc"] else reason


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM and a closed terminal end a command as Ctrl-C does, so that it takes along what it started.

    Also in the background, where shells have Ctrl-C ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)
