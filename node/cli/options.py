"""Kinds of values that options and arguments take: each is read, bounded and refused by name at parse time.

Every kind is a function of the help text and, where they differ from the parameter's name, the option's names; what it
returns belongs into `Annotated`, and a positional argument says so::

    max_cost: Annotated[int | None, hct("HCT to spend at most.")] = None
    amount: Annotated[int, hct("HCT to send.", argument=True)]

Numbers always have both bounds. Words from a list are a Literal or StrEnum, which typer reads itself. What is empty
is refused for every option before any of these sees it (program.py).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.units import format_hct, format_price, in_token, parse_hct, parse_price
from hypercluster.node.errors import NodeError

Use = Literal["listen", "announce", "join"]
DAY = 86_400.0
MOST = 10**9
"""bound of whole numbers that have no smaller one"""
_WHOLE = re.compile(r"[+-]?\d{1,40}(_\d+)*", re.ASCII)
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
_RANGE = re.compile(r"\d{1,4}:\d{1,4}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)
_OPTION = re.compile(r"^--[a-z-]+ (?=')")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


@dataclass(frozen=True)
class Reader:
    """Reads the text of an option; a default is passed on, as it is unless `usual` makes something of it."""

    read: Callable[[str], Any]
    usual: Callable[[Any], Any] | None = None

    def __call__(self, value: Any) -> Any:
        """The value meant. Raises typer.BadParameter, to which typer adds the option's name."""
        if not isinstance(value, str):
            return self.usual(value) if self.usual else value
        try:
            return self.read(value)
        except (ValueError, InvalidAmount, NodeError) as error:
            raise typer.BadParameter(str(error)) from None


def option(
    read: Callable[[str], Any],
    metavar: str,
    help_: str,
    names: tuple[str, ...],
    *,
    argument: bool = False,
    default: str | None = None,
    usual: Callable[[Any], Any] | None = None,
) -> Any:
    """An option or argument whose text `read` turns into its value.

    Args:
        read: raises ValueError with a sentence for what it refuses.
        metavar: names the kind of value in the help.
        help_: a sentence.
        names: such as "--tokens", "-n"; none for the parameter's own name.
        argument: it is positional.
        default: how the help writes the default; None for `str` of it.
        usual: what becomes of a default.
    """
    reader = Reader(read, usual)
    if argument:
        return typer.Argument(parser=reader, metavar=metavar, help=help_, show_default=default or True)
    return typer.Option(*names, parser=reader, metavar=metavar, help=help_, show_default=default or True)


def hct(
    help_: str,
    *names: str,
    least: int = 0,
    default: str | None = None,
    word: str | None = None,
    argument: bool = False,
) -> Any:
    """An amount of HCT, in wei; at least `least` wei. Instead of one, `word` may stand, and comes as itself.

    A default is written with 18 decimals, whatever token pays.
    """

    def read(text: str) -> int | str:
        if word is not None and text == word:
            return text
        wei = parse_hct(text)
        if wei < least:
            raise ValueError(f"{text!r} is too little: it is at least {format_hct(least)} HCT.")
        return wei

    metavar = f"HCT|{word}" if word else "HCT"
    return option(read, metavar, help_, names, argument=argument, default=default, usual=_in_token)


def _in_token(usual: Any) -> Any:
    return in_token(usual) if isinstance(usual, int) else usual


def price(help_: str, *names: str, least: int = 0, default: str | None = None) -> Any:
    """A price in HCT per million tokens, as wei per token; at least `least` wei."""

    def read(text: str) -> int:
        wei = parse_price(text)
        if wei < least:
            raise ValueError(f"{text!r} is too little: it is at least {format_price(least)}.")
        return wei

    return option(read, "HCT", help_, names, default=default, usual=_in_token)


def whole(help_: str, *names: str, least: int = 0, most: int = MOST, argument: bool = False) -> Any:
    """A whole number, least <= it <= most."""

    def read(text: str) -> int:
        plain = text.strip()
        if not _WHOLE.fullmatch(plain) or not least <= int(plain) <= most:
            raise ValueError(f"{_short(text)} is no whole number from {least} to {most}.")
        return int(plain)

    return option(read, "N", help_, names, argument=argument)


def real(
    help_: str,
    *names: str,
    least: float,
    most: float,
    metavar: str = "NUMBER",
    default: str | None = None,
) -> Any:
    """A number, least <= it <= most; never nan."""

    def read(text: str) -> float:
        plain = text.strip()
        value = float(plain) if _REAL.fullmatch(plain) else math.nan
        if not least <= value <= most:
            raise ValueError(f"{_short(text)} is no number from {least:g} to {most:g}.")
        return value

    return option(read, metavar, help_, names, default=default)


@dataclass(frozen=True)
class Proportions:
    """How something is shared out; a class, as of a tuple typer wants so many words."""

    shares: tuple[float, ...]


def proportions(help_: str, *names: str) -> Any:
    """Numbers from 0 on with commas between, 16 at most, one of them above 0; comes as Proportions."""

    def read(text: str) -> Proportions:
        pieces = text.replace(" ", "").split(",")
        values = tuple(float(piece) for piece in pieces if _REAL.fullmatch(piece))
        if len(values) < len(pieces) or len(pieces) > 16 or min(values) < 0 or not 0 < max(values) <= 1e6:
            raise ValueError(f"{_short(text)} are no shares: write numbers with commas between, as in 3,1.")
        return Proportions(values)

    return option(read, "N,N,...", help_, names)


