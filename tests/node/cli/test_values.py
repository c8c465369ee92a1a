"""Every option of every command: what is empty, no number, or beyond all bounds is refused by name, before anything.

The tree of commands is walked, so that an option that comes tomorrow is tried as well. Only the command line is read;
no command runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import typer

from hypercluster.node.cli.ending import UsageError, ending_of
from hypercluster.node.cli.options import Reader

PROGRAMS = ["provider", "client", "verifier", "testnet", "model", "market", "gateway", "hc"]
NUMBERS = [
    "nan",
    "-nan",
    "inf",
    "-inf",
    "1e400",
    "-1e400",
    "9" * 400,
    "-1e-400x",
    "0x10",
    "½",
    "١",
    "1,5",
    "1 2",
    "x",
]


def commands() -> Iterator[tuple[str, Any]]:
    for program in PROGRAMS:
        app = import_module(f"hypercluster.node.cli.{program}.app").app
        for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
            for inner, one in getattr(command, "commands", {"": command}).items():
                yield f"hc-{program} {name} {inner}".strip(), one


def parameters() -> Iterator[Any]:
    for name, command in commands():
        for parameter in command.params:
            takes_value = parameter.param_type_name == "argument" or not parameter.is_flag
            if takes_value and parameter.expose_value:
                yield pytest.param(command, parameter, id=f"{name} {parameter.opts[0]}")


def refused(command: Any, parameter: Any, value: str) -> str:
    """The sentence that refuses a value; every other required parameter is left out, as they are read after it."""
    words = ["--", value] if parameter.param_type_name == "argument" else [f"{parameter.opts[0]}={value}"]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    if parameter in arguments:
        words[1:1] = ["given"] * arguments.index(parameter)
    with pytest.raises(UsageError) as caught:
        command.make_context("hc", words)
    ending = ending_of(caught.value, "hc")
    assert ending.code == 2
    return ending.sentence


@pytest.mark.parametrize(("command", "parameter"), parameters())
@pytest.mark.parametrize("value", ["", " ", "\t"], ids=["empty", "space", "tab"])
def test_g1_nothing_empty_means_anything(command: Any, parameter: Any, value: str) -> None:
    """G1: an empty value is refused, in a sentence that names the option."""
    if value and parameter.metavar == "LITERAL":
        return  # a text of spaces is one
    told = refused(command, parameter, value)
    assert f"{' / '.join(parameter.opts)} is empty" in told


def numeric(parameter: Any) -> bool:
    kind = parameter.type_descriptor.annotation
    return any(number in str(kind) for number in ("int", "float")) and "Literal" not in str(kind)


READY = "hc-"
NUMERIC = [each for each in parameters() if numeric(each.values[1]) and each.id.startswith(READY)]


@pytest.mark.parametrize(("command", "parameter"), NUMERIC)
def test_numbers_are_plain_finite_and_bounded(command: Any, parameter: Any) -> None:
    for value in NUMBERS:
        told = refused(command, parameter, value)
        assert parameter.opts[0] in told, (value, told)
        assert len(told) < 300


@pytest.mark.parametrize(("command", "parameter"), NUMERIC)
def test_every_number_is_read_by_one_of_our_kinds(command: Any, parameter: Any) -> None:
    assert isinstance(parameter.type_descriptor.parameter_info.parser, Reader)


@pytest.mark.parametrize(("command", "parameter"), parameters())
def test_what_is_not_utf8_is_refused(command: Any, parameter: Any) -> None:
    assert "UTF-8" in refused(command, parameter, "a\udcffb")
