"""Options that the command line does not name, from the environment and the file of settings, in this order.

Every option of a command that runs for long (RUNS) has a variable, HC_ and its name, and a key in its program's table.
What is found is read and refused just as on the command line. Several values stand with commas or spaces between in a
variable, and as a list in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hypercluster.node.home.config import VARIABLE, BadConfig, check_env, no_text, read_config, unknown
from hypercluster.node.home.settings import ENV_FILE, Settings

RUNS = ("run", "up")
NOT_THESE = ("help", "version", "config")


@dataclass(frozen=True, slots=True)
class Given:
    """A value that was found elsewhere, and where."""

    value: Any
    where: str


def config_option() -> Any:
    """`--config FILE`, for the commands in RUNS."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def only(
        config: Annotated[
            str | None,
            typer.Option(
                "--config",
                metavar="FILE",
                envvar=VARIABLE,
                help="Settings and options in TOML; flags and the environment come before it.",
            ),
        ] = None,
    ) -> None: ...

    option = next(each for each in typer.main.get_command(app).params if each.name == "config")
    option.expose_value = False
    return option


def options_of(parameters: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The options that may stand elsewhere, by their long name without dashes in front."""
    for parameter in parameters:
        name = long_name(parameter)
        if name and name not in NOT_THESE:
            yield name, parameter


def long_name(parameter: Any) -> str:
    """Of --flash-attention it is flash-attention; empty for what has none."""
    longs = [each for each in parameter.opts if each.startswith("--")]
    return longs[0][2:] if longs else ""


def variable_of(name: str) -> str:
    """The variable of an option."""
    return "HC_" + name.replace("-", "_").upper()


def is_setting(name: str) -> bool:
    """Whether every program is told this by a setting, so that the option itself is found nowhere else."""
    return name.replace("-", "_") in Settings.model_fields


def found_elsewhere(context: typer.Context, parameters: Sequence[Any]) -> dict[str, Given]:
    """What environment and file say, by the parameter's name. Raises BadParameter, BadConfig."""
    options = dict(options_of(parameters))
    found = dict(_in_file(context, options))
    environment = _environment()
    for name, parameter in options.items():
        variable = variable_of(name)
        text = environment.get(variable)
        if text is None or is_setting(name):
            continue
        if not text.replace(",", " ").strip():
            raise typer.BadParameter(f"{variable} is empty: give it a value or unset it", context)
        found[parameter.name] = Given(
            text.replace(",", " ").split() if parameter.multiple else text, variable
        )
    return found


def _environment() -> dict[str, str]:
    """The variables of this process, before those of a file .env, as for settings. Raises BadConfig."""
    from dotenv import dotenv_values

    try:
        check_env(Path(ENV_FILE))
        in_file = {name: text or "" for name, text in dotenv_values(ENV_FILE).items()}
    except UnicodeDecodeError as error:
        raise no_text(error) from None
    return in_file | dict(os.environ)


def _in_file(context: typer.Context, options: dict[str, Any]) -> Iterator[tuple[str, Given]]:
    config = read_config(Settings.model_fields)
    if config is None:
        return
    program = str(context.find_root().info_name).rpartition("/")[2]
    table = str(context.info_name) if program == "hc" else program.removeprefix("hc-")
    known = {name.replace("-", "_"): name for name in options if not is_setting(name)}
    for key, value in config.tables.get(table, {}).items():
        name = known.get(key.replace("-", "_"))
        if name is None:
            top = "; it stands at the top, outside of any table" if is_setting(key) else ""
            raise BadConfig(
                f"{key!r} is no option in [{table}] of {config.path}{top}."
                if top
                else unknown(key, options, f"an option in [{table}] of {config.path}")
            )
        where = f"{key} in [{table}] of {config.path}"
        yield options[name].name, Given(_texts(value, options[name], where), where)


def _texts(value: Any, option: Any, where: str) -> Any:
    """A value of TOML as it would be written on the command line."""
    several = value if isinstance(value, list) else [value]
    if not several or any(isinstance(each, str) and not each.strip() for each in several):
        raise BadConfig(f"{where} is empty: give it a value or leave it out.")
    if any(isinstance(each, dict | list) for each in several) or (len(several) > 1 and not option.multiple):
        raise BadConfig(f"{where} is one value.")
    texts = [str(each).lower() if isinstance(each, bool) else str(each) for each in several]
    return texts if option.multiple else texts[0]