def share(help_: str, *names: str) -> Any:
    """A number from 0 to 1."""
    return real(help_, *names, least=0, most=1, metavar="0..1")


def seconds(help_: str, *names: str, least: float = 0.0, most: float = DAY) -> Any:
    """A time in seconds."""
    return real(help_, *names, least=least, most=most, metavar="SECONDS")


def gib(help_: str, *names: str) -> Any:
    """An amount of memory or disk in GiB, above 0 and at most 2**20."""
    return real(help_, *names, least=1e-6, most=2**20, metavar="GIB")


def port(help_: str, *names: str) -> Any:
    """A TCP port, 1 to 65535."""
    return whole(help_, *names, least=1, most=65_535)


def multiaddr(help_: str, *names: str, use: Use, word: str | None = None) -> Any:
    """An address of the network for one use, as text; instead of one, `word` may stand."""

    def read(text: str) -> str:
        from hypercluster.node.network.addresses import announced, joined_through, listened

        check: dict[Use, Callable[[str], object]] = {
            "listen": listened,
            "announce": announced,
            "join": joined_through,
        }
        if text != word:
            try:
                check[use](text)
            except NodeError as error:  # typer says which option it is
                raise ValueError(_OPTION.sub("", str(error))) from None
        return text

    return option(read, f"MULTIADDR|{word}" if word else "MULTIADDR", help_, names)


def host_port(help_: str, *names: str) -> Any:
    """Where HTTP is served: HOST:PORT, an IPv6 address in brackets; comes as text."""

    def read(text: str) -> str:
        from hypercluster.node.web.serving import host_and_port

        host_and_port(text.strip())
        return text.strip()

    return option(read, "HOST:PORT", help_, names)


def host_name(help_: str, *names: str) -> Any:
    """A name that a server goes by, without scheme and port."""

    def read(text: str) -> str:
        if not _HOST.fullmatch(text.strip()):
            raise ValueError(f"{_short(text)} is no host's name: write it without scheme and port.")
        return text.strip().lower()

    return option(read, "NAME", help_, names)


def layer_range(help_: str, *names: str, word: str | None = None, several: bool = False) -> Any:
    """Layers as start:stop, half-open, or `several` such ranges with commas between; comes as text.

    Whether a model has them is seen when it is known. `word` may stand instead.
    """

    def read(text: str) -> str:
        pieces = text.replace(" ", "").split(",") if several else [text.strip()]
        if text != word and not all(map(_is_range, pieces)):
            like = "0:3,3:6,6:8" if several else "0:3"
            raise ValueError(f"{_short(text)} names no layers: write them half-open, as in {like}.")
        return text

    kind = "START:STOP,..." if several else "START:STOP"
    return option(read, f"{kind}|{word}" if word else kind, help_, names)


def shard_of_model(help_: str, *names: str) -> Any:
    """A model, by name or file, and its layers or "auto", with = between; comes as text."""

    def read(text: str) -> str:
        model, _, layers = text.rpartition("=")
        if not model.strip() or not (layers == "auto" or _is_range(layers)):
            raise ValueError(f"{_short(text)} names no layers of a model: write it as in smollm2=0:15.")
        return text

    return option(read, "MODEL=START:STOP|MODEL=auto", help_, names)


def account(help_: str, *names: str, argument: bool = False) -> Any:
    """An account of the chain: 0x and 40 hexadecimal digits."""

    def read(text: str) -> str:
        if not _ADDRESS.fullmatch(text):
            raise ValueError(f"{_short(text)} is no account: it is 0x and 40 hexadecimal digits.")
        return text

    return option(read, "0x...", help_, names, argument=argument)


def prose(help_: str, *names: str, argument: bool = False, default: str | None = None) -> Any:
    """Any text of at least one character that is not a space."""
    return option(str, "TEXT", help_, names, argument=argument, default=default)


def literal(help_: str, *names: str, argument: bool = False) -> Any:
    """Any text of at least one character, be it a space or a line end."""
    return option(str, "LITERAL", help_, names, argument=argument)


def check_writable(option: str, path: Path | None, *, folder: bool = False) -> None:
    """Refuse a place for results before anything is computed for it; folders on the way need not be there.

    Raises typer.BadParameter.
    """
    if path is None:
        return
    whole = path.absolute()
    if whole.exists() and whole.is_dir() != folder:
        raise typer.BadParameter(f"{option}: {path} is {'no' if folder else 'a'} folder")
    nearest = next(each for each in (whole, *whole.parents) if each.exists())
    if (nearest != whole and not nearest.is_dir()) or not os.access(nearest, os.W_OK):
        raise typer.BadParameter(
            f"{option}: {path} cannot be written because of {nearest}, name another place"
        )


def _is_range(text: str) -> bool:
    """Whether a text is START:STOP with something between them."""
    return bool(_RANGE.fullmatch(text)) and int(text.split(":")[0]) < int(text.split(":")[1])


def _short(given: str) -> str:
    return repr(given if len(given) <= 60 else given[:57] + "...")


Bootstrap = Annotated[
    list[str] | None,
    multiaddr("Node to join through; may be given several times (HC_BOOTSTRAP).", use="join"),
]
