"""`--profile FILE|URL`, which every command of a program takes that joins a network or looks at one."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

VARIABLE = "HC_PROFILE"


def profile_option() -> Any:
    """The option. It counts as if HC_PROFILE said it, in this process and in what it starts."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def only(
        profile: Annotated[
            str | None,
            typer.Option(
                "--profile",
                metavar="FILE|URL",
                help=f"Profile of the network to join or to look at ({VARIABLE}).",
                callback=_set,
                show_default=False,
            ),
        ] = None,
    ) -> None: ...

    option = next(each for each in typer.main.get_command(app).params if each.name == "profile")
    option.expose_value = False
    option.is_eager = True  # before anything reads the settings
    return option


def _set(value: str | None) -> str | None:
    if value is not None:
        os.environ[VARIABLE] = value
    return value
