"""A file of settings in TOML, named by HC_CONFIG: what the environment says comes before it, and flags before both.

What every program may be told stands at the top, under the names of Settings; the options of a program that runs for
long stand in a table of its own::

    rpc_url = "https://rpc.example"
    [provider]
    layers = "0:8"
    listen = ["/ip4/0.0.0.0/tcp/4001"]
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypercluster.node.errors import NodeError

VARIABLE = "HC_CONFIG"
TABLES = ("provider", "verifier", "gateway", "testnet", "up")
"""of hc-provider run, hc-verifier run, hc-gateway run, hc-testnet up and hc up"""


class BadConfig(NodeError):
    """A file of settings cannot be read, or says what nobody understands."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a file says: settings of every program, and options by table."""

    path: Path
    settings: dict[str, Any]
    tables: dict[str, dict[str, Any]]


def read_config(known: Iterable[str]) -> Config | None:
    """The file that HC_CONFIG names, or None; `known` are the settings of every program. Raises BadConfig."""
    named = os.environ.get(VARIABLE)
    if named is None:
        return None
    if not named.strip():
        raise BadConfig(f"{VARIABLE} is empty: give it a value or unset it.")
    try:
        path = Path(named).expanduser()
    except RuntimeError:
        raise BadConfig(
            f"{VARIABLE} {named} begins with the home of nobody here: give a whole path."
        ) from None
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadConfig(
            f"The file of settings {path} cannot be read: {(error.strerror or '').lower()}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"The file of settings {path} is no TOML: {error}.") from None
    names = list(known)
    for name, value in told.items():
        if (name in TABLES) != isinstance(value, dict) or name not in [*names, *TABLES]:
            kind = "a table" if isinstance(value, dict) else "a setting"
            raise BadConfig(unknown(name, TABLES if isinstance(value, dict) else names, f"{kind} of {path}"))
        if value in ("", []):
            raise BadConfig(f"{name} in {path} is empty: give it a value or leave it out.")
    return Config(
        path,
        {name: value for name, value in told.items() if name not in TABLES},
        {name: value for name, value in told.items() if name in TABLES},
    )


def check_env(path: Path) -> None:
    """Refuse a file of variables that nobody may ever write to the end. Raises BadConfig.

    A folder of that name is a virtual environment, and a device there is /dev/null: neither is read.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # there is none, or who reads it says why it cannot be read
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        kind = "a FIFO" if stat.S_ISFIFO(mode) else "a socket"
        raise BadConfig(
            f"The file {path} in this folder is {kind}, and reading it might never end: write the settings "
            "into a file, or go to another folder."
        )


def no_text(error: UnicodeDecodeError) -> BadConfig:
    """What to raise where the file .env of this folder cannot be decoded."""
    return BadConfig(
        f"The file .env in this folder is no text in UTF-8 (byte {error.start}): write it anew, or go to "
        "another folder."
    )


def unknown(name: str, known: Iterable[str], where: str) -> str:
    """A sentence about a name that nobody knows, with the nearest one that somebody does."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "leave it out."
    return f"{name!r} is not known as {where}: {hint}"
